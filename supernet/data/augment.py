"""Random changes to training images: tensor code, a pure function of the generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.errors import InputError

AUGMENTATIONS = ("none", "shift", "affine", "crop_flip")


def augment(
    images: Tensor,
    kind: str,
    generator: torch.Generator,
    count: int | None = None,
    part: slice = slice(None),
) -> Tensor:
    """Augmented copies of float images ``(N, C, H, W)``; random numbers are drawn on the CPU.

    Args:
        images: Pixels in 0..1; of a larger batch, those that ``part`` selects.
        kind: ``"none"``; ``"shift"``: up to an eighth of the size in each direction (at least one
            pixel); ``"affine"``: small rotation, scale, shear and shift; ``"crop_flip"``: shift
            and mirror half of the images.
        generator: CPU generator.
        count: Images in the larger batch: random numbers are drawn for all of them, so that a
            batch cut into parts becomes what it would be as a whole.
        part: Which images of the larger batch are given.

    Raises:
        InputError: Unknown ``kind``.
    """
    count = len(images) if count is None else count
    if kind == "none":
        return images
    if kind == "shift":
        return _shift(images, generator, count, part)
    if kind == "affine":
        return _affine(images, generator, count, part)
    if kind == "crop_flip":
        flip = torch.rand(count, generator=generator)[part].to(images.device) < 0.5
        shifted = _shift(images, generator, count, part)
        return torch.where(flip[:, None, None, None], shifted.flip(3), shifted)
    raise InputError(f"unknown augmentation {kind!r}; choose one of {', '.join(AUGMENTATIONS)}")


def _shift(images: Tensor, generator: torch.Generator, count: int, part: slice) -> Tensor:
    height, width = images.shape[-2:]
    reach = max(1, min(height, width) // 8)
    offset = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    offset = offset[:, part].to(images.device)
    padded = F.pad(images, (reach, reach, reach, reach))
    rows = offset[0, :, None] + torch.arange(height, device=images.device)
    columns = offset[1, :, None] + torch.arange(width, device=images.device)
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    # Advanced indices around a slice move to the front: (N, H, W, C) back to (N, C, H, W).
    moved = padded[sample, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()


def _affine(images: Tensor, generator: torch.Generator, count: int, part: slice) -> Tensor:
    """Rotation up to 12 degrees, scale and shear up to 10 %, shift up to an eighth."""
    uniform = torch.rand(count, 6, generator=generator)[part] * 2 - 1
    angle = uniform[:, 0] * math.radians(12)
    scale = 1 + 0.1 * uniform[:, 1:3]
    shear = 0.1 * uniform[:, 3]
    matrix = torch.stack(
        [
            torch.stack([scale[:, 0] * angle.cos(), shear - angle.sin(), 0.25 * uniform[:, 4]], 1),
            torch.stack([angle.sin(), scale[:, 1] * angle.cos(), 0.25 * uniform[:, 5]], 1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)

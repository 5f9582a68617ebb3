"""CIFAR-10 from lossless WebP sheets, as a data source with a validation split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.data import DataSource
from supernet.data.source import make_image_source, split_stratified

SIDE, STEP = 32, 6
VALIDATION = 5_000


def cifar10(folder: Path, image_size: int = SIDE) -> DataSource:
    """45,000 images to train on, 5,000 to choose by, and the 10,000 test images.

    Args:
        folder: Has ``train_NN.webp`` and ``test_NN.webp``: sheets of 32 x 32 tiles, row by row,
            of pixels in steps of 6; ``train_labels.npz`` and ``test_labels.npz``.
        image_size: Images are averaged down to this side.

    Raises:
        ValueError: The folder has no sheets, or the images cannot be brought to that size.
    """
    if image_size > SIDE or SIDE % image_size:
        raise ValueError(f"image size {image_size} is impossible; it must divide {SIDE}")
    images, targets, classes = _read(folder, "train")
    parts = split_stratified(targets, {"train": 1 - VALIDATION / len(images), "val": 0.1}, seed=0)
    tested = _read(folder, "test")
    whole = torch.from_numpy(targets)
    splits = {name: (images[torch.from_numpy(i)], whole[i]) for name, i in parts.items()}
    splits["test"] = (tested[0], torch.from_numpy(tested[1]))
    small = {name: (_shrink(x, image_size), y) for name, (x, y) in splits.items()}
    return make_image_source(
        f"cifar10 at {image_size} px", small, classes, augmentation="crop_flip"
    )


def _read(folder: Path, split: str) -> tuple[Tensor, np.ndarray, tuple[str, ...]]:
    from PIL import Image

    sheets = sorted(Path(folder).glob(f"{split}_*.webp"))
    if not sheets:
        raise ValueError(f"{folder} has no {split}_NN.webp; it should hold the CIFAR-10 sheets")
    labels = np.load(Path(folder) / f"{split}_labels.npz")
    pieces = []
    for path in sheets:
        sheet = np.asarray(Image.open(path).convert("RGB"))
        rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
        tiles = sheet.reshape(rows, SIDE, columns, SIDE, 3).transpose(0, 2, 4, 1, 3)
        # The middle of the step, so that the means are those of the original images.
        pieces.append(tiles.reshape(-1, 3, SIDE, SIDE) * np.uint8(STEP) + np.uint8(STEP // 2 - 1))
    images = torch.from_numpy(np.ascontiguousarray(np.concatenate(pieces)))
    targets = labels["labels"].astype(np.int64)
    if len(images) != len(targets):
        raise ValueError(f"{folder} has {len(images)} {split} images and {len(targets)} labels")
    return images, targets, tuple(str(name) for name in labels["classes"])


def _shrink(images: Tensor, size: int) -> Tensor:
    if size == images.shape[-1]:
        return images
    blocks = [F.avg_pool2d(block.float(), SIDE // size) for block in images.split(4096)]
    return torch.cat([block.round().to(torch.uint8) for block in blocks])

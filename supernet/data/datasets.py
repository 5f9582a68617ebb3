"""Any map-style torch data set as a data source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from supernet.errors import InputError

from .memory import check_memory
from .reading import Count, count_nothing
from .source import SPLITS, DataSource, make_image_source


def from_datasets(
    train: Any,
    val: Any,
    test: Any,
    *,
    labels: Sequence[str] | None = None,
    name: str = "dataset",
    augmentation: str | None = None,
    allow_duplicates: bool = False,
    count: Count = count_nothing,
) -> DataSource:
    """Read three data sets of ``(image, class index)`` into memory.

    Args:
        train: Anything with ``len`` and indexing, as ``torch.utils.data.Dataset``. Images are
            tensors or arrays ``(C, H, W)``, uint8 in 0..255 or float in 0..1, all of one shape.
        val: The same for choosing architectures.
        test: The same for the final verification.
        labels: Names of the classes; by default their numbers.
        name: How the data is called in messages and in the run's record.
        augmentation: ``"none"``, ``"shift"``, ``"affine"``, ``"crop_flip"``; ``None`` picks one.
        allow_duplicates: Accept images that occur, byte for byte, in two splits.
        count: Told how many images of a split are read.

    Raises:
        InputError: Empty or overlapping splits, unequal shapes, values outside 0..1, or class
            numbers outside ``0 .. len(labels) - 1``.
    """
    splits = {}
    for split, dataset in zip(SPLITS, (train, val, test), strict=True):
        if len(dataset) == 0:
            raise InputError(f"the {split} split of {name} has no images; each split needs some")
        splits[split] = _read(dataset, f"{name} ({split})", split, count)
    shapes = {split: tuple(images.shape[1:]) for split, (images, _) in splits.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"the splits of {name} have different image shapes: {shapes}")
    highest = max(int(targets.max()) for _, targets in splits.values())
    names = tuple(labels) if labels is not None else tuple(map(str, range(highest + 1)))
    for split, (_, targets) in splits.items():
        if int(targets.min()) < 0 or int(targets.max()) >= len(names):
            raise InputError(
                f"the {split} split of {name} has class numbers {int(targets.min())} to "
                f"{int(targets.max())}; with {len(names)} labels they run from 0 "
                f"to {len(names) - 1}"
            )
    if not allow_duplicates:
        _check_disjoint(splits, name)
    return make_image_source(name, splits, names, augmentation, count=count)


def _read(dataset: Any, where: str, split: str, count: Count) -> tuple[Tensor, Tensor]:
    stored: Tensor | None = None
    targets = torch.empty(len(dataset), dtype=torch.int64)
    for index in range(len(dataset)):
        sample = dataset[index]
        if not (isinstance(sample, (tuple, list)) and len(sample) == 2):
            raise InputError(
                f"sample {index} of {where} is a {type(sample).__name__}; expected a pair of an "
                "image and the number of its class"
            )
        image, target = sample
        pixels = torch.as_tensor(image)
        if pixels.ndim != 3 or (stored is not None and pixels.shape != stored.shape[1:]):
            expected = "(channels, height, width)" if stored is None else tuple(stored.shape[1:])
            raise InputError(
                f"sample {index} of {where} has shape {tuple(pixels.shape)}; expected {expected}"
            )
        kind = torch.uint8 if pixels.dtype == torch.uint8 else torch.float32
        if stored is None:
            needed = len(dataset) * pixels.numel() * kind.itemsize
            check_memory(needed, f"the images of {where}", "give fewer or smaller ones")
            stored = torch.empty((len(dataset), *pixels.shape), dtype=kind)
        elif stored.dtype != kind:
            raise InputError(
                f"sample {index} of {where} has {pixels.dtype} pixels, and those before have "
                f"others ({stored.dtype}); use one type for all"
            )
        stored[index] = pixels
        targets[index] = int(target)
        count(f"reading images ({split})", index + 1, len(dataset))
    assert stored is not None, "an empty data set is refused before"
    if stored.dtype != torch.uint8:
        low, high = float(stored.min()), float(stored.max())
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"the images of {where} have values from {low:.3g} to {high:.3g}; float images "
                "must lie in 0..1 (normalisation belongs to the network)"
            )
    return stored, targets


def _check_disjoint(splits: dict[str, tuple[Tensor, Tensor]], name: str) -> None:
    seen: dict[bytes, tuple[str, int]] = {}
    for split, (images, _) in splits.items():
        for index, image in enumerate(images):
            content = hashlib.blake2b(image.numpy().tobytes()).digest()
            other, first = seen.setdefault(content, (split, index))
            if other != split:
                raise InputError(
                    f"image {index} of the {split} split of {name} is also image {first} of its "
                    f"{other} split; splits must be disjoint (allow_duplicates=True accepts it)"
                )

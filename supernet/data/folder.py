"""A folder of images, one sub-folder per class, decoded once into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError

from .source import SPLITS, DataSource, make_image_source, split_stratified

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_VALIDATION_NAMES = ("val", "valid", "validation")


def open_folder(path: Path, *, image_size: int | None = None) -> DataSource:
    """Read images under ``PATH/{train,val,test}/CLASS`` or ``PATH/CLASS``.

    Without split folders every class is cut 80/10/10; with ``train`` and ``test`` only, a tenth
    of ``train`` becomes ``val``. The automatic cut is the same in every run.

    Args:
        path: The folder.
        image_size: Square size in pixels: the shorter side is resized, the centre cropped.
            ``None`` keeps the native size, which must then be the same for all.

    Raises:
        ValueError: No folder, no images, fewer than two classes, different classes in the
            splits, an image in two splits, one that cannot be decoded, or unequal sizes.
    """
    if image_size is not None and image_size < 1:
        raise InputError(f"image size {image_size} is impossible; it must be at least 1 pixel")
    if not path.is_dir():
        raise InputError(f"there is no folder {path}")
    found = _find(path)
    labels = _find_common_classes(path, found)
    files = _make_splits(found)
    _check_disjoint(files)
    grey = all(_is_grey(file) for split in files.values() for file, _ in split)
    splits = {
        name: (_decode(files[name], image_size, grey), _number_labels(files[name], labels))
        for name in SPLITS
    }
    sizes = {tuple(images.shape[1:]) for images, _ in splits.values()}
    if len(sizes) > 1:
        raise InputError(f"the splits of {path} have different image sizes; give an image size")
    return make_image_source(f"folder:{path}", splits, labels)


def _find(path: Path) -> dict[str, dict[str, list[Path]]]:
    """Files of each class of each split; the split ``""`` is one still to be cut."""
    names = {folder.name for folder in path.iterdir() if folder.is_dir()}
    if "train" not in names:
        return {"": _list_classes(path)}
    found = {"train": _list_classes(path / "train")}
    for name in _VALIDATION_NAMES:
        if name in names and "val" not in found:
            found["val"] = _list_classes(path / name)
    if "test" in names:
        found["test"] = _list_classes(path / "test")
    return found


def _list_classes(path: Path) -> dict[str, list[Path]]:
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    result = {}
    for folder in folders:
        files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
        if files:
            result[folder.name] = files
    if not result:
        raise InputError(
            f"{path} has no images; expected {path.name}/CLASS/IMAGE, where IMAGE ends in one of "
            f"{', '.join(SUFFIXES)}"
        )
    return result


def _find_common_classes(path: Path, found: dict[str, dict[str, list[Path]]]) -> tuple[str, ...]:
    (first, classes), *others = found.items()
    for name, other in others:
        if set(other) != set(classes):
            only = sorted(set(other) ^ set(classes))
            raise InputError(
                f"the classes of {path}/{first} and {path}/{name} differ: {', '.join(only)} "
                "is in one of them only"
            )
    if len(classes) < 2:
        raise InputError(
            f"{path} has only one class ({next(iter(classes))!r}); classification needs at least 2"
        )
    return tuple(sorted(classes))


def _make_splits(
    found: dict[str, dict[str, list[Path]]],
) -> dict[str, list[tuple[Path, str]]]:
    """Pairs of file and class for train, val and test; cuts what is not given."""
    pairs = {
        name: [(file, label) for label in sorted(classes) for file in classes[label]]
        for name, classes in found.items()
    }
    if "" in pairs:
        return _cut(pairs[""], {"train": 0.8, "val": 0.1, "test": 0.1})
    missing = [name for name in SPLITS if name not in pairs]
    if missing:
        shares = {"train": 1 - 0.1 * len(missing), **dict.fromkeys(missing, 0.1)}
        pairs.update(_cut(pairs["train"], shares))
    return pairs


def _cut(
    pairs: list[tuple[Path, str]], shares: dict[str, float]
) -> dict[str, list[tuple[Path, str]]]:
    labels = sorted({label for _, label in pairs})
    few = min(labels, key=lambda label: sum(label == other for _, other in pairs))
    count = sum(few == label for _, label in pairs)
    if count < len(shares):
        raise InputError(
            f"class {few!r} has {count} image{'s' * (count != 1)}; splitting into "
            f"{', '.join(shares)} needs at least {len(shares)} of every class"
        )
    targets = np.array([labels.index(label) for _, label in pairs])
    parts = split_stratified(targets, shares, seed=0)
    return {name: [pairs[i] for i in rows] for name, rows in parts.items()}


def _check_disjoint(files: dict[str, list[tuple[Path, str]]]) -> None:
    owner: dict[Path, tuple[str, Path]] = {}
    for split, pairs in files.items():
        for file, _ in pairs:
            # Links are how one image usually gets into two splits.
            real = file.resolve()
            if real in owner and owner[real][0] != split:
                raise InputError(
                    f"{file} ({split}) is the same image as {owner[real][1]} ({owner[real][0]}); "
                    "splits must be disjoint"
                )
            owner[real] = (split, file)


def _number_labels(pairs: list[tuple[Path, str]], labels: tuple[str, ...]) -> Tensor:
    number = {label: i for i, label in enumerate(labels)}
    return torch.tensor([number[label] for _, label in pairs], dtype=torch.int64)


def _is_grey(file: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.mode in ("1", "L", "I;16", "I", "F")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot decode image {file}: {error}") from error


def _decode(pairs: list[tuple[Path, str]], image_size: int | None, grey: bool) -> Tensor:
    """Images as uint8 ``(N, C, H, W)``."""
    from PIL import Image

    arrays: list[np.ndarray] = []
    for file, _ in pairs:
        try:
            with Image.open(file) as opened:
                image = opened.convert("L" if grey else "RGB")
        # Pillow reports damage as either of these, depending on the format.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot decode image {file}: {error}") from error
        if image_size is not None:
            scale = image_size / min(image.size)
            size = tuple(max(image_size, round(side * scale)) for side in image.size)
            left, top = ((side - image_size) // 2 for side in size)
            image = image.resize(size, Image.Resampling.BILINEAR)
            image = image.crop((left, top, left + image_size, top + image_size))
        pixels = np.asarray(image, dtype=np.uint8)
        if arrays and pixels.shape != arrays[0].shape:
            raise InputError(
                f"{file} has {image.width}x{image.height} pixels, {pairs[0][0].name} has "
                f"{arrays[0].shape[1]}x{arrays[0].shape[0]}; give an image size to make them equal"
            )
        arrays.append(pixels)
    images = torch.from_numpy(np.stack(arrays))
    return images[:, None] if grey else images.permute(0, 3, 1, 2).contiguous()

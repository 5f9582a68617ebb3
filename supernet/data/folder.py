"""A folder of images, one sub-folder per class, decoded once into memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError

from .copies import find_copies
from .folder_layout import Classes, find_images
from .image_file import is_grey, open_image
from .image_pixels import read_pixels
from .memory import check_memory
from .source import SPLITS, DataSource, make_image_source, split_stratified

# A file and its class.
Pairs = list[tuple[Path, str]]


def open_folder(path: Path, *, image_size: int | None = None) -> DataSource:
    """Read images under ``PATH/{train,val,test}/CLASS`` or ``PATH/CLASS``.

    Without split folders every class is cut 80/10/10; with ``train`` and ``test`` only, a tenth
    of ``train`` becomes ``val``. The automatic cut is the same in every run, and leaves copies of
    one file together. Which names count as splits, and what is left out, says
    :func:`~supernet.data.folder_layout.find_images`.

    Images are what people see: turned as their EXIF orientation says, laid over white where they
    are transparent, and brought to 8 bits from 16. They are grey if all of all splits are, by mode
    or palette, and in colour otherwise. Of an animation the first image counts.

    Args:
        path: The folder.
        image_size: Square size in pixels: the shorter side is resized, the centre cropped.
            ``None`` keeps the native size, which must then be the same for all.

    Raises:
        InputError: No folder, no images, fewer than two classes, different classes in the
            splits, a file in two splits (another copy of it counts), one that cannot be decoded
            or has more than 100 megapixels, unequal sizes, or not enough memory.
    """
    if image_size is not None and image_size < 1:
        raise InputError(f"image size {image_size} is impossible; it must be at least 1 pixel")
    if not path.is_dir():
        raise InputError(f"there is no folder {path}")
    layout = find_images(path)
    labels = tuple(sorted(next(iter(layout.classes.values()))))
    copies = find_copies(layout.sizes)
    files = _make_splits(layout.classes, copies)
    grey = all(_is_grey(file, image_size) for split in files.values() for file, _ in split)
    images = _decode(files, image_size, grey, f"the images of folder:{path}")
    splits = {name: (images[name], _number_labels(files[name], labels)) for name in SPLITS}
    notes = (*layout.notes, *_note_disagreements(files, copies))
    return make_image_source(f"folder:{path}", splits, labels, notes=notes)


def _make_splits(found: Mapping[str, Classes], copies: Mapping[Path, Path]) -> dict[str, Pairs]:
    """Files and classes of train, val and test; cuts what is not given."""
    pairs = {
        name: [(file, label) for label in sorted(classes) for file in classes[label]]
        for name, classes in found.items()
    }
    if "" in pairs:
        return _cut(pairs[""], {"train": 0.8, "val": 0.1, "test": 0.1}, copies)
    _check_disjoint(pairs, copies)
    missing = [name for name in SPLITS if name not in pairs]
    if missing:
        shares = {"train": 1 - 0.1 * len(missing), **dict.fromkeys(missing, 0.1)}
        pairs.update(_cut(pairs["train"], shares, copies))
    return pairs


def _cut(
    pairs: Pairs, shares: Mapping[str, float], copies: Mapping[Path, Path]
) -> dict[str, Pairs]:
    """Cut every class by shares; copies go where the first of them goes."""
    firsts = [(file, label) for file, label in pairs if file not in copies]
    labels = sorted({label for _, label in pairs})
    counts = Counter(label for _, label in firsts)
    few = min(labels, key=counts.__getitem__)
    count = counts[few]
    if count < len(shares):
        less = " that are no copies of others" if len(firsts) < len(pairs) else ""
        raise InputError(
            f"class {few!r} has {count} image{'s' * (count != 1)}{less}; splitting into "
            f"{', '.join(shares)} needs at least {len(shares)} of every class"
        )
    number = {label: i for i, label in enumerate(labels)}
    targets = np.array([number[label] for _, label in firsts])
    parts = split_stratified(targets, shares, seed=0)
    owner = {firsts[i][0]: name for name, rows in parts.items() for i in rows}
    result: dict[str, Pairs] = {name: [] for name in parts}
    for file, label in pairs:
        result[owner[copies.get(file, file)]].append((file, label))
    return result


def _check_disjoint(files: Mapping[str, Pairs], copies: Mapping[Path, Path]) -> None:
    split_of = {file: split for split, pairs in files.items() for file, _ in pairs}
    shared = [(f, first) for f, first in copies.items() if split_of[f] != split_of[first]]
    if shared:
        file, first = shared[0]
        more = f" (and {len(shared) - 1} more are in two splits)" if len(shared) > 1 else ""
        raise InputError(
            f"{file} ({split_of[file]}) is the same image as {first} ({split_of[first]}){more}; "
            "splits must be disjoint: remove one of the two"
        )


def _note_disagreements(files: Mapping[str, Pairs], copies: Mapping[Path, Path]) -> tuple[str, ...]:
    """Say of copies in two classes, which no network can tell apart."""
    label_of = {file: label for pairs in files.values() for file, label in pairs}
    found = [(f, first) for f, first in copies.items() if label_of[f] != label_of[first]]
    if not found:
        return ()
    file, first = found[0]
    more = f", and {len(found) - 1} more such pairs" if len(found) > 1 else ""
    return (f"the same image is in two classes: {file} and {first}{more}",)


def _number_labels(pairs: Pairs, labels: Sequence[str]) -> Tensor:
    number = {label: i for i, label in enumerate(labels)}
    return torch.tensor([number[label] for _, label in pairs], dtype=torch.int64)


def _is_grey(file: Path, image_size: int | None) -> bool:
    with open_image(file, image_size) as image:
        return is_grey(image)


def _decode(
    files: Mapping[str, Pairs], image_size: int | None, grey: bool, what: str
) -> dict[str, Tensor]:
    """Images of every split as uint8 ``(N, C, H, W)``, each written where it stays."""
    count = sum(map(len, files.values()))
    result: dict[str, Tensor] = {}
    first: tuple[Path, tuple[int, ...]] | None = None
    for split in SPLITS:
        images: np.ndarray | None = None
        for row, (file, _) in enumerate(files[split]):
            with open_image(file, image_size) as image:
                pixels = read_pixels(image, grey, image_size)
            if first is None:
                first = (file, pixels.shape)
                check_memory(count * pixels.size, what, "give a smaller --image-size")
            if pixels.shape != first[1]:
                raise InputError(
                    f"{file} has {_write_size(pixels.shape)} pixels, {first[0]} has "
                    f"{_write_size(first[1])}; give an image size to make them equal"
                )
            if images is None:
                images = np.empty((len(files[split]), *pixels.shape), dtype=np.uint8)
            images[row] = pixels
        assert images is not None, "every split has images"
        result[split] = torch.from_numpy(images)
    return result


def _write_size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"

"""A folder of images, one sub-folder per class, decoded once into memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError

from .copies import find_copies
from .folder_layout import Classes, find_images
from .image_file import MEGAPIXEL, is_grey, open_image, silence_pillow
from .image_pixels import read_pixels
from .memory import check_memory
from .reading import Count, apply_in_order, count_nothing
from .source import SPLITS, DataSource, make_image_source, split_stratified

# Images with more pixels are decoded one at a time, which bounds the memory that threads take.
LARGE_IMAGE = 16 * MEGAPIXEL
# A file and its class.
Pairs = list[tuple[Path, str]]


def open_folder(
    path: Path, *, image_size: int | None = None, count: Count = count_nothing
) -> DataSource:
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
        count: Told how many files are found, compared and read.

    Raises:
        InputError: No folder, no images, fewer than two classes, different classes in the
            splits, a file in two splits (another copy of it counts), one that cannot be decoded
            or has more than 100 megapixels, unequal sizes, or not enough memory.
    """
    if image_size is not None and image_size < 1:
        raise InputError(f"image size {image_size} is impossible; it must be at least 1 pixel")
    if not path.is_dir():
        raise InputError(f"there is no folder {path}")
    layout = find_images(path, count)
    labels = tuple(sorted(next(iter(layout.classes.values()))))
    copies = find_copies(layout.sizes, count)
    files = _make_splits(layout.classes, copies)
    with silence_pillow():
        grey = _are_grey(files, image_size, count)
        images = _decode(files, image_size, grey, f"the images of folder:{path}", count)
    splits = {name: (images[name], _number_labels(files[name], labels)) for name in SPLITS}
    notes = (*layout.notes, *_note_disagreements(files, copies))
    return make_image_source(f"folder:{path}", splits, labels, notes=notes, count=count)


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


def _are_grey(files: Mapping[str, Pairs], image_size: int | None, count: Count) -> bool:
    """Whether all images are; the first in colour ends the question."""
    listed = [file for split in files.values() for file, _ in split]
    with closing(apply_in_order(partial(_is_grey, image_size), listed)) as found:
        for number, grey in enumerate(found, start=1):
            count("looking for colours", number, len(listed))
            if not grey:
                return False
    return True


def _is_grey(image_size: int | None, file: Path) -> bool:
    with open_image(file, image_size) as image:
        return is_grey(image)


def _decode(
    files: Mapping[str, Pairs], image_size: int | None, grey: bool, what: str, count: Count
) -> dict[str, Tensor]:
    """Images of every split as uint8 ``(N, C, H, W)``, each written where it stays."""
    places = [(split, row) for split in SPLITS for row in range(len(files[split]))]
    listed = [files[split][row][0] for split, row in places]
    alone = Lock()
    shape = _read(listed[0], image_size, grey, alone).shape
    check_memory(len(listed) * math.prod(shape), what, "give a smaller --image-size")
    images = {split: np.empty((len(files[split]), *shape), np.uint8) for split in SPLITS}

    def store(number: int) -> tuple[int, ...]:
        pixels = _read(listed[number], image_size, grey, alone)
        if pixels.shape == shape:
            split, row = places[number]
            images[split][row] = pixels
        return pixels.shape

    with closing(apply_in_order(store, range(len(listed)))) as found:
        for number, its_shape in enumerate(found):
            if its_shape != shape:
                raise InputError(
                    f"{listed[number]} has {_write_size(its_shape)} pixels, {listed[0]} has "
                    f"{_write_size(shape)}; give an image size to make them equal"
                )
            count("reading images", number + 1, len(listed))
    return {split: torch.from_numpy(array) for split, array in images.items()}


def _read(file: Path, image_size: int | None, grey: bool, alone: Lock) -> np.ndarray:
    with open_image(file, image_size) as image:
        if image.width * image.height > LARGE_IMAGE:
            with alone:
                return read_pixels(image, grey, image_size)
        return read_pixels(image, grey, image_size)


def _write_size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"

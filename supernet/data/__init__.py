"""Data sources: built-in images, a folder of images, a text file, or a function of your own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernet.errors import InputError
from supernet.space import nearest

from .augment import AUGMENTATIONS, augment
from .datasets import from_datasets
from .function import SPECIFICATION, call_data_function
from .reading import Count, count_nothing
from .source import (
    IMAGES,
    SPLITS,
    TEXT,
    DataShape,
    DataSource,
    Split,
    lay_channels_last,
    name_further,
)
from .vocabulary import Vocabulary

__all__ = [
    "AUGMENTATIONS",
    "IMAGES",
    "SPLITS",
    "TEXT",
    "Count",
    "DataShape",
    "DataSource",
    "Split",
    "augment",
    "count_nothing",
    "from_datasets",
    "lay_channels_last",
    "name_further",
    "open_data",
]

KINDS = ("digits", "clutter", "folder", "text")
DEFAULT_CONTEXT = 64


def open_data(
    spec: str,
    *,
    context: int | None = None,
    image_size: int | None = None,
    tokens: str | None = None,
    vocabulary: int | None = None,
    learnt: Vocabulary | None = None,
    own_modules: bool = False,
    count: Count = count_nothing,
) -> DataSource:
    """Open the data that ``spec`` names; the same spec gives the same three splits every time.

    Args:
        spec: ``"digits"``, ``"clutter"``, ``"folder:PATH"`` (one sub-folder per class),
            ``"text:PATH"``, or ``"package.module:function"``, a function that returns a
            :class:`DataSource`, the three data sets of :func:`from_datasets`, or its arguments by
            name.
        context: Tokens a language model sees at once; for texts, 64 by default, and for functions
            that take it.
        image_size: Square size in pixels to which images are brought; for folders, and for
            functions that take it.
        tokens: What a text is cut into, ``"characters"`` (the default), ``"bytes"`` or ``"bpe"``,
            byte pairs learnt from its training part; for texts, and for functions that take it.
        vocabulary: Largest number of distinct tokens, by default 256 characters or 1,024 byte
            pairs; for texts, and for functions that take it.
        learnt: The vocabulary that an earlier opening learnt; for texts, which then learn none.
        own_modules: Whether the module of a function may lie in the working directory, too: right
            for a spec that was typed, wrong for one that a file brought along.
        count: Told how many images are read, where there are files of them.

    Raises:
        InputError: The spec is unknown or its data cannot be used; the message says why.
        MissingPackageError: Byte pairs need ``tokenizers``, which is not installed.
    """
    kind, colon, path = spec.partition(":")
    given = {
        "context": context,
        "image_size": image_size,
        "tokens": tokens,
        "vocabulary": vocabulary,
    }
    options: dict[str, Any] = {n: value for n, value in given.items() if value is not None}
    if kind not in KINDS and SPECIFICATION.fullmatch(spec):
        hint = nearest(kind, KINDS)
        return call_data_function(
            spec, options, working_directory=own_modules, hint=hint, count=count
        )
    for name in options:
        owner = "folder" if name == "image_size" else "text"
        if kind != owner:
            option = f"{name.replace('_', ' ')} {options[name]}"
            raise InputError(f"{option} applies to {owner}:PATH data; {spec!r} has none")
    if kind == "digits" and not colon:
        from .digits import open_digits

        return open_digits()
    if kind == "clutter" and not colon:
        from .clutter import open_clutter

        return open_clutter()
    if kind in ("folder", "text") and path:
        if kind == "text" and learnt is not None:
            options["learnt"] = learnt
        return _open_path(kind, Path(path).expanduser(), options, count)
    if kind in ("folder", "text"):
        raise InputError(f"data {spec!r} lacks a path; write {kind}:PATH")
    if Path(spec).exists():
        prefix = "folder" if Path(spec).is_dir() else "text"
        raise InputError(f"data {spec!r} lacks its kind; did you mean '{prefix}:{spec}'?")
    raise InputError(
        f"unknown data {spec!r}{nearest(kind, KINDS)}; use digits, clutter, folder:PATH, "
        "text:PATH or package.module:function"
    )


def _open_path(kind: str, path: Path, options: Mapping[str, Any], count: Count) -> DataSource:
    if kind == "folder":
        from .folder import open_folder

        return open_folder(path, **options, count=count)
    from .text import open_text

    return open_text(path, **{"context": DEFAULT_CONTEXT, **options})

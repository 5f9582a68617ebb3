"""Data sources: built-in digits, a folder of images, a text file, or your own data sets."""

from __future__ import annotations

from pathlib import Path

from supernet.space import nearest

from .augment import AUGMENTATIONS, augment
from .datasets import from_datasets
from .source import IMAGES, SPLITS, TEXT, DataShape, DataSource, Split, channels_last

__all__ = [
    "AUGMENTATIONS",
    "IMAGES",
    "SPLITS",
    "TEXT",
    "DataShape",
    "DataSource",
    "Split",
    "augment",
    "channels_last",
    "from_datasets",
    "open_data",
]

KINDS = ("digits", "folder", "text")


def open_data(
    spec: str, *, context: int | None = None, image_size: int | None = None
) -> DataSource:
    """The data that ``spec`` names; the same spec gives the same three splits every time.

    Args:
        spec: ``"digits"``, ``"folder:PATH"`` (one sub-folder per class) or ``"text:PATH"``.
        context: Tokens a language model sees at once; for text only, 64 by default.
        image_size: Square size in pixels to which images are brought; for folders only.

    Raises:
        ValueError: The spec is unknown or its data cannot be used; the message says why.
    """
    kind, colon, path = spec.partition(":")
    for option, value, owner in (
        ("context", context, "text"),
        ("image size", image_size, "folder"),
    ):
        if value is not None and kind != owner:
            raise ValueError(f"{option} {value} applies to {owner}:PATH data; {spec!r} has none")
    if kind == "digits" and not colon:
        from .digits import open_digits

        return open_digits()
    if kind in ("folder", "text") and path:
        from .folder import open_folder
        from .text import open_text

        location = Path(path).expanduser()
        if kind == "folder":
            return open_folder(location, image_size=image_size)
        return open_text(location, context=64 if context is None else context)
    if kind in ("folder", "text"):
        raise ValueError(f"data {spec!r} lacks a path; write {kind}:PATH")
    if Path(spec).exists():
        prefix = "folder" if Path(spec).is_dir() else "text"
        raise ValueError(f"data {spec!r} lacks its kind; did you mean '{prefix}:{spec}'?")
    raise ValueError(
        f"unknown data {spec!r}{nearest(kind, KINDS)}; use digits, folder:PATH or text:PATH"
    )

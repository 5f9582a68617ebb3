"""A text file as next-character prediction: 90 % for training, then 5 % and 5 %."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.text_encoding import read_text

from .memory import check_memory
from .source import TEXT, DataShape, DataSource, Split, fingerprint

UNKNOWN = "\ufffd"
# A token is a 64-bit number, beside the text itself.
BYTES_PER_CHARACTER = 10
_BLOCK = 1 << 20


def open_text(path: Path, *, context: int = 64, vocabulary: int = 256) -> DataSource:
    """Characters of a text file; the vocabulary comes from the training part alone.

    The text is UTF-8, or what a byte-order mark tells, which is no part of it.

    Args:
        path: The file.
        context: Tokens a model sees at once.
        vocabulary: Largest number of distinct tokens; rarer characters become the unknown
            token, number 0.

    Raises:
        InputError: No such file, no text, too short, or an impossible context.
    """
    if context < 1:
        raise InputError(f"context = {context} tokens is impossible; it must be at least 1")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no text file; a pipe, a device or a folder cannot be read")
    if not path.is_file():
        raise InputError(f"there is no text file {path}")
    needed = path.stat().st_size * BYTES_PER_CHARACTER
    check_memory(needed, f"the characters of {path}", "give a smaller file")
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise InputError(
            f"{path} is not {error.encoding.upper()} text ({where}); save it as UTF-8"
        ) from error
    if "\0" in text:
        raise InputError(
            f"{path} holds NUL characters, so that it is no text, or UTF-16 without a byte-order "
            "mark; save it as UTF-8"
        )
    needed = 20 * (2 * context + 1)
    if len(text) < needed:
        raise InputError(
            f"{path} has {len(text)} characters; with a context of {context} tokens at least "
            f"{needed} are needed so that the 5 % validation and test parts hold two windows each"
        )
    first, second = int(len(text) * 0.90), int(len(text) * 0.95)
    counts = Counter(text[:first])
    frequent = sorted(counts, key=lambda c: (-counts[c], c))[: vocabulary - 1]
    labels = (UNKNOWN, *sorted(set(frequent) - {UNKNOWN}))
    tokens = _encode(text, labels)
    parts = {"train": tokens[:first], "val": tokens[first:second], "test": tokens[second:]}
    return DataSource(
        spec=f"text:{path}",
        shape=DataShape(TEXT, (context,), len(labels), labels),
        train=_slide_windows(parts["train"], context, stride=1),
        val=_slide_windows(parts["val"], context, stride=context),
        test=_slide_windows(parts["test"], context, stride=context),
        fingerprint=fingerprint(parts.items()),
        epoch=first // context,
        augmentation="none",
    )


def _encode(text: str, labels: tuple[str, ...]) -> Tensor:
    """Token ids of a text, ``(characters,)`` int64; characters without a label are 0."""
    table = np.zeros(sys.maxunicode + 1, dtype=np.int64)
    for token, label in enumerate(labels):
        if token:
            table[ord(label)] = token
    tokens = np.empty(len(text), dtype=np.int64)
    for start in range(0, len(text), _BLOCK):
        block = text[start : start + _BLOCK]
        codes = np.frombuffer(block.encode("utf-32-le"), dtype=np.uint32)
        tokens[start : start + len(block)] = table[codes]
    return torch.from_numpy(tokens)


def _slide_windows(tokens: Tensor, context: int, stride: int) -> Split:
    """Windows as strided views of one array: overlapping ones cost no memory."""
    return Split(
        inputs=tokens[:-1].unfold(0, context, stride), targets=tokens[1:].unfold(0, context, stride)
    )

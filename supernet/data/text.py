"""A text file as prediction of the next token: 90 % for training, then 5 % and 5 %."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from supernet.errors import InputError
from supernet.text_encoding import read_text

from .memory import check_memory
from .source import SPLITS, TEXT, DataShape, DataSource, Split, fingerprint
from .vocabulary import CHARACTERS, PAIRS, Vocabulary, find_size, learn_vocabulary

# A token is a 64-bit number, beside the text itself; no byte of it gives more than one.
BYTES_PER_TOKEN = 10
_NAMES = {PAIRS: "tokens"}


def open_text(
    path: Path,
    *,
    context: int = 64,
    tokens: str = CHARACTERS,
    vocabulary: int | None = None,
    learnt: Vocabulary | None = None,
) -> DataSource:
    """Tokens of a text file; the vocabulary comes from the training part alone, unless given.

    The text is UTF-8, or what a byte-order mark tells, which is no part of it. It is cut by
    characters whatever the tokens are, so that each part has the same text with all vocabularies.

    Args:
        path: The file.
        context: Tokens a model sees at once.
        tokens: ``"characters"``; ``"bytes"`` of UTF-8; or ``"bpe"``, byte pairs that are learnt.
        vocabulary: Largest number of distinct tokens, by default 256 characters or 1,024 byte
            pairs; rarer characters become the unknown token, number 0.
        learnt: A vocabulary of this kind that was learnt before.

    Raises:
        InputError: No such file, no text, too short, an impossible context or vocabulary.
        MissingPackageError: Byte pairs need ``tokenizers``, which is not installed.
    """
    if context < 1:
        raise InputError(f"context = {context} tokens is impossible; it must be at least 1")
    size = find_size(tokens, vocabulary)
    text = _read(path, _NAMES.get(tokens, tokens))
    first, second = int(len(text) * 0.90), int(len(text) * 0.95)
    if tokens == CHARACTERS:
        _check_characters(path, len(text), context)
    cut = dict(zip(SPLITS, (text[:first], text[first:second], text[second:]), strict=True))
    found = learn_vocabulary(tokens, cut["train"], size) if learnt is None else learnt
    parts = {name: found.encode(part) for name, part in cut.items()}
    for name, part in parts.items():
        _check_windows(path, name, len(part), context)
    labels = found.labels
    return DataSource(
        spec=f"text:{path}",
        shape=DataShape(TEXT, (context,), len(labels), labels),
        train=_slide_windows(parts["train"], context, stride=1),
        val=_slide_windows(parts["val"], context, stride=context),
        test=_slide_windows(parts["test"], context, stride=context),
        fingerprint=fingerprint(parts.items()),
        epoch=len(parts["train"]) // context,
        augmentation="none",
        notes=_note_fewer(path, found, size) if learnt is None else (),
        vocabulary=found,
        bytes_per_token={n: len(cut[n].encode()) / len(part) for n, part in parts.items()},
    )


def _read(path: Path, what: str) -> str:
    """The text of a file; InputError unless it is one, and its tokens fit into memory."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no text file; a pipe, a device or a folder cannot be read")
    if not path.is_file():
        raise InputError(f"there is no text file {path}")
    needed = path.stat().st_size * BYTES_PER_TOKEN
    check_memory(needed, f"the {what} of {path}", "give a smaller file")
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
    return text


def _check_characters(path: Path, length: int, context: int) -> None:
    """Refuse a text that is too short as a whole, where a character is a token."""
    needed = 20 * (2 * context + 1)
    if length < needed:
        raise InputError(
            f"{path} has {length} characters; with a context of {context} tokens at least "
            f"{needed} are needed so that the 5 % validation and test parts hold two windows each"
        )


def _check_windows(path: Path, name: str, length: int, context: int) -> None:
    needed = 2 * context + 1
    if length < needed:
        raise InputError(
            f"the {name} part of {path} has {length} tokens; with a context of {context} tokens at "
            f"least {needed} are needed so that it holds two windows; give a longer text or a "
            "shorter context"
        )


def _note_fewer(path: Path, vocabulary: Vocabulary, size: int) -> tuple[str, ...]:
    count = len(vocabulary.labels)
    if vocabulary.kind != PAIRS or count == size:
        return ()
    return (
        f"{path} has no more to learn than a vocabulary of {count:,} tokens, and {size:,} were "
        "asked for",
    )


def _slide_windows(tokens: Tensor, context: int, stride: int) -> Split:
    """Windows as strided views of one array: overlapping ones cost no memory."""
    return Split(
        inputs=tokens[:-1].unfold(0, context, stride), targets=tokens[1:].unfold(0, context, stride)
    )

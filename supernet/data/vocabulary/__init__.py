"""Vocabularies: what turns text into token ids and back, as values that a JSON file can hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from supernet.errors import InputError
from supernet.space import nearest

from .bpe import BytePairs, learn_byte_pairs
from .characters import Characters, choose_characters
from .utf8 import Bytes

__all__ = [
    "BYTES",
    "CHARACTERS",
    "DEFAULT_SIZES",
    "KINDS",
    "PAIRS",
    "BytePairs",
    "Bytes",
    "Characters",
    "Vocabulary",
    "digest_vocabulary",
    "encode_prompt",
    "find_size",
    "learn_vocabulary",
    "read_vocabulary",
]

CHARACTERS, BYTES, PAIRS = Characters.kind, Bytes.kind, BytePairs.kind
KINDS = (CHARACTERS, BYTES, PAIRS)
DEFAULT_SIZES = {CHARACTERS: 256, BYTES: 256, PAIRS: 1024}
# Below these a vocabulary has nothing that it learnt.
_SMALLEST = {CHARACTERS: 2, BYTES: 256, PAIRS: 257}
# Tables of that many tokens are set up before anything is learnt.
_LARGEST = {CHARACTERS: 1 << 20, BYTES: 256, PAIRS: 1 << 20}
_MOST_SHOWN = 10


class Vocabulary(Protocol):
    """What every vocabulary can do; equal ones encode alike."""

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for every token, in the order of their ids; no two are equal."""

    def encode(self, text: str) -> Tensor:
        """Turn text into token ids, int64, ``(tokens,)``.

        What the vocabulary lacks becomes the unknown token where there is one.

        Raises:
            UnicodeEncodeError: There is none, and the text holds half of a surrogate pair.
            MissingPackageError: A package that it needs is not installed.
        """

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        r"""Turn token ids into text; bytes that are no UTF-8 become ``"\\ufffd"``.

        Raises:
            InputError: An id is none of the vocabulary's.
        """

    def find_lacking(self, text: str) -> tuple[str, ...]:
        """Find the characters of a text that it has no token for, each once, as they come."""

    def to_json(self) -> dict[str, Any]:
        """Turn it into what JSON can hold, for :func:`read_vocabulary`."""


def learn_vocabulary(kind: str, text: str, size: int | None = None) -> Vocabulary:
    """Make a vocabulary for a text; the same one every time.

    Args:
        kind: One of :data:`KINDS`.
        text: What it learns from.
        size: Largest number of tokens, as for :func:`find_size`; a text that has no more to learn
            from gives fewer.

    Raises:
        InputError: Unknown kind, or an impossible size.
        MissingPackageError: Byte pairs are learnt by ``tokenizers``, which is not installed.
    """
    size = find_size(kind, size)
    if kind == BYTES:
        return Bytes()
    return choose_characters(text, size) if kind == CHARACTERS else learn_byte_pairs(text, size)


def find_size(kind: str, size: int | None) -> int:
    """Find how many tokens a vocabulary has at most.

    Args:
        kind: One of :data:`KINDS`.
        size: What was asked for; ``None`` for 256 characters or 1,024 byte pairs.

    Raises:
        InputError: Unknown kind, or a number of tokens that it cannot have.
    """
    if kind not in KINDS:
        raise InputError(f"unknown tokens {kind!r}{nearest(kind, KINDS)}; use {', '.join(KINDS)}")
    found = DEFAULT_SIZES[kind] if size is None else size
    if kind == BYTES and found != DEFAULT_SIZES[BYTES]:
        raise InputError(
            f"a vocabulary of {found} tokens is impossible for bytes, which are 256; leave it out"
        )
    if not _SMALLEST[kind] <= found <= _LARGEST[kind]:
        raise InputError(
            f"a vocabulary of {found} tokens is impossible for {kind}; it must have "
            f"{_SMALLEST[kind]:,} to {_LARGEST[kind]:,}"
        )
    return found


def encode_prompt(vocabulary: Vocabulary, prompt: str) -> Tensor:
    """Turn a prompt into token ids, int64, ``(tokens,)``, none of which stands for the unknown.

    Raises:
        InputError: It has characters that the vocabulary lacks; they are named.
        MissingPackageError: A package that the vocabulary needs is not installed.
    """
    lacking = vocabulary.find_lacking(prompt)
    if lacking:
        shown = ", ".join(map(repr, lacking[:_MOST_SHOWN]))
        more = f", ... ({len(lacking)} in total)" if len(lacking) > _MOST_SHOWN else ""
        raise InputError(f"the prompt has characters that the vocabulary lacks: {shown}{more}")
    return vocabulary.encode(prompt)


def read_vocabulary(payload: object) -> Vocabulary:
    """Make a vocabulary of what :meth:`Vocabulary.to_json` and JSON made of one.

    Raises:
        InputError: It is not one, and the message says why.
    """
    kind = payload.get("kind") if isinstance(payload, Mapping) else None
    if not isinstance(payload, Mapping) or kind not in KINDS:
        raise InputError(f"a vocabulary is an object whose kind is {', '.join(KINDS)}")
    if kind == BYTES:
        return Bytes()
    name = "tokens" if kind == CHARACTERS else "merges"
    content = payload.get(name)
    if not isinstance(content, (list, tuple)):
        raise InputError(f"a vocabulary of {kind} needs a list of {name}")
    if kind == CHARACTERS:
        return Characters(tuple(content))
    if not all(isinstance(pair, (list, tuple)) for pair in content):
        raise InputError("merges of a vocabulary must be pairs of token ids")
    return BytePairs(tuple(map(tuple, content)))


def digest_vocabulary(vocabulary: Vocabulary) -> str:
    """Hash all that a vocabulary is made of by SHA-256, 64 hexadecimal digits."""
    content = json.dumps(vocabulary.to_json(), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()

"""Byte-level byte-pair encoding: bytes, and pairs of tokens that are often beside each other.

After Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", on bytes
and within words as Radford et al. 2019 (GPT-2) cut them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError, MissingPackageError

from .token_ids import list_token_ids
from .utf8 import COUNT, find_half_characters, write_symbols

# Pairs that occur once say nothing about other text.
_RAREST = 2
# Bytes of a token: a few merges of a damaged file could ask for more than any memory.
LONGEST = 128
_BLOCK = 1 << 18
# Between these two no token can be: words and signs end before spaces, and spaces before words.
_BORDER = re.compile(r"(?<=[!-~])[ \n]")


@dataclass(frozen=True)
class BytePairs:
    """A vocabulary of bytes, ids 0 to 255, and of what pairs of tokens make together.

    A pair whose bytes are those of an earlier token makes that one again, and every other pair the
    next token.

    Args:
        merges: Ids of both tokens of each pair, in the order in which pairs are joined.

    Raises:
        InputError: They are no pairs of earlier tokens, or make tokens of more than 128 bytes.
    """

    merges: tuple[tuple[int, int], ...]
    kind: ClassVar[str] = "bpe"

    def __post_init__(self) -> None:
        self.tokens  # noqa: B018

    @cached_property
    def tokens(self) -> tuple[bytes, ...]:
        """The bytes of every token, in the order of their ids."""
        return tuple(_spell(self.merges))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Every token with a visible character for each of its bytes."""
        return tuple(map(write_symbols, self.tokens))

    def encode(self, text: str) -> Tensor:
        """Turn text into token ids, int64, ``(tokens,)``.

        Raises:
            UnicodeEncodeError: The text holds half of a surrogate pair.
            MissingPackageError: ``tokenizers`` is not installed.
        """
        library, labels = _import_tokenizers(), self.labels
        model = library.models.BPE(
            {label: number for number, label in enumerate(labels)},
            [(labels[left], labels[right]) for left, right in self.merges],
        )
        encoder = _cut_words(library, model)
        blocks = [np.empty(0, dtype=np.int64)]
        for block in split_text(text):
            blocks.append(np.array(encoder.encode(block).ids, dtype=np.int64))
        return torch.from_numpy(np.concatenate(blocks))

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        r"""Turn token ids into text; bytes that are no UTF-8 become ``"\\ufffd"``.

        Raises:
            InputError: An id is none of the vocabulary's.
        """
        numbers = list_token_ids(ids, len(self.tokens))
        return b"".join(self.tokens[number] for number in numbers).decode(errors="replace")

    def find_lacking(self, text: str) -> tuple[str, ...]:
        """Find what UTF-8 cannot hold of a text, each character once, as they come."""
        return find_half_characters(text)

    def to_json(self) -> dict[str, Any]:
        """Turn it into what JSON can hold."""
        return {"kind": self.kind, "merges": [list(pair) for pair in self.merges]}


def learn_byte_pairs(text: str, size: int) -> BytePairs:
    """Learn which tokens of a text to join: again and again the pair that is most often there.

    Of pairs that are there equally often, the one of the earliest tokens comes first, bytes in the
    order of the characters that show them, so that the same text always gives the same merges.

    Args:
        text: What is learnt from.
        size: Largest number of tokens, the 256 bytes included.

    Raises:
        MissingPackageError: ``tokenizers`` is not installed.
    """
    library = _import_tokenizers()
    learner = _cut_words(library, library.models.BPE())
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=_RAREST,
        show_progress=False,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=LONGEST,
    )
    learner.train_from_iterator(split_text(text), trainer)
    numbers = {write_symbols(bytes([byte])): byte for byte in range(COUNT)}
    merges = []
    for left, right in json.loads(learner.to_str())["model"]["merges"]:
        merges.append((numbers[left], numbers[right]))
        numbers.setdefault(left + right, len(numbers))
    return BytePairs(tuple(merges))


def split_text(text: str, length: int = _BLOCK) -> Iterator[str]:
    """Cut a text into blocks, to bound memory, where no token can reach across.

    Args:
        text: The text.
        length: Fewest characters of each block but the last, at least 1; one without such a place
            is longer.
    """
    start = 0
    while start < len(text):
        border = _BORDER.search(text, start + length)
        end = len(text) if border is None else border.start()
        yield text[start:end]
        start = end


def _spell(merges: Sequence[tuple[int, int]]) -> list[bytes]:
    tokens = [bytes([byte]) for byte in range(COUNT)]
    known = set(tokens)
    if len(set(merges)) < len(merges):
        raise InputError("merges of a vocabulary must be pairs of token ids, each pair once")
    for place, pair in enumerate(merges):
        if len(pair) != 2 or not all(type(i) is int and 0 <= i < len(tokens) for i in pair):
            raise InputError(
                f"merge {place} of a vocabulary is {pair!r}; it must be a pair of the "
                f"{len(tokens)} tokens before it"
            )
        joined = tokens[pair[0]] + tokens[pair[1]]
        if len(joined) > LONGEST:
            raise InputError(
                f"merge {place} of a vocabulary makes a token of {len(joined)} bytes; it must have "
                f"at most {LONGEST}"
            )
        if joined not in known:
            known.add(joined)
            tokens.append(joined)
    return tokens


def _cut_words(library: ModuleType, model: Any) -> Any:
    tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _import_tokenizers() -> ModuleType:
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "byte pairs (bpe) need tokenizers; install it with: pip install 'supernet[hf]'"
        ) from error
    module: ModuleType = tokenizers
    return module

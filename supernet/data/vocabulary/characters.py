"""One token for each frequent character of a text, and one for all others."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError

from .token_ids import list_token_ids
from .utf8 import is_half_character

UNKNOWN = "\ufffd"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Characters:
    """A vocabulary of single characters; number 0 stands for all that it lacks.

    Args:
        labels: The characters in the order of their ids, ``"\\ufffd"`` first.

    Raises:
        InputError: They are no such list.
    """

    labels: tuple[str, ...]
    kind: ClassVar[str] = "characters"

    def __post_init__(self) -> None:
        if not all(isinstance(c, str) and len(c) == 1 for c in self.labels):
            raise InputError("tokens of a vocabulary of characters must be single characters")
        if any(map(is_half_character, self.labels)):
            raise InputError("tokens of a vocabulary of characters must be whole characters")
        if self.labels[:1] != (UNKNOWN,) or len(set(self.labels)) < len(self.labels):
            raise InputError(
                f"tokens of a vocabulary of characters must be {UNKNOWN!r} for the unknown and "
                "others after it, each once"
            )

    def encode(self, text: str) -> Tensor:
        """Turn text into token ids, int64, ``(characters,)``; unknown characters are 0."""
        table = np.zeros(sys.maxunicode + 1, dtype=np.int64)
        table[[ord(label) for label in self.labels]] = np.arange(len(self.labels))
        tokens = np.empty(len(text), dtype=np.int64)
        for start in range(0, len(text), _BLOCK):
            block = text[start : start + _BLOCK]
            codes = np.frombuffer(block.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
            tokens[start : start + len(block)] = table[codes]
        return torch.from_numpy(tokens)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Turn token ids into text; 0 is ``"\\ufffd"``.

        Raises:
            InputError: An id is none of the vocabulary's.
        """
        return "".join(self.labels[i] for i in list_token_ids(ids, len(self.labels)))

    def find_lacking(self, text: str) -> tuple[str, ...]:
        """Find the characters of a text that it has no token for, each once, as they come."""
        known = set(self.labels)
        return tuple(c for c in dict.fromkeys(text) if c not in known)

    def to_json(self) -> dict[str, Any]:
        """Turn it into what JSON can hold."""
        return {"kind": self.kind, "tokens": list(self.labels)}


def choose_characters(text: str, size: int) -> Characters:
    """Choose the most frequent characters of a text; of equally frequent ones the first.

    Args:
        text: What they are counted in.
        size: Largest number of tokens, the unknown one included.
    """
    counts = Counter(text)
    frequent = sorted(counts, key=lambda c: (-counts[c], c))[: size - 1]
    return Characters((UNKNOWN, *sorted(set(frequent) - {UNKNOWN})))

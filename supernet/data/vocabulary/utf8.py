"""The 256 bytes of UTF-8 as tokens, and how bytes are written where they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .token_ids import list_token_ids

COUNT = 256
# Characters of Latin-1 that are visible stand for their own byte, as in byte-level BPE since GPT-2
# (Radford et al. 2019); the other bytes are written as the characters from 256 on.
_VISIBLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))


def _list_symbols() -> tuple[str, ...]:
    hidden = [byte for byte in range(COUNT) if byte not in _VISIBLE]
    written = {byte: chr(byte) for byte in _VISIBLE}
    written |= {byte: chr(COUNT + place) for place, byte in enumerate(hidden)}
    return tuple(written[byte] for byte in range(COUNT))


SYMBOLS = _list_symbols()


def write_symbols(content: bytes) -> str:
    """Write bytes as visible characters, one for each, the same one everywhere."""
    return "".join(SYMBOLS[byte] for byte in content)


def is_half_character(character: str) -> bool:
    """Whether a character is half of a surrogate pair, which UTF-8 cannot hold."""
    return "\ud800" <= character <= "\udfff"


def find_half_characters(text: str) -> tuple[str, ...]:
    """Find what UTF-8 cannot hold of a text, each character once, as they come."""
    return tuple(filter(is_half_character, dict.fromkeys(text)))


@dataclass(frozen=True)
class Bytes:
    """A vocabulary of bytes: the id of a token is the value of its byte."""

    kind: ClassVar[str] = "bytes"
    labels: ClassVar[tuple[str, ...]] = SYMBOLS

    def encode(self, text: str) -> Tensor:
        """Turn text into token ids, int64, ``(bytes,)``.

        Raises:
            UnicodeEncodeError: The text holds half of a surrogate pair.
        """
        return torch.from_numpy(np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64))

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        r"""Turn token ids into text; bytes that are no UTF-8 become ``"\\ufffd"``.

        Raises:
            InputError: An id is none of 0 to 255.
        """
        return bytes(list_token_ids(ids, COUNT)).decode(errors="replace")

    def find_lacking(self, text: str) -> tuple[str, ...]:
        """Find what UTF-8 cannot hold of a text, each character once, as they come."""
        return find_half_characters(text)

    def to_json(self) -> dict[str, Any]:
        """Turn it into what JSON can hold."""
        return {"kind": self.kind}

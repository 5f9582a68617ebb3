"""Numbers of a large file once more as arrays, so that the file need not be understood again.

Such a file lies beside the one it is made of, which it can be made of again at any time. It says
which bytes it was made of, and is left alone where those are others, where it was damaged, or where
another release wrote it. Only what is shown is read from it; whatever decides something reads the
file itself.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from supernet import files

# Smaller files are read in a moment.
LEAST_BYTES = 1 << 20
_BLOCK = 1 << 20
_HEADER = "header"
_HEXADECIMAL = np.frombuffer(b"0123456789abcdef", np.uint8)
DIGEST = np.dtype("S12")
# What a file that is damaged or of somebody else makes numpy and the standard library raise.
_UNUSABLE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, NotImplementedError, RecursionError),
    *(zipfile.BadZipFile, zlib.error),
)

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Origin:
    """Which bytes numbers were made of: the first so many of a file, and their checksum.

    A CRC-32 notices every change of up to 32 bits in a row, and any other but for one in four
    billion, several times faster than a cryptographic digest.
    """

    size: int
    checksum: int

    def extend(self, content: bytes) -> Origin:
        """The same with what follows in the file."""
        return Origin(self.size + len(content), zlib.crc32(content, self.checksum))


def name_beside(path: Path) -> Path:
    """Where the arrays of a file lie: ``evaluations.columns.npz`` for ``evaluations.jsonl``."""
    return path.with_name(f"{path.stem}.columns.npz")


def find_origin(file: BinaryIO, size: int) -> Origin:
    """Check-sum the first ``size`` bytes of a file, or all of them where there are fewer."""
    found = Origin(0, 0)
    while found.size < size and (block := file.read(min(size - found.size, _BLOCK))):
        found = found.extend(block)
    return found


def read_columns(path: Path, layout: str) -> tuple[dict[str, Any], Arrays] | None:
    """Read what :func:`write_columns` wrote; ``None`` where that is missing or of no use.

    Args:
        path: The file of the arrays.
        layout: What they must have been written as.

    Returns:
        The header, and the arrays by name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # What is packed could be anything once it is unpacked.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return None
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(stored[_HEADER].tobytes())
            if header["layout"] != layout:
                return None
            return header, {name: stored[name] for name in stored.files if name != _HEADER}
    except _UNUSABLE:
        return None


def write_columns(path: Path, layout: str, header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write arrays beside the file they were made of, atomically; where nothing can be, do nothing.

    Args:
        path: The file of the arrays.
        layout: What they are, and of which version.
        header: Anything else, as JSON has it.
        arrays: Numbers and texts of fixed length by name.
    """
    text = json.dumps({**header, "layout": layout}).encode()
    content = io.BytesIO()
    named: dict[str, Any] = {_HEADER: np.frombuffer(text, np.uint8), **arrays}
    np.savez(content, **named)
    # A run on a full or read-only disk, or of somebody else, is opened without.
    with suppress(OSError):
        files.write_bytes(path, content.getvalue())


def are_codes(codes: NDArray[Any], kind: type[np.signedinteger[Any]], least: int, end: int) -> bool:
    """Whether an array holds whole numbers of a kind, from ``least`` to below ``end``."""
    if codes.dtype != kind:
        return False
    return not codes.size or bool(least <= codes.min() and codes.max() < end)


def are_places(starts: NDArray[Any], ends: NDArray[Any], size: int) -> bool:
    """Whether two arrays say where things begin and end in so many bytes, ``(n,)`` each."""
    if starts.shape != ends.shape or starts.ndim != 1:
        return False
    inside = are_codes(starts, np.int64, 0, size + 1) and are_codes(ends, np.int64, 0, size + 1)
    return inside and bool((starts <= ends).all())


def are_numbers(numbers: NDArray[Any], count: int) -> bool:
    """Whether an array holds ``count`` numbers, each finite or NaN for "not known"."""
    if numbers.shape != (count,) or numbers.dtype != np.float64:
        return False
    return not bool(np.isinf(numbers).any())


def are_flags(flags: NDArray[Any], count: int) -> bool:
    """Whether an array holds ``count`` truth values."""
    return flags.shape == (count,) and flags.dtype == np.bool_


def are_digests(digests: NDArray[np.bytes_], count: int) -> bool:
    """Whether an array holds ``count`` digests of architectures, as 12 bytes each."""
    if digests.shape != (count,) or digests.dtype != DIGEST:
        return False
    return bool(np.isin(np.frombuffer(digests.tobytes(), np.uint8), _HEXADECIMAL).all())


def are_texts(texts: object) -> bool:
    """Whether a value is a list of texts, of which any may be missing."""
    return isinstance(texts, list) and all(isinstance(text, str | None) for text in texts)

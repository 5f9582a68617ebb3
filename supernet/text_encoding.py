"""Text files as editors save them: with a byte-order mark, or in UTF-16, as well as plain UTF-8."""

from __future__ import annotations

import codecs
from pathlib import Path

# The mark of UTF-16 begins that of UTF-32, which therefore comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def find_encoding(start: bytes) -> str:
    """Name the encoding that the first four bytes of a file tell, which is UTF-8 without a mark."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


def read_text(path: Path) -> str:
    r"""Read a text file without its byte-order mark; line ends become ``\n``.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is no text in the encoding that its mark tells.
    """
    with Path(path).open("rb") as file:
        encoding = find_encoding(file.read(4))
    return Path(path).read_text(encoding=encoding)


def to_utf8(content: bytes) -> bytes:
    """Text as UTF-8 without a byte-order mark; what is no text stays as it is."""
    encoding = find_encoding(content[:4])
    if encoding == "utf-8":
        return content
    try:
        return content.decode(encoding).encode()
    except UnicodeError:
        return content

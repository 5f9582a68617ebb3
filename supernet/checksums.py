"""Checksums inside JSON: a digit that changed in a finished file or a line of a log is noticed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernet import files
from supernet.errors import InputError

KEY = "checksum"
CHANGED = "its content does not match its checksum"
ACCEPT = f'if the change is meant, remove its entry "{KEY}"'
# Files are written with this indentation, lines of a log without any.
_INDENT = 2
_DIGITS = 16
_LAST_ENTRY = re.compile(rb',\s*"' + KEY.encode() + rb'":\s*"([0-9a-f]{16})"\s*}\s*\Z')


def write_json(path: Path, payload: Mapping[str, Any]) -> None:
    """Write indented JSON with its checksum as the last entry, atomically.

    Raises:
        OSError: The write failed; the old file is untouched.
    """
    files.write_json(path, seal(payload, _INDENT))


def append_record(path: Path, payload: Mapping[str, Any]) -> None:
    """Append one JSON object with its checksum to a log.

    Raises:
        OSError: The write failed; the log is as it was.
    """
    files.append_record(path, seal(payload))


def read_json(path: Path) -> Any:
    """Read a JSON file, with a checksum or, of an earlier release or another writer, without.

    Returns:
        Its content without the checksum.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is no JSON, or its content does not match its checksum.
    """
    payload = files.read_json(path)
    if not isinstance(payload, dict):
        return payload
    if is_changed(Path(path).read_bytes()):
        raise InputError(f"{path} was damaged or edited: {CHANGED}; {ACCEPT}")
    return unseal(payload)


def read_log(path: Path) -> list[Any | None]:
    """Read the complete lines of a log as JSON without checksums.

    Returns:
        What each line holds, ``None`` where it is damaged; nothing for a missing file.
    """
    path = Path(path)
    if not path.exists():
        return []
    return [_decode(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _decode(line: bytes) -> Any | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict):
        return None if is_changed(line) else unseal(record)
    return record


def seal(payload: Mapping[str, Any], indent: int | None = None) -> dict[str, Any]:
    """A JSON object with the checksum of its text as the last entry.

    Args:
        payload: What is written; an old checksum is dropped.
        indent: As it is written.
    """
    bare = unseal(payload)
    text = json.dumps(bare, indent=indent, allow_nan=False)
    return {**bare, KEY: _digest(text.encode())}


def unseal(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object without its checksum."""
    return {name: value for name, value in payload.items() if name != KEY}


def is_changed(content: bytes) -> bool:
    """Whether a JSON object has a checksum that its other entries do not match.

    Args:
        content: Valid JSON. Spaces and line breaks between its parts do not count.
    """
    found = _LAST_ENTRY.search(content[-200:])
    if found is not None:
        end = len(content) - len(found[0])
        start = end - len(content[:end].lstrip()) if content[:1].isspace() else 0
        indented = content.find(b"\n", start, end) >= 0
        # Content may be of hundreds of megabytes, which need not be copied.
        digest = hashlib.sha256(memoryview(content)[start:end])
        digest.update(b"\n}" if indented else b"}")
        if digest.hexdigest()[:_DIGITS] == found[1].decode():
            return False
    elif KEY.encode() not in content:
        return False
    try:
        payload = json.loads(content)
    except (ValueError, RecursionError):
        # Digits or brackets without end, which this project does not write.
        return True
    if not isinstance(payload, dict) or KEY not in payload:
        return False
    bare = unseal(payload)
    # Somebody may have written the same content with other spaces.
    return all(
        _digest(json.dumps(bare, indent=indent).encode()) != payload[KEY]
        for indent in (None, _INDENT)
    )


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:_DIGITS]

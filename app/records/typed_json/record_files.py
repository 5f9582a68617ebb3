"""Records as files: read in one way, written in one way, and refused in one sentence."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from app.records.typed_json.damage import explain_damage
from app.records.typed_json.record import FileRecord, Kind, to_json
from supernet import checksums
from supernet.errors import InputError
from supernet.text_encoding import to_utf8

_LINE_REMEDY = "the line is left out"


def read_record(path: Path, kind: type[Kind], remedy: str) -> Kind:
    """The content of a file.

    Args:
        path: The file.
        kind: What it holds.
        remedy: What to do about a damaged one, as a clause such as ``"train a new run"``.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is damaged, differs from its checksum or is of another format; one sentence
            names the file, the place in it, what is there and the remedy.
    """
    return _parse(to_utf8(Path(path).read_bytes()), kind, str(path), remedy)


def parse_record(payload: object, kind: type[Kind], where: str, remedy: str) -> Kind:
    """A record from decoded JSON, as :func:`read_record` makes it from a file.

    Args:
        payload: The JSON value; tuples stand for lists.
        kind: What it holds.
        where: Its place, for messages.
        remedy: What to do about a damaged one.

    Raises:
        InputError: It is damaged or of another format.
    """
    return _parse(json.dumps(payload).encode(), kind, where, remedy, checked=True)


def read_log(path: Path, kind: type[Kind], say: Callable[[str], None]) -> list[Kind]:
    """The records of a log; a torn last line is left out, and so is a damaged one.

    Nothing is lost by that: what a line said is found anew where it is needed, and the line stays.

    Args:
        path: The log; one that is missing has no lines.
        kind: What a line holds.
        say: Told in one sentence about lines that were left out, if there are any.
    """
    path = Path(path)
    if not path.exists():
        return []
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    records, damaged = [], []
    *lines, torn = content.split(b"\n")
    lines += [torn] if is_written(torn) else []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(parse_line(line, kind, path, number))
        except InputError as error:
            damaged.append(str(error))
    if damaged:
        say(describe_damaged(damaged[0], len(damaged)))
    return records


def parse_line(line: bytes, kind: type[Kind], path: Path, number: int) -> Kind:
    """The record in one line of a log.

    Args:
        line: Without its end.
        kind: What it holds.
        path: The log, for messages.
        number: Of the line, from 1 on.

    Raises:
        InputError: It is damaged, differs from its checksum or is of another format.
    """
    return _parse(line, kind, f"{path}, line {number}", _LINE_REMEDY)


def is_written(torn: bytes) -> bool:
    """Whether the end of a log behind its last line break was written to by something else.

    A write that was cut short is no damage, but nobody writes NUL.
    """
    return b"\0" in torn


def describe_damaged(first: str, count: int) -> str:
    """A warning about damaged lines of a log.

    Args:
        first: What is wrong with the first of them.
        count: How many there are.
    """
    more = f" (and {count - 1} more lines)" if count > 1 else ""
    return (
        f"warning: {first}{more}; what it said is found anew where it is needed; "
        "remove it to end this warning"
    )


def write_record(path: Path, record: FileRecord) -> None:
    """Replace a file by a record with a checksum, atomically.

    Raises:
        OSError: The write failed; the old file is untouched.
    """
    checksums.write_json(path, to_json(record))


def append_record(path: Path, record: FileRecord) -> None:
    """Append a record with a checksum to a log as one line.

    Raises:
        OSError: The write failed; the log is as it was.
    """
    checksums.append_record(path, to_json(record))


def _parse(
    content: bytes, kind: type[Kind], where: str, remedy: str, *, checked: bool = False
) -> Kind:
    """A record without its checksum, which is that of the file and not of the record."""
    try:
        record = kind.model_validate_json(content)
    except ValidationError as error:
        raise explain_damage(where, error, content, remedy) from None
    extra = record.model_extra
    if extra is not None and checksums.KEY in extra:
        if not checked and checksums.is_changed(content):
            raise InputError(
                f"{where} was damaged or edited: {checksums.CHANGED} ({checksums.ACCEPT}); {remedy}"
            )
        del extra[checksums.KEY]
        record.model_fields_set.discard(checksums.KEY)
    return record

"""Records as files: read in one way, written in one way, and refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from app.records.typed_json.damage import explain_damage
from app.records.typed_json.record import FileRecord, Kind, to_json
from supernet import files
from supernet.text_encoding import to_utf8


def read_record(path: Path, kind: type[Kind], remedy: str) -> Kind:
    """The content of a file.

    Args:
        path: The file.
        kind: What it holds.
        remedy: What to do about a damaged one, as a clause such as ``"train a new run"``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or of another format; one sentence names the file, the place in
            it, what is there and the remedy.
    """
    content = to_utf8(Path(path).read_bytes())
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise explain_damage(str(path), error, content, remedy) from None


def parse_record(payload: object, kind: type[Kind], where: str, remedy: str) -> Kind:
    """A record from decoded JSON, as :func:`read_record` makes it from a file.

    Args:
        payload: The JSON value; tuples stand for lists.
        kind: What it holds.
        where: Its place, for messages.
        remedy: What to do about a damaged one.

    Raises:
        ValueError: It is damaged or of another format.
    """
    content = json.dumps(payload)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise explain_damage(where, error, content.encode(), remedy) from None


def read_log(path: Path, kind: type[Kind]) -> list[Kind]:
    """The records of a log; a torn last line and lines that hold anything else are left out.

    Raises:
        ValueError: A complete line is not JSON, or the file is no text; the message names the
            line.
    """
    records = []
    for number, line in enumerate(files.read_lines(path), start=1):
        try:
            records.append(kind.model_validate_json(line))
        except ValidationError as error:
            if error.errors(include_input=False, include_url=False)[0]["type"] == "json_invalid":
                where = f"{path}, line {number}"
                raise explain_damage(where, error, line.encode(), "remove that line") from None
    return records


def write_record(path: Path, record: FileRecord) -> None:
    """Replace a file by a record, atomically.

    Raises:
        OSError: The write failed; the old file is untouched.
    """
    files.write_json(path, to_json(record))


def append_record(path: Path, record: FileRecord) -> None:
    """Append a record to a log as one line.

    Raises:
        OSError: The write failed; the log is as it was.
    """
    files.append_record(path, to_json(record))

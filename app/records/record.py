"""What every record has in common: it is frozen and strict, and its file has a format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from app.records.damage import explain_damage
from supernet import files
from supernet.space import Value

FORMAT = 1
Kind = TypeVar("Kind", bound="Record")


class Record(BaseModel):
    """A part of a file: a bool is no number here, a text no number, and no number is infinite.

    Keys that this release does not know are kept and written again, so that a file of a later
    release survives a command of this one.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, strict=True, extra="allow", allow_inf_nan=False, populate_by_name=True
    )

    def replace(self: Kind, **changes: object) -> Kind:
        """A copy with other values; what was derived from the old ones is derived anew."""
        copied = self.model_copy(update=changes)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


class FileRecord(Record):
    """The whole content of a file.

    Args:
        format: Which layout it has. Files of earlier releases call it ``version``, and a line of
            an earlier log has none.
    """

    format: Annotated[
        int, Field(ge=FORMAT, le=FORMAT, validation_alias=AliasChoices("format", "version"))
    ] = FORMAT


def _refuse_infinite(value: JsonValue) -> JsonValue:
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, float) and not math.isfinite(part):
            raise ValueError("a number that is not finite")
        parts.extend(part.values() if isinstance(part, dict) else ())
        parts.extend(part if isinstance(part, list) else ())
    return value


# What only another package can judge: the settings of a family, of a recipe, of an export.
Json = Annotated[JsonValue, AfterValidator(_refuse_infinite)]
# Counts enter arrays of 64-bit integers.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seed = Annotated[int, Field(ge=0)]
Choices = dict[str, Annotated[Value, Field(union_mode="left_to_right")]]


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
    content = Path(path).read_bytes()
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


def to_json(record: Record) -> dict[str, JsonValue]:
    """What is written of a record: the format first, then every field that was given."""
    content: dict[str, JsonValue] = record.model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    if isinstance(record, FileRecord):
        return {"format": record.format, **{k: v for k, v in content.items() if k != "format"}}
    return content


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


def drop_infinite(value: float) -> float | None:
    """A number as a record can hold it: ``None`` for one that is not finite."""
    return float(value) if math.isfinite(value) else None

"""What every record has in common: it is frozen and strict, and its file has a format."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
)

from supernet.errors import InputError
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
            raise InputError("a number that is not finite")
        parts.extend(part.values() if isinstance(part, dict) else ())
        parts.extend(part if isinstance(part, list) else ())
    return value


# What only another package can judge: the settings of a family, of a recipe, of an export.
Json = Annotated[JsonValue, AfterValidator(_refuse_infinite)]
# Counts enter arrays of 64-bit integers.
Count = Annotated[int, Field(ge=0, lt=2**63)]
# An architecture's name, which enters paths, command lines and pages.
Digest = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
Seed = Annotated[int, Field(ge=0)]
Choices = dict[str, Annotated[Value, Field(union_mode="left_to_right")]]


def to_json(record: Record) -> dict[str, JsonValue]:
    """What is written of a record: the format first, then every field that was given."""
    content: dict[str, JsonValue] = record.model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    if isinstance(record, FileRecord):
        return {"format": record.format, **{k: v for k, v in content.items() if k != "format"}}
    return content


def drop_infinite(value: float) -> float | None:
    """A number as a record can hold it: ``None`` for one that is not finite."""
    return float(value) if math.isfinite(value) else None

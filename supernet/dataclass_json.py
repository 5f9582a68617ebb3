"""Frozen dataclasses as JSON and back, by the annotations of their fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from supernet.errors import InputError
from supernet.space import nearest

Record = TypeVar("Record")

# Metadata of a field that holds a dataclass whose fields stand in the JSON of the whole, where it
# stands itself. Such a field has a default.
INLINE: Mapping[str, bool] = {"inline": True}

# What a value of each type is called in messages. An int is a fine float, True is no number.
_SCALARS: Mapping[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a finite number"),
    str: ((str,), "a word"),
    bool: ((bool,), "true or false"),
    NoneType: ((NoneType,), "null"),
}


def encode_dataclass(record: Any) -> dict[str, Any]:
    """Turn a dataclass into what JSON has: objects, lists, numbers, words, truth values and null.

    Args:
        record: A dataclass whose fields hold such values, tuples of them, or further dataclasses.
            The fields of one whose metadata is :data:`INLINE` stand among those of ``record``.
    """
    found: dict[str, Any] = {}
    for field in fields(record):
        value = _encode(getattr(record, field.name))
        found |= value if _is_inline(field) else {field.name: value}
    return found


def decode_dataclass(kind: type[Record], payload: object, where: str) -> Record:
    """Make a dataclass of what :func:`encode_dataclass` and JSON made of one.

    Numbers keep their type, so that a whole number in a field of floats stays whole.

    Args:
        kind: The dataclass; its annotations may name numbers, words, truth values, ``None``,
            tuples, further dataclasses, and unions of these.
        payload: Its fields by name; missing ones take their defaults.
        where: What messages call the whole (``"the family config"``).

    Returns:
        An instance of ``kind``.

    Raises:
        InputError: A field is unknown (the nearest legal name is in the message), missing or of
            another type; or what the dataclass itself refuses.
    """
    if not isinstance(payload, Mapping):
        raise InputError(f"{where} is {payload!r}; it must be an object with fields by name")
    known = _list_names(kind)
    for name in payload:
        if name not in known:
            raise InputError(f"unknown field {name!r}{nearest(str(name), known)} in {where}")
    given = _gather_inline(kind, payload)
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in given and _is_required(field):
            raise InputError(f"field {field.name!r} is missing in {where}")
    types = find_field_types(kind)  # type: ignore[arg-type]
    return kind(**{name: _decode(v, types[name], name, where) for name, v in given.items()})


@cache
def find_field_types(kind: type) -> Mapping[str, Any]:
    """Evaluate the annotations of a dataclass, by the name of the field."""
    return get_type_hints(kind)


def find_mismatch(value: object, annotation: Any) -> str | None:
    """Say what a value must be to fit an annotation of a number, a word or a truth value.

    Args:
        value: What stands in the field.
        annotation: Such a type, or a union of some of them and ``None``.

    Returns:
        ``"a whole number"``, say; ``None`` when the value fits.
    """
    options = get_args(annotation) or (annotation,)
    if any(_fits(value, option) for option in options):
        return None
    return " or ".join(_SCALARS[option][1] for option in options if option is not NoneType)


def _fits(value: object, kind: Any) -> bool:
    if isinstance(value, bool) and kind is not bool:
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, _SCALARS[kind][0])


def _list_names(kind: Any) -> list[str]:
    """Names of fields in the JSON of a dataclass, those of its inline ones among them."""
    types, names = find_field_types(kind), []
    for field in fields(kind):
        names += _list_names(types[field.name]) if _is_inline(field) else [field.name]
    return names


def _gather_inline(kind: Any, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Put the fields of every inline dataclass under its name; missing ones are the default's."""
    given = dict(payload)
    for field in filter(_is_inline, fields(kind)):
        parts = _encode(field.default)
        given[field.name] = {name: given.pop(name, value) for name, value in parts.items()}
    return given


def _is_inline(field: Field[Any]) -> bool:
    return bool(field.metadata.get("inline", False))


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _encode(value: Any) -> Any:
    if is_dataclass(value):
        return encode_dataclass(value)
    if isinstance(value, (tuple, list)):
        return [_encode(entry) for entry in value]
    return value


def _decode(value: Any, annotation: Any, place: str, where: str) -> Any:
    """The value of one field or entry; ``place`` is its path within the whole."""
    if is_dataclass(annotation):
        if isinstance(value, annotation):  # type: ignore[arg-type]
            return value
        return decode_dataclass(annotation, value, f"{place} of {where}")  # type: ignore[arg-type]
    if get_origin(annotation) is tuple:
        return _decode_tuple(value, get_args(annotation), place, where)
    if annotation in _SCALARS:
        wanted = find_mismatch(value, annotation)
        if wanted is not None:
            raise InputError(f"{place} = {value!r} in {where} is impossible; it must be {wanted}")
        return value
    if get_origin(annotation) in (Union, UnionType):
        return _decode_union(value, get_args(annotation), place, where)
    raise InputError(
        f"field {place} of {where} is annotated {annotation}, which JSON cannot hold; use numbers, "
        "words, tuples and dataclasses"
    )


def _decode_tuple(value: Any, types: tuple[Any, ...], place: str, where: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f"{place} = {value!r} in {where} is impossible; it must be a list")
    if types[-1:] == (Ellipsis,):
        types = (types[0],) * len(value)
    if len(types) != len(value):
        raise InputError(
            f"{place} = {value!r} in {where} is impossible; it must be a list of {len(types)}"
        )
    return tuple(
        _decode(entry, kind, f"{place}[{index}]", where)
        for index, (entry, kind) in enumerate(zip(value, types, strict=True))
    )


def _decode_union(value: Any, options: tuple[Any, ...], place: str, where: str) -> Any:
    if value is None and NoneType in options:
        return None
    problems = []
    for option in options:
        if option is NoneType:
            continue
        try:
            return _decode(value, option, place, where)
        except InputError as problem:
            problems.append(str(problem))
    raise InputError("; or ".join(problems))

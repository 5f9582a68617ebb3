"""What is wrong with a file, in one sentence: where in it, what is there and what to do."""

from __future__ import annotations

import json

from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

from supernet.errors import InputError

_LONGEST = 40
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "an object",
    "string_pattern_mismatch": "12 hexadecimal digits",
    "string_type": "a text",
    "tuple_type": "a list",
}


def explain_damage(where: str, error: ValidationError, content: bytes, remedy: str) -> ValueError:
    """The first thing that is wrong, as an error to raise.

    Args:
        where: The file, and the line of a log.
        error: What the validation found.
        content: Content of the file.
        remedy: What to do about it, as a clause.
    """
    found = error.errors(include_url=False)
    if found[0]["type"] == "json_invalid":
        reason = found[0]["msg"].removeprefix("Invalid JSON: ")
        return InputError(
            f"{where} is not valid JSON ({reason}); it was damaged or edited: {remedy}"
        )
    # A file of another format may differ in everything else.
    for detail in found:
        if detail["loc"] in (("format",), ("version",)):
            return InputError(
                f"{where} has {detail['loc'][0]} {_show(detail['input'])}, and this release reads "
                f"1: {remedy}, or use the release that wrote it"
            )
    payload = _decode(content)
    place = _place(found[0], payload)
    # Each alternative for a place says what it would have taken.
    details = [detail for detail in found if _place(detail, payload) == place]
    return InputError(f"{where} was damaged or edited: {_complaint(place, details)}; {remedy}")


def _decode(content: bytes) -> JsonValue:
    """What was read; ``None`` for numbers of thousands of digits, which only its reader takes."""
    try:
        payload: JsonValue = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return payload


def _complaint(place: tuple[str | int, ...], details: list[ErrorDetails]) -> str:
    detail = details[0]
    if detail["type"] == "missing":
        return f"{_write_place(place[:-1])} lacks {place[-1]!r}"
    if detail["type"] == "value_error":
        return f"{_write_place(place)}: {detail['msg'].removeprefix('Value error, ')}"
    wanted = dict.fromkeys(_describe_expected(d) for d in details)
    return f"{_write_place(place)} is {_show(detail['input'])}, but must be {' or '.join(wanted)}"


def _describe_expected(detail: ErrorDetails) -> str:
    known = _EXPECTED.get(detail["type"])
    return known or detail["msg"].removeprefix("Input should be ")


def _place(detail: ErrorDetails, payload: JsonValue) -> tuple[str | int, ...]:
    """The location without the names of alternatives, which are no keys of the file."""
    place: list[str | int] = []
    for part in detail["loc"]:
        if isinstance(payload, dict) and part in payload:
            payload = payload[str(part)]
        elif isinstance(payload, list) and isinstance(part, int) and part < len(payload):
            payload = payload[part]
        elif detail["type"] != "missing" or part != detail["loc"][-1]:
            continue
        place.append(part)
    return tuple(place)


def _write_place(place: tuple[str | int, ...]) -> str:
    """``points[3].objectives.accuracy`` for ``("points", 3, "objectives", "accuracy")``."""
    text = "".join(_write_step(part) for part in place)
    return text.removeprefix(".") or "it"


def _write_step(part: str | int) -> str:
    # A key may hold anything, line breaks included.
    plain = isinstance(part, str) and part.isprintable()
    return f".{part}" if plain else f"[{part!r}]"


def _show(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 1000:
        return "a number of hundreds of digits"
    text = repr(value) if isinstance(value, float) else json.dumps(value, default=repr)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

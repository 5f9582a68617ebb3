"""Parts of a recipe as a user changes them for a network alone: ``NAME=VALUE,NAME=VALUE``."""

from __future__ import annotations

from dataclasses import fields

from supernet.errors import InputError
from supernet.space import nearest
from supernet.training import Recipe


def read_parts(text: str) -> dict[str, str | float | None]:
    """Read ``"learning_rate=0.1,steps=300"`` as fields of a recipe.

    Raises:
        InputError: A part has another form, an unknown name, or a value of another type.
    """
    kinds = {field.name: str(field.type) for field in fields(Recipe)}
    changes: dict[str, str | float | None] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not equals or not value:
            raise InputError(f"recipe part {part!r} is not NAME=VALUE (learning_rate=0.1)")
        if name not in kinds:
            raise InputError(f"a recipe has no field {name!r}{nearest(name, list(kinds))}")
        changes[name] = _read_value(name, value, kinds[name])
    return changes


def _read_value(name: str, text: str, kind: str) -> str | float:
    if kind.startswith("bool"):
        raise InputError(f"{name} cannot be changed for a stand-alone training")
    read = int if kind.startswith("int") else float if kind.startswith("float") else str
    try:
        return read(text)
    except ValueError:
        wanted = "a whole number" if read is int else "a number"
        raise InputError(f"{name} = {text!r} is impossible; it must be {wanted}") from None

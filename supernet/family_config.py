"""Configurations of families as JSON and back, whichever family a module is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from inspect import signature
from types import ModuleType
from typing import Any, get_type_hints

from supernet.dataclass_json import decode_dataclass, encode_dataclass
from supernet.errors import InputError

WHERE = "the family config"


def encode_config(family: ModuleType, config: Any) -> dict[str, Any]:
    """Turn a configuration into a JSON-able record.

    Args:
        family: The module it belongs to; a ``to_json`` of its own goes before the annotations.
        config: What its ``configure`` returned.
    """
    own = getattr(family, "to_json", None)
    return encode_dataclass(config) if own is None else dict(own(config))


def decode_config(family: ModuleType, payload: Mapping[str, Any]) -> Any:
    """Make a configuration of the record that :func:`encode_config` made of one.

    Args:
        family: The module it belongs to; a ``from_json`` of its own goes before the annotations.
        payload: The record; missing fields take their defaults.

    Returns:
        What the family's ``build`` takes.

    Raises:
        InputError: A field is unknown, missing, of another type or refused by the family; or the
            family does not say what its configuration is.
    """
    own = getattr(family, "from_json", None)
    if own is not None:
        return own(payload)
    return decode_dataclass(find_config_class(family), payload, WHERE)


def find_config_class(family: ModuleType) -> type:
    """Find the dataclass that a family's ``build`` takes, by the annotation of its parameter.

    Raises:
        InputError: There is no such annotation, or it names no dataclass.
    """
    name = next(iter(signature(family.build).parameters), "")
    try:
        kind = get_type_hints(family.build).get(name)
    except NameError:
        # The annotation names what is imported for type checkers only.
        kind = None
    if not isinstance(kind, type) or not is_dataclass(kind):
        raise InputError(
            f"module {family.__name__!r} does not say what its configuration is; annotate it in "
            "build(config: Config), where Config is a frozen dataclass"
        )
    return kind

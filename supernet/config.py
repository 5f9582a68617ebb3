"""Reading a family's configuration back from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from supernet.space import nearest

Config = TypeVar("Config")


def known_fields(config: type, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a configuration dataclass, with the tuples that JSON turned into lists.

    Args:
        config: The dataclass.
        payload: What ``dataclasses.asdict`` and JSON made of one.

    Raises:
        ValueError: A field is unknown; the message has the nearest legal name.
    """
    legal = [field.name for field in fields(config)]
    for name in payload:
        if name not in legal:
            raise ValueError(f"unknown field {name!r}{nearest(name, legal)} in the family config")
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in payload.items()
    }


def read_config(config: type[Config], payload: Mapping[str, Any], **parts: type) -> Config:
    """A configuration dataclass from what ``dataclasses.asdict`` and JSON made of one.

    Args:
        config: The dataclass.
        payload: Its record; missing fields take their defaults.
        parts: Fields that hold a sequence of another dataclass, and which one (``stages=Stage``).

    Raises:
        ValueError: A field is unknown, or what the configuration itself refuses.
    """
    values = known_fields(config, payload)
    for name, part in parts.items():
        if name in values:
            values[name] = tuple(
                item if isinstance(item, part) else part(**known_fields(part, item))
                for item in values[name]
            )
    return config(**values)

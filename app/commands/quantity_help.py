"""Help texts that name quantities; made from the table of quantities, so that none is left out."""

from __future__ import annotations

from collections.abc import Mapping

from app.records.quantities import QUANTITIES


def describe_objectives() -> str:
    """What ``--objectives`` may name."""
    names: list[str] = []
    for quantity in QUANTITIES.values():
        names.append(quantity.short_name)
        if quantity.per_device:
            names.append(f"{quantity.short_name}@DEVICE")
    return f"Of {', '.join(names)}, or your own module."


def describe_limits(example: str) -> str:
    """What ``--limit`` may be written with.

    Args:
        example: A limit of this command, as people write it.
    """
    shared: dict[str, list[str]] = {}
    for quantity in QUANTITIES.values():
        if quantity.suffixes:
            spelled = " ".join(_shortest(quantity.suffixes))
            shared.setdefault(spelled, []).append(quantity.short_name)
    rules = [f"{', '.join(names)} {spelled}" for spelled, names in shared.items()]
    return f"Limit, repeatable: {example}, accuracy>=0.9. Suffixes: {'; '.join(rules)}."


def _shortest(suffixes: Mapping[str, float]) -> list[str]:
    """One spelling of each factor, the first."""
    first: dict[float, str] = {}
    for suffix, factor in suffixes.items():
        first.setdefault(factor, suffix)
    return list(first.values())

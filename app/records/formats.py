"""The number format of every unit of an architecture, read from its choices; needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from supernet.errors import InputError
from supernet.quantization.formats import make_format
from supernet.space import Value

_NAMED, _WEIGHTS, _ACTIVATIONS = ".precision", ".weight_bits", ".activation_bits"


def read_formats(choices: Mapping[str, Value]) -> dict[str, str]:
    """Read the format of each unit, or layer, that has a choice of formats.

    Args:
        choices: Those of an architecture that are active.

    Returns:
        Names of formats by module path, in the order of the choices; nothing where precision is
        not a choice.

    Raises:
        InputError: Bits that no format has.
    """
    found = {}
    for name, value in choices.items():
        if name.endswith(_NAMED):
            found[name.removesuffix(_NAMED)] = str(value)
        elif name.endswith(_WEIGHTS):
            unit = name.removesuffix(_WEIGHTS)
            bits = choices.get(unit + _ACTIVATIONS)
            if isinstance(value, int) and isinstance(bits, int):
                found[unit] = _name_bits(value, bits)
    return found


def _name_bits(weights: int, activations: int) -> str:
    try:
        return make_format(weights, activations).name
    except InputError:
        # A file may hold what no release offers, and is shown as it is.
        return f"w{weights}a{activations}"


def group_formats(formats: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Group units by their format, formats in order of first appearance."""
    found: dict[str, list[str]] = {}
    for unit, name in formats.items():
        found.setdefault(name, []).append(unit)
    return {name: tuple(units) for name, units in found.items()}


def count_formats(formats: Mapping[str, str]) -> str:
    """Say how many units compute in which format, most frequent first: ``7 int8, 2 fp32``."""
    groups = sorted(group_formats(formats).items(), key=lambda pair: -len(pair[1]))
    return ", ".join(f"{len(units)} {name}" for name, units in groups)


def list_formats(formats: Mapping[str, str]) -> str:
    """Say which units compute in which format: ``int8: stem, head; fp32: stages.0.0``."""
    groups: Iterable[tuple[str, tuple[str, ...]]] = group_formats(formats).items()
    return "; ".join(f"{name}: {', '.join(units)}" for name, units in groups)

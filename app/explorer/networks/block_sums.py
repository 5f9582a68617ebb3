"""What the blocks of a network take and hold together: sums over the units in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# A choice of number formats is named after a module, and not after a part of the network.
_FORMATS = (".precision", ".weight_bits", ".activation_bits")
# What a latency table lists beside the modules of a network.
_OVERHEAD, _CONVERSION = "fixed overhead", "conversion between "
# A sum of stored latencies is rounded.
_ROUNDING = 1e-3
OUTSIDE, NOT_UNITS = "units outside the blocks", "conversions and fixed overhead"
REST, WHOLE = "rest, in no unit", "whole network"


@dataclass(frozen=True)
class Amounts:
    """What a part of a network takes and holds; ``None`` is "not known".

    Args:
        latency_ms: By the latency table.
        parameters: Trainable numbers.
        size_bytes: Of weights and statistics as float32.
    """

    latency_ms: float | None = None
    parameters: float | None = None
    size_bytes: float | None = None


@dataclass(frozen=True)
class Block:
    """One row of sums.

    Args:
        name: Of the part, as the picture of the network names it, or what else is summed.
        units: How many units are in it.
        amounts: Their sums.
        level: 1 for a part that is summed by itself, 2 for a part within it, which the whole does
            not count again.
    """

    name: str
    units: int
    amounts: Amounts
    level: int = 1


def sum_blocks(
    names: Iterable[str], units: Mapping[str, Amounts], whole: Amounts
) -> tuple[Block, ...]:
    """Add up units by the part of the network that they are in.

    The rows of level 1 but the last add up to the last one, which is the whole network.

    Args:
        names: Names of all choices, which begin with the part that they are of.
        units: What each unit takes and holds, in the order in which they compute; conversions
            between number formats and the fixed overhead belong to no block.
        whole: What is known of the network as a whole; what its units lack of it is a rest.

    Returns:
        No rows where no unit is in a part of the network, as far as names say.
    """
    parts = list_parts(names)
    modules = [name for name in units if name != _OVERHEAD and not name.startswith(_CONVERSION)]
    found = {unit: find_part(unit, parts) for unit in modules}
    outer = {unit: part.partition(".")[0] for unit, part in found.items()}
    blocks = []
    for part in dict.fromkeys(filter(None, outer.values())):
        blocks.append(_add_up(part, [unit for unit in modules if outer[unit] == part], units))
        for inner in dict.fromkeys(name for name in found.values() if name.startswith(f"{part}.")):
            within = [unit for unit in modules if found[unit] == inner]
            if len(within) > 1:
                blocks.append(_add_up(inner, within, units, level=2))
    if not blocks:
        return ()
    beside = [unit for unit in modules if not outer[unit]]
    free = [unit for unit in units if unit not in found]
    if beside:
        blocks.append(_add_up(OUTSIDE, beside, units))
    if free:
        blocks.append(_add_up(NOT_UNITS, free, units))
    together = _add_up(WHOLE, list(units), units).amounts
    rest = Amounts(
        _subtract(whole.latency_ms, together.latency_ms, _ROUNDING),
        _subtract(whole.parameters, together.parameters),
        _subtract(whole.size_bytes, together.size_bytes),
    )
    if rest != Amounts():
        blocks.append(Block(REST, 0, rest))
    total = Amounts(
        _add(together.latency_ms, rest.latency_ms),
        _add(together.parameters, rest.parameters),
        _add(together.size_bytes, rest.size_bytes),
    )
    return (*blocks, Block(WHOLE, len(modules), total))


def list_parts(names: Iterable[str]) -> tuple[str, ...]:
    """The parts that choices are of, and the parts that these are in, in their order."""
    parts: dict[str, None] = {}
    for name in names:
        if not name.endswith(_FORMATS):
            words = name.split(".")[:-1]
            parts.update((".".join(words[: n + 1]), None) for n in range(len(words)))
    return tuple(parts)


def find_part(unit: str, parts: Sequence[str]) -> str:
    """The innermost part that a unit is in; empty where its name says of none.

    Modules count from 0 in lists that have a name in the plural, parts from 1 behind a name in
    the singular: ``stages.0.1`` is in ``stage1.block2``, and ``encoder.layer.3`` in ``layer4``.
    Parts that begin anew within each outer part, as ``stage2.layer1``, are counted through.

    Args:
        unit: Path of a module.
        parts: Of :func:`list_parts`.
    """
    words = unit.split(".")
    if words[0] in parts:
        return words[0]
    place = next((n for n, word in enumerate(words) if word.isdecimal()), 0)
    if not place:
        return ""
    kind = re.compile(rf"(?:.+\.)?{re.escape(words[place - 1].removesuffix('s'))}\d+")
    found = _count_to([part for part in parts if kind.fullmatch(part)], int(words[place]))
    for word in words[place + 1 :]:
        if not (found and word.isdecimal()):
            break
        inner = [part for part in parts if part.rpartition(".")[0] == found]
        found = _count_to(inner, int(word), within=True) or found
    return found


def _count_to(parts: Sequence[str], index: int, *, within: bool = False) -> str:
    """The part of an index from 0: by its number, or by its place where numbers begin anew."""
    if not within and any("." in part for part in parts):
        return parts[index] if index < len(parts) else ""
    return next((part for part in parts if re.fullmatch(rf".*\D{index + 1}", part)), "")


def _add_up(
    name: str, within: Sequence[str], units: Mapping[str, Amounts], level: int = 1
) -> Block:
    found = [units[unit] for unit in within]
    amounts = Amounts(
        _total([amounts.latency_ms for amounts in found]),
        _total([amounts.parameters for amounts in found]),
        _total([amounts.size_bytes for amounts in found]),
    )
    return Block(name, 0 if name == NOT_UNITS else len(within), amounts, level)


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _subtract(whole: float | None, part: float | None, tolerance: float = 0.0) -> float | None:
    """What is missing of a whole; ``None`` where nothing is, but for a relative tolerance."""
    if whole is None or part is None or abs(whole - part) <= tolerance * abs(whole):
        return None
    return whole - part


def _add(part: float | None, rest: float | None) -> float | None:
    return part if part is None or rest is None else part + rest

"""An architecture laid out layer by layer, and many side by side, from its choices alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.records.searches.front import Point
from supernet.space import SearchSpace, Value


@dataclass(frozen=True)
class Gene:
    """One choice of one architecture.

    Args:
        name: Full name of the choice.
        value: Its value; ``None`` when the choice is inert (the layer is skipped).
        share: Where the value stands between the smallest (0) and the largest (1) legal one.
        legal: All legal values, smallest first; empty when the space is unknown.
        other: The value in the architecture compared with; equal to ``value`` without one.
    """

    name: str
    value: Value | None
    share: float | None
    legal: tuple[Value, ...]
    other: Value | None

    @property
    def changed(self) -> bool:
        """Whether the architecture compared with differs here."""
        return self.value != self.other


@dataclass(frozen=True)
class Layer:
    """The genes of one part of the network, by the last word of their names.

    ``level`` 0 is the whole network, 1 a part that contains others, 2 a part that does not.
    """

    name: str
    level: int
    genes: Mapping[str, Gene]

    @property
    def skipped(self) -> bool:
        """Whether nothing of this part is in the network."""
        return all(gene.value is None for gene in self.genes.values())


@dataclass(frozen=True)
class Genome:
    """Architectures side by side: ``shares[row][column]`` is choice ``row`` of point ``column``."""

    names: tuple[str, ...]
    digests: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    values: tuple[tuple[Value | None, ...], ...]


def group_layers(
    space: SearchSpace | None,
    choices: Mapping[str, Value],
    other: Mapping[str, Value] | None = None,
) -> tuple[Layer, ...]:
    """Group choices by the part of the network their names begin with, in the space's order.

    Args:
        space: Gives order, legal values and skipped layers; without it only ``choices`` show.
        choices: Active choices of the architecture.
        other: Active choices of an architecture to compare with.
    """
    compared = choices if other is None else other
    names = space.names if space else tuple(dict.fromkeys((*choices, *compared)))
    parts: dict[str, dict[str, Gene]] = {}
    for name in names:
        part, _, last = name.rpartition(".")
        value = choices.get(name)
        legal = space.choice(name).values if space else ()
        gene = Gene(name, value, place_value(legal, value), legal, compared.get(name))
        parts.setdefault(part, {})[last] = gene

    def level(part: str) -> int:
        if not part:
            return 0
        return 1 if any(other.startswith(f"{part}.") for other in parts) else 2

    rows = [Layer(part or "network", level(part), genes) for part, genes in parts.items()]
    # The whole network comes first wherever the space lists it; the rest keeps its order.
    return tuple(sorted(rows, key=lambda row: row.level != 0))


def place_value(legal: Sequence[Value], value: Value | None) -> float | None:
    """Position of ``value`` among the legal ones on a scale of 0 to 1; 1 for a single one."""
    if value is None or value not in legal:
        return None
    return legal.index(value) / (len(legal) - 1) if len(legal) > 1 else 1.0


def list_properties(rows: Sequence[Layer]) -> tuple[str, ...]:
    """The properties of the innermost layers, in order of appearance."""
    return tuple(dict.fromkeys(name for row in rows if row.level == 2 for name in row.genes))


def list_changes(rows: Sequence[Layer]) -> tuple[Gene, ...]:
    """The genes in which two architectures differ."""
    return tuple(gene for row in rows for gene in row.genes.values() if gene.changed)


def line_up(space: SearchSpace | None, points: Sequence[Point]) -> Genome:
    """Choices of several architectures, one row per choice, one column per point."""
    names = space.names if space else tuple(dict.fromkeys(n for p in points for n in p.choices))
    legal = {
        name: space.choice(name).values
        if space
        else tuple(
            dict.fromkeys(sorted((p.choices[name] for p in points if name in p.choices), key=str))
        )
        for name in names
    }
    values = tuple(tuple(point.choices.get(name) for point in points) for name in names)
    return Genome(
        names,
        tuple(point.digest for point in points),
        tuple(
            tuple(place_value(legal[name], value) for value in row)
            for name, row in zip(names, values, strict=True)
        ),
        values,
    )

"""What subnetworks are made of, as numbers: cost units and the dense arrays that add them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from supernet.graph.language import Graph
from supernet.space import SearchSpace

BORDER = "border"
"""Precision of what converts between two units of different precision."""

JOINT = "+"
"""Stands between the names of formats in the precision of a unit whose layers have their own."""

ARROW = ">"
"""Stands between the names of two units in that of the border between them."""


@dataclass(frozen=True, slots=True)
class CostUnit:
    """The smallest piece of a network with a latency of its own.

    Two units are equal when nothing that determines their cost differs: operations, shapes,
    resolution and precision. Weight values and the place in the network do not count.
    """

    graph: Graph
    precision: str = "fp32"

    @property
    def digest(self) -> str:
        """Content hash: the key of the unit in latency tables, on any machine."""
        return f"{self.graph.digest}-{self.precision}"

    @property
    def formats(self) -> tuple[str, ...]:
        """Names of the number formats in it, one or one for each layer; none of a border."""
        return () if self.precision == BORDER else tuple(self.precision.split(JOINT))

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample."""
        return self.graph.macs

    @property
    def parameters(self) -> int:
        """Number of learned weights."""
        return self.graph.parameters


@dataclass(frozen=True, slots=True)
class UnitVariants:
    """Everything one part of a supernet can become.

    Args:
        name: Module path of the part.
        choices: Choices that change it, in the order of the space.
        variants: One unit for each combination of their values, row-major; ``None``: not there.
        size_bytes: Storage of each variant, weights at their own precision, statistics included.
    """

    name: str
    choices: tuple[str, ...]
    variants: tuple[CostUnit | None, ...]
    size_bytes: tuple[int, ...]

    @property
    def title(self) -> str:
        """What it is called where people read it."""
        first, arrow, second = self.name.partition(ARROW)
        return f"conversion between {first} and {second}" if arrow else self.name


@dataclass(frozen=True)
class CostModel:
    """Additive costs of every architecture of a space, as one gather and one sum."""

    space: SearchSpace
    units: tuple[UnitVariants, ...]

    @cached_property
    def distinct(self) -> tuple[CostUnit, ...]:
        """Each different unit once, in order of first appearance."""
        return tuple(
            {v.digest: v for unit in self.units for v in unit.variants if v is not None}.values()
        )

    @cached_property
    def _plan(self) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]], ...]:
        place: Mapping[str, int] = {u.digest: i for i, u in enumerate(self.distinct)}
        absent = len(self.distinct)
        plan = []
        for unit in self.units:
            columns = [self.space.index(name) for name in unit.choices]
            sizes = [int(self.space.cardinalities[c]) for c in columns]
            strides = [prod(sizes[i + 1 :]) for i in range(len(sizes))]
            table = [absent if v is None else place[v.digest] for v in unit.variants]
            plan.append(
                (
                    np.array(columns, dtype=np.intp),
                    np.array(strides, dtype=np.intp),
                    np.array(table, dtype=np.intp),
                )
            )
        return tuple(plan)

    def variant(self, positions: NDArray[np.integer]) -> NDArray[np.intp]:
        """Which variant of each unit is used; ``(n, len(space))`` in, ``(n, len(units))`` out."""
        result = np.empty((len(positions), len(self.units)), dtype=np.intp)
        for column, (columns, strides, _) in enumerate(self._plan):
            result[:, column] = positions[:, columns] @ strides
        return result

    def index(self, positions: NDArray[np.integer]) -> NDArray[np.intp]:
        """Index of each unit into ``distinct``; ``len(distinct)`` marks an absent unit.

        ``(n, len(space))`` in, ``(n, len(units))`` out.
        """
        result = self.variant(positions)
        for column, (_, _, table) in enumerate(self._plan):
            result[:, column] = table[result[:, column]]
        return result

    def total(
        self, positions: NDArray[np.integer], values: NDArray[np.floating] | NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Sum over units of ``values``, one per distinct unit; ``(n, len(space))`` to ``(n,)``."""
        padded = np.append(np.asarray(values, dtype=np.float64), 0.0)
        result = np.zeros(len(positions))
        for columns, strides, table in self._plan:
            result += padded[table][positions[:, columns] @ strides]
        return result

    def maximum(
        self, positions: NDArray[np.integer], values: NDArray[np.floating] | NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Largest over units of ``values``, one per distinct unit and none negative.

        ``(n, len(space))`` in, ``(n,)`` out.
        """
        padded = np.append(np.asarray(values, dtype=np.float64), 0.0)
        result = np.zeros(len(positions))
        for columns, strides, table in self._plan:
            np.maximum(result, padded[table][positions[:, columns] @ strides], out=result)
        return result

    def macs(self, positions: NDArray[np.integer]) -> NDArray[np.float64]:
        """Multiply-accumulates for one sample, shape ``(n,)``."""
        return self.total(positions, np.array([unit.macs for unit in self.distinct]))

    def parameters(self, positions: NDArray[np.integer]) -> NDArray[np.float64]:
        """Number of learned weights, shape ``(n,)``."""
        return self.total(positions, np.array([unit.parameters for unit in self.distinct]))

    def size_bytes(self, positions: NDArray[np.integer]) -> NDArray[np.float64]:
        """Bytes to store the weights, each at its own precision, shape ``(n,)``."""
        result = np.zeros(len(positions))
        for unit, (columns, strides, _) in zip(self.units, self._plan, strict=True):
            result += np.array(unit.size_bytes, dtype=np.float64)[positions[:, columns] @ strides]
        return result

    def minimum(self, values: NDArray[np.floating]) -> float:
        """A lower bound of :meth:`total`: the cheapest variant of every unit, chosen freely."""
        padded = np.append(np.asarray(values, dtype=np.float64), 0.0)
        return float(sum(padded[table].min() for _, _, table in self._plan))

"""A latency table as dense arrays: predicting a population is one gather-and-sum."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.costs.cost_model import CostModel
from supernet.space import Architecture, SearchSpace

_CHUNK = 8192  # rows whose index and sum arrays stay in the second-level cache


@dataclass(frozen=True)
class CompiledTable:
    """Predictions for one space.

    Args:
        space: The space.
        units: Names of the units, in network order.
        columns: Per unit, the columns of an encoded architecture it depends on.
        strides: Per unit, what each column's position counts in ``tables``.
        tables: Per unit, latency in milliseconds by combination of positions; 0 where absent.
        fixed_ms: Latency of every network beyond its units.
    """

    space: SearchSpace
    units: tuple[str, ...]
    columns: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    tables: tuple[NDArray[np.float64], ...]
    fixed_ms: float

    @classmethod
    def build(cls, cost_model: CostModel, unit_ms: np.ndarray, fixed_ms: float) -> CompiledTable:
        """Spread ``unit_ms``, one value per distinct unit, over the variants of all units."""
        space = cost_model.space
        value = {u.digest: float(v) for u, v in zip(cost_model.distinct, unit_ms, strict=True)}
        columns = [tuple(space.index(n) for n in unit.choices) for unit in cost_model.units]
        sizes = [[int(space.cardinalities[c]) for c in row] for row in columns]
        return cls(
            space,
            tuple(unit.title for unit in cost_model.units),
            tuple(columns),
            tuple(tuple(prod(s[i + 1 :]) for i in range(len(s))) for s in sizes),
            tuple(
                np.array([0.0 if v is None else value[v.digest] for v in unit.variants])
                for unit in cost_model.units
            ),
            fixed_ms,
        )

    def predict(self, positions: NDArray[np.integer]) -> NDArray[np.float64]:
        """Predict milliseconds ``(n,)`` of encoded architectures ``(n, len(space))``."""
        positions = np.asarray(positions)
        result = np.full(len(positions), self.fixed_ms)
        for start in range(0, len(positions), _CHUNK):
            rows = slice(start, start + _CHUNK)
            genes = np.ascontiguousarray(positions[rows].T, dtype=np.intp)
            for columns, strides, table in zip(
                self.columns, self.strides, self.tables, strict=True
            ):
                if columns:
                    result[rows] += table.take(_index(genes, columns, strides))
                else:
                    result[rows] += table[0]
        return result

    def break_down(self, architecture: Architecture) -> list[dict[str, Any]]:
        """Break a prediction down into what each unit adds.

        Returns:
            ``{"unit": name, "latency_ms": value}`` in network order, absent units left out,
            then what passing from one precision to another costs, and a last row
            ``"fixed overhead"``.
        """
        genes = self.space.encode([architecture]).T.astype(np.intp)
        parts = []
        for name, columns, strides, table in zip(
            self.units, self.columns, self.strides, self.tables, strict=True
        ):
            value = float(table[int(_index(genes, columns, strides)[0]) if columns else 0])
            if value > 0:
                parts.append({"unit": name, "latency_ms": value})
        parts.append({"unit": "fixed overhead", "latency_ms": self.fixed_ms})
        return parts

    def find_fastest(self, *, seed: int = 0) -> tuple[Architecture, float]:
        """Find an architecture of least predicted latency, and that latency in milliseconds.

        Steepest descent over one-gene changes from the smallest architecture and the best of
        1000 random ones; for spaces whose larger options cost more it is the minimum.
        """
        rng = np.random.default_rng(seed)
        sample = self.space.sample(rng, 1000)
        starts = [
            self.space.encode([self.space.smallest])[0],
            sample[int(self.predict(sample).argmin())],
        ]
        best, least = starts[0], float("inf")
        for row in starts:
            current = float(self.predict(row[None])[0])
            while True:
                around = self.space.neighbours(row)
                values = self.predict(around) if len(around) else np.array([np.inf])
                if values.min() >= current:
                    break
                row, current = around[int(values.argmin())], float(values.min())
            if current < least:
                best, least = row, current
        return self.space.decode(best[None])[0], least


def _index(
    genes: NDArray[np.intp], columns: tuple[int, ...], strides: tuple[int, ...]
) -> NDArray[np.intp]:
    """Row-major index of the combination of positions, ``(n,)``; ``genes`` is (genes, n)."""
    index = genes[columns[0]] * strides[0]
    for column, stride in zip(columns[1:], strides[1:], strict=True):
        index += genes[column] * stride
    return index

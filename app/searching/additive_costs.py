"""Latency tables and cost models in the form that exact selection works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hardware.compiled_table import CompiledTable
from search.arrays.additive import AdditiveTerms
from supernet.costs.cost_model import CostModel, UnitVariants
from supernet.space import SearchSpace

COUNTS = ("macs", "parameters", "size_bytes")


def latency_terms(table: CompiledTable) -> AdditiveTerms:
    """What a compiled table adds up, in milliseconds; equal to ``table.predict`` on any row."""
    return _terms(table.space, table.columns, table.tables, table.fixed_ms)


def cost_terms(model: CostModel) -> Mapping[str, AdditiveTerms]:
    """``macs``, ``parameters`` and ``size_bytes`` of a cost model as sums over its units."""
    columns = [tuple(model.space.index(name) for name in unit.choices) for unit in model.units]
    return {
        name: _terms(model.space, columns, [_values(unit, name) for unit in model.units])
        for name in COUNTS
    }


def _values(unit: UnitVariants, name: str) -> NDArray[np.float64]:
    if name == "size_bytes":
        return np.array(unit.size_bytes, dtype=np.float64)
    return np.array([0 if v is None else getattr(v, name) for v in unit.variants], dtype=np.float64)


def _terms(
    space: SearchSpace,
    columns: Sequence[tuple[int, ...]],
    tables: Sequence[NDArray[np.float64]],
    offset: float = 0.0,
) -> AdditiveTerms:
    """Row-major tables of units to arrays with one axis for each choice; equal groups are added."""
    merged: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for group, table in zip(columns, tables, strict=True):
        shaped = table.reshape([int(space.cardinalities[i]) for i in group])
        merged[group] = merged[group] + shaped if group in merged else shaped
    # What no choice changes is one number.
    fixed = float(merged.pop((), np.zeros(())))
    return AdditiveTerms(tuple(merged), tuple(merged.values()), offset + fixed)

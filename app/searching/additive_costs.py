"""Latency tables and cost models in the form that exact selection works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hardware.compiled_table import CompiledTable
from search.arrays.additive import AdditiveTerms
from supernet.costs.cost_model import CostModel, UnitVariants
from supernet.space import SearchSpace


def build_latency_terms(table: CompiledTable) -> AdditiveTerms:
    """What a compiled table adds up, in milliseconds; equal to ``table.predict`` on any row."""
    return _terms(table.space, table.columns, table.tables, table.fixed_ms)


def build_cost_terms(
    model: CostModel, values: Callable[[UnitVariants], Sequence[float]]
) -> AdditiveTerms:
    """A cost that is a sum over the units of a network.

    Args:
        model: The units and what each can become.
        values: The cost of each variant of a unit, in the order of its variants.
    """
    columns = [tuple(model.space.index(name) for name in unit.choices) for unit in model.units]
    tables = [np.array(values(unit), dtype=np.float64) for unit in model.units]
    return _terms(model.space, columns, tables)


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

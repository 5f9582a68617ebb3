"""Sums over units equal what tables and cost models say, and the problem of a run carries them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from app.records.quantities import list_counted
from app.searching.additive_costs import build_latency_terms
from app.searching.objectives import ANALYTIC, Sources, build_objective
from hardware.compiled_table import CompiledTable
from search.integer.exact import solve
from supernet.costs.cost_model import CostModel
from supernet.families import matlm, superkernel


@pytest.fixture(scope="module", params=[superkernel, matlm], ids=["superkernel", "matlm"])
def costs(request):
    return request.param.build(request.param.PRESETS["tiny"]).cost_model()


@pytest.fixture(scope="module")
def table(costs):
    unit_ms = np.random.default_rng(1).uniform(0.01, 1.0, len(costs.distinct))
    return CompiledTable.build(costs, unit_ms, 0.25)


def test_terms_of_a_latency_table_equal_its_predictions(costs, table):
    rows = costs.space.sample(np.random.default_rng(0), 200)
    np.testing.assert_allclose(build_latency_terms(table)(rows), table.predict(rows), rtol=1e-12)
    assert np.ptp(table.predict(rows)) > 0.5


def test_terms_of_a_cost_model_equal_its_counts(costs):
    rows = costs.space.sample(np.random.default_rng(0), 200)
    assert {q.name for q in list_counted()} == set(ANALYTIC)
    for name, obtain in ANALYTIC.items():
        found = obtain(OpenedRun(costs))
        expected = found.evaluate(rows)
        if hasattr(costs, name):
            np.testing.assert_array_equal(expected, getattr(costs, name)(rows))
        if found.additive is None:
            continue
        np.testing.assert_allclose(found.additive()(rows), expected, rtol=1e-12)
        assert np.ptp(expected) > 0


def test_the_largest_network_within_a_latency_is_found_exactly(costs, table):
    latency = build_latency_terms(table)
    parameters = ANALYTIC["parameters"](OpenedRun(costs)).additive()
    rows = costs.space.sample(np.random.default_rng(2), 2000)
    limit = float(np.quantile(table.predict(rows), 0.2))
    best = solve(costs.space, parameters, [(latency, limit)])
    assert table.predict(best[None])[0] <= limit
    within = rows[table.predict(rows) <= limit]
    assert costs.parameters(best[None])[0] >= costs.parameters(within).max()


@dataclass(frozen=True)
class OpenedTable:
    """What the objectives use of an opened latency table."""

    compiled: CompiledTable

    def latency_ms(self, positions):
        return self.compiled.predict(positions)


@dataclass(frozen=True)
class OpenedRun:
    """What the objectives use of a trained supernet."""

    cost_model: CostModel


def test_objectives_of_a_run_know_their_sums(costs, table):
    sources = Sources(OpenedRun(costs), None, {"cpu": OpenedTable(table)})
    rows = costs.space.sample(np.random.default_rng(3), 50)
    for name in ("latency_ms", "size_bytes", "macs", "parameters"):
        found = build_objective(name, sources)
        np.testing.assert_allclose(found.additive(rows), found.evaluate(rows), rtol=1e-12)

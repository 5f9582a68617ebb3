"""The proxy benchmark: figures of the published table, and correlations at one size or depth."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.loading import load_benchmark


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("zero_cost")


@pytest.fixture(scope="module")
def data(benchmark):
    table = benchmark.load()
    if table is None:
        pytest.skip("needs shared/data/bench/flexibert_glue.npz beside the repository")
    return table


def test_partial_tau_of_a_common_cause_is_nothing(benchmark):
    rng = np.random.default_rng(0)
    cause = rng.normal(size=600)
    first, second = cause + rng.normal(size=600), cause + rng.normal(size=600)
    assert benchmark.partial_tau(first, second, first + second) < 0
    assert benchmark.partial_tau(first, second, rng.normal(size=600)) == pytest.approx(
        benchmark.kendall_tau(first, second), abs=0.02
    )
    groups = np.repeat([0, 1], 300)
    shifted = np.where(groups == 1, 10.0, 0.0) + rng.normal(size=600)
    other = np.where(groups == 1, 10.0, 0.0) + rng.normal(size=600)
    assert benchmark.kendall_tau(shifted, other) > 0.45
    assert abs(benchmark.within_groups(shifted, other, groups)) < 0.1


def test_depth_beats_every_proxy_and_explains_the_best(benchmark, data):
    found = benchmark.correlations(data)
    assert found["Depth"]["tau"] == pytest.approx(0.682, abs=0.001)
    assert found["Head Confidence"]["tau"] == pytest.approx(0.478, abs=0.001)
    assert found["Number of Parameters"]["tau"] == pytest.approx(0.454, abs=0.001)
    assert max(row["tau"] for row in found.values()) == found["Depth"]["tau"]
    assert abs(found["Head Confidence"]["partial_tau_given_depth"]) < 0.05


def test_columns_belong_to_their_rows(benchmark, data):
    statistics = benchmark.columns(data, [data.depth, data.proxy("Head Confidence")])
    rows = data.rows[:20]
    assert (statistics(rows)[:, 0] == data.depth[:20]).all()
    assert benchmark.columns(data, []) is None

"""The automatic choice on measured accuracies of released Once-for-All subnetworks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from predictors import fit, predict_interval
from predictors.models import ensemble, ridge
from predictors.scores import kendall_tau

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def table():
    """The benchmark's own table, so that tests and printed figures are about the same data."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        path = BENCHMARKS / "accuracy_predictors.py"
        spec = importlib.util.spec_from_file_location("accuracy_predictors", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["accuracy_predictors"] = module
        spec.loader.exec_module(module)
        found = module.ofa()
    finally:
        sys.path.remove(str(BENCHMARKS))
    if found is None:
        pytest.skip("needs bench/ofa_mbv3_imagenet_accuracy.npz of the shared data folder")
    return found


def run(table, method, size, seeds=5, statistics=None):
    taus, covered = [], []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(table.rows))
        part, rest = order[:size], order[size:]
        model = method(
            table.space, table.rows[part], table.values[part], seed=seed, statistics=statistics
        )
        taus.append(kendall_tau(model.mean(table.rows[rest]), table.values[rest]))
        low, high = predict_interval(model, table.rows[rest])
        inside = (low <= table.values[rest]) & (table.values[rest] <= high)
        covered.append(float(inside.mean()))
    return float(np.mean(taus)), float(np.mean(covered))


@pytest.mark.parametrize(("size", "bar"), [(100, 0.90), (250, 0.94)])
def test_few_samples_rank_the_rest(table, size, bar):
    tau, coverage = run(table, fit, size)
    assert tau >= bar
    assert 0.85 <= coverage <= 0.95


def test_free_statistics_do_not_hurt_with_fifty_samples(table):
    blind, _ = run(table, fit, 50)
    informed, coverage = run(table, fit, 50, statistics=table.statistics)
    assert informed > blind + 0.003
    assert 0.82 <= coverage <= 0.96


def test_an_ensemble_is_no_worse_than_its_weaker_members(table):
    together, _ = run(table, ensemble.fit, 100, seeds=2)
    linear, _ = run(table, ridge.fit, 100, seeds=2)
    assert together > linear + 0.02

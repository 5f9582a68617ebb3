"""Statistics of inherited and true answers whose outcome is known."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import numpy as np
import pytest

from predictors.scores import kendall_tau
from tests.benchmarks.loading import FOLDER, load_benchmark

NETWORKS, BASES, EACH = 24, 50, 8
SAMPLES = BASES * EACH
GROUPS = np.repeat(np.arange(BASES), EACH) + 7


@pytest.fixture(scope="module")
def statistics() -> ModuleType:
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return load_benchmark("_truth_statistics")


def _answer(shares: np.ndarray, samples: int = SAMPLES) -> np.ndarray:
    """So many right answers, ``(..., samples)``."""
    return np.arange(samples) < np.round(np.asarray(shares)[..., None] * samples)


SHARES = np.linspace(0.5, 0.73, NETWORKS)
MACS = np.arange(1.0, NETWORKS + 1)


def _make_truth(statistics: ModuleType):
    return statistics.Truth(MACS, _answer(np.stack([SHARES, SHARES], axis=1)), GROUPS)


def test_supernet_as_good_as_the_truth_has_everything(statistics) -> None:
    truth = _make_truth(statistics)
    found = statistics.measure_recipe(truth, _answer(SHARES)[None], replicates=50)
    for name in ("tau", "tau_top_quarter", "tau_within_macs"):
        assert found[name] == pytest.approx(1)
    assert found["gap"] == found["worst_gap"] == 0
    assert found["gap_90"] == pytest.approx((0, 0), abs=1e-12)
    assert found["hypervolume"] == found["hypervolume_chosen"] == pytest.approx(1)
    assert (found["smallest"], found["largest"]) == (SHARES[0], SHARES[-1])
    assert found["tau_above_macs"] == pytest.approx(0)


def test_reversed_supernet_ranks_worst_and_has_no_gap_in_the_mean(statistics) -> None:
    truth = _make_truth(statistics)
    found = statistics.measure_recipe(truth, _answer(SHARES[::-1])[None], replicates=50)
    for name in ("tau", "tau_top_quarter", "tau_within_macs"):
        assert found[name] == pytest.approx(-1)
    assert found["tau_above_macs"] == pytest.approx(-2)
    assert found["gap"] == pytest.approx(0, abs=1e-9)
    assert found["worst_gap"] == pytest.approx(-23)
    assert found["gap_smallest_third"] == pytest.approx(-found["gap_largest_third"])
    # Of all networks the smallest alone is on the front, and at its true accuracy it has least.
    assert found["hypervolume_chosen"] < 0.2
    assert found["hypervolume"] > 1


def test_gap_belongs_to_the_third_that_lost(statistics) -> None:
    truth = _make_truth(statistics)
    # One of two supernets loses four points in the middle, which leaves the ranks of the ends.
    lost = SHARES - 0.04 * (np.arange(NETWORKS) // 8 == 1)
    found = statistics.measure_recipe(truth, _answer(np.stack([SHARES, lost])), replicates=50)
    assert found["gap_middle_third"] == pytest.approx(-2)
    assert found["gap_smallest_third"] == found["gap_largest_third"] == 0
    assert found["gap"] == pytest.approx(-2 / 3)
    assert found["worst_gap"] == pytest.approx(-2)
    assert found["tau_of_seeds"][0] == pytest.approx(1)
    assert found["tau_of_seeds"][1] < 0.95
    assert found["tau"] == pytest.approx(np.mean(found["tau_of_seeds"]))


def test_many_taus_at_once_are_those_of_scipy(statistics) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 6, (2, 20, 15)).astype(float)
    first[3] = 1.0
    found = statistics.kendall_taus(first, second)
    expected = [kendall_tau(a, b) for a, b in zip(first, second, strict=True)]
    assert math.isnan(expected[3])
    assert found == pytest.approx(expected, nan_ok=True)


def test_few_seeds_have_the_spread_of_their_mean(statistics) -> None:
    # Each base answers alike, so that bases tell nothing and supernets alone differ: by 0, 1, 2.
    within = np.arange(100) < np.array([50, 51, 52])[:, None]
    inherited = np.broadcast_to(np.tile(within, 5)[:, None], (3, 4, 500))
    alone = np.tile(np.arange(100) < 50, 5) * np.ones((4, 2, 1), dtype=bool)
    truth = statistics.Truth(np.arange(4.0), alone > 0, np.repeat(np.arange(5), 100))
    drawn = statistics.resample(truth, inherited, 4000)
    assert drawn.gap.mean() == pytest.approx(1, abs=0.05)
    assert drawn.gap.std() == pytest.approx(1 / math.sqrt(3), rel=0.05)
    single = statistics.resample(truth, inherited[2:], 100)
    assert single.gap == pytest.approx(np.full(100, 2.0))


def test_intervals_cover(statistics) -> None:
    """Of intervals of many draws, nine in ten hold the mean of all draws; those of tau more."""
    rng = np.random.default_rng(0)
    networks, bases, each, seeds = 10, 60, 3, 5
    groups = np.repeat(np.arange(bases), each)
    worth = np.linspace(0.6, 0.9, networks)
    results = []
    for _ in range(120):
        # Bases that shared weights do not know lose all of their renderings at once.
        unknown = rng.random(bases) < 0.2
        alone = rng.random((networks, 2, bases * each)) < worth[:, None, None]
        luck = rng.normal(0, 0.02, (seeds, 1, 1))
        inherited = rng.random((seeds, networks, bases * each)) < worth[:, None] + luck
        inherited &= ~np.repeat(unknown, each)
        truth = statistics.Truth(np.arange(float(networks)), alone, groups)
        results.append(statistics.measure_recipe(truth, inherited, replicates=150))
    for name, most in (("gap", 0.98), ("tau", 1.0)):
        mean = np.mean([found[name] for found in results])
        ends = np.array([found[f"{name}_90"] for found in results])
        covered = ((ends[:, 0] <= mean) & (mean <= ends[:, 1])).mean()
        assert 0.83 <= covered <= most, name
    assert np.mean([found["gap"] for found in results]) == pytest.approx(-15, abs=0.7)


def test_noise_of_seeds_is_found_and_bounds_the_ranking(statistics) -> None:
    rng = np.random.default_rng(1)
    worth = rng.normal(0.7, 0.04, 400)
    seen = worth[:, None] + rng.normal(0, 0.02, (400, 2))
    truth = statistics.Truth(worth, _answer(seen, 4000), np.repeat(np.arange(500), 8))
    found = statistics.measure_truth(truth)
    assert found["standard_error_of_one_seed"] == pytest.approx(2.0, rel=0.1)
    assert found["standard_error_of_one_seed_top_quarter"] == pytest.approx(2.0, rel=0.2)
    assert found["standard_error_of_mean"] == pytest.approx(
        found["standard_error_of_one_seed"] / math.sqrt(2)
    )
    tau = found["tau"]
    assert tau["of_two_seeds"] == pytest.approx(
        kendall_tau(truth.of_seeds[:, 0], truth.of_seeds[:, 1])
    )
    others = _answer(worth[:, None] + rng.normal(0, 0.02, (400, 2)), 4000).mean(axis=(1, 2))
    assert tau["of_two_means"] == pytest.approx(kendall_tau(others, truth.accuracy), abs=0.03)
    # Here MACs are the exact expected accuracies.
    assert tau["ceiling"] == pytest.approx(kendall_tau(worth, truth.accuracy), abs=0.03)
    assert statistics.measure_macs(truth, replicates=20)["tau"] > tau["of_two_means"]
    assert found["tau_top_quarter"]["of_two_seeds"] < tau["of_two_seeds"]


def test_single_seed_says_nothing_of_its_luck(statistics) -> None:
    truth = statistics.Truth(MACS, _answer(SHARES[:, None]), GROUPS)
    found = statistics.round_all(statistics.measure_truth(truth))
    assert found["tau"] == {"of_two_seeds": None, "of_two_means": None, "ceiling": None}
    assert found["standard_error_of_one_seed"] is None
    assert found["largest"] == 0.73
    assert statistics.lengthen(-0.4, 2) == (0.0, 0.0)
    assert statistics.lengthen(1.0, 2) == pytest.approx((1.0, 1.0))

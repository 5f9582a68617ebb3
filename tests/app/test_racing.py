"""Bounds that hold, and races that leave every front as it was: real and simulated networks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from app.evaluation.race_bounds import (
    RaceRule,
    bound_accuracy,
    bound_loss,
    bound_right_answers,
    compute_saved_share,
    find_best_rival,
    find_stop,
    is_dominated,
)
from search.arrays.pareto import nondominated


@pytest.mark.parametrize(("right", "drawn", "members"), [(0, 5, 40), (3, 20, 60), (19, 20, 500)])
@pytest.mark.parametrize("error", [0.05, 1e-6])
def test_the_bound_on_right_answers_is_the_largest_number_that_is_not_ruled_out(
    right: int, drawn: int, members: int, error: float
) -> None:
    found = bound_right_answers(right, drawn, members, error)
    assert hypergeom.cdf(right, members, found, drawn) >= error
    if found < members - (drawn - right):
        assert hypergeom.cdf(right, members, found + 1, drawn) < error


def test_everything_seen_leaves_nothing_open() -> None:
    scores = np.array([1.0, 0, 1, 1])
    found = bound_accuracy(scores, 4, np.array([1.0, 1, 0, 1]), 0.01)
    assert (found.low, found.estimate, found.high) == (0.75, 0.75, 0.75)


@pytest.mark.parametrize("paired", [True, False])
def test_bounds_miss_no_more_often_than_they_say(paired: bool) -> None:
    rng = np.random.default_rng(5)
    total, count, error, misses, trials = 300, 60, 0.2, 0, 500
    for _ in range(trials):
        rival = (rng.random(total) < 0.9).astype(float)
        candidate = np.where(rng.random(total) < 0.95, rival, 1 - rival)
        against = rival if paired else float(rival.mean())
        misses += candidate.mean() > bound_accuracy(candidate[:count], total, against, error).high
    assert 0 < misses <= trials * error + 3 * np.sqrt(trials * error)


def test_bounds_hold_for_samples_in_groups() -> None:
    rng = np.random.default_rng(5)
    rule = RaceRule(shares=(0.2,), error=0.2)
    misses, trials = 0, 500
    for _ in range(trials):
        # Six samples each that are nearly all right or all wrong, looked at in the race's order.
        grouped = np.repeat(rng.random(60) < 0.8, 6) ^ (rng.random(360) < 0.02)
        scores = grouped.astype(float)[rng.permutation(360)]
        misses += scores.mean() > bound_accuracy(scores[:72], 360, 0.9, rule.error).high
    assert 0 < misses <= trials * rule.error + 3 * np.sqrt(trials * rule.error)


def test_a_rival_that_mostly_agrees_narrows_the_bound() -> None:
    rng = np.random.default_rng(0)
    rival = (rng.random(2000) < 0.7).astype(float)
    candidate = np.where(rng.random(2000) < 0.03, 0, rival)
    paired = bound_accuracy(candidate[:500], 2000, rival, 1e-6)
    alone = bound_accuracy(candidate[:500], 2000, float(rival.mean()), 1e-6)
    assert paired.high < alone.high
    assert paired.high - paired.low < 0.7 * (alone.high - alone.low)


def test_normal_bounds_of_losses_shrink_to_the_mean() -> None:
    rng = np.random.default_rng(0)
    rival = rng.gamma(2.0, 1.0, 200)
    candidate = rival + 0.3 + 0.1 * rng.standard_normal(200)
    early, late = (bound_loss(candidate[:n], 200, rival, 4.0) for n in (25, 199))
    assert early.low < candidate.mean() < early.high
    assert late.high - late.low < 0.1 * (early.high - early.low)
    assert late.estimate == pytest.approx(candidate.mean(), abs=1e-2)


def test_a_candidate_as_good_as_its_rival_is_never_stopped() -> None:
    rng = np.random.default_rng(2)
    rule = RaceRule()
    for _ in range(300):
        rival = (rng.random(400) < rng.random()).astype(float)
        assert find_stop(rng.permutation(rival), 400, rival, rule, maximize=True) is None
    assert find_stop(rival, 400, rival, rule, maximize=True) is None


def test_a_stopped_estimate_stays_below_its_rival() -> None:
    rng = np.random.default_rng(3)
    rule, stopped = RaceRule(), 0
    for _ in range(400):
        rival = (rng.random(800) < 0.9).astype(float)
        candidate = (rng.random(800) < rng.uniform(0.3, 0.9)).astype(float)
        found = find_stop(candidate, 800, rival, rule, maximize=True)
        if found is not None:
            stopped += 1
            assert found.low <= found.estimate <= found.high < rival.mean()
    assert stopped > 100


def simulated(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Per-sample scores ``(networks, samples)`` and costs ``(networks, 1 or 2)``.

    Samples differ in difficulty and networks in strength, so answers are as related as those of
    networks that share their weights.
    """
    networks, total = int(rng.integers(20, 60)), int(rng.integers(100, 600))
    costs = rng.random((networks, int(rng.integers(1, 3))))
    strength = rng.normal(2.0, 1.0, networks) + rng.uniform(0, 3) * costs.mean(1)
    difficulty = rng.normal(0, 2.0, total)
    margin = strength[:, None] - difficulty + rng.normal(0, 0.5, (networks, total))
    if kind == "accuracy":
        return (margin > 0).astype(np.float64), costs
    return np.log1p(np.exp(-margin)), costs


def raced(
    scores: np.ndarray, costs: np.ndarray, rule: RaceRule, *, maximize: bool
) -> tuple[np.ndarray, list[int], int]:
    """Values as a search would see them, samples looked at, and how many were stopped."""
    total = scores.shape[1]
    ordered = scores[:, rule.draw_order(total)]
    sign = -1.0 if maximize else 1.0
    values, samples = np.empty(len(scores)), []
    whole: list[int] = []
    for i, seen in enumerate(ordered):
        able = [j for j in whole if j <= i - rule.lag]
        rival = find_best_rival(costs[able], sign * values[able], costs[i]) if able else None
        bound = None
        if rival is not None:
            bound = find_stop(seen, total, ordered[able[rival]], rule, maximize=maximize)
        values[i] = scores[i].mean() if bound is None else bound.estimate
        samples.append(total if bound is None else bound.samples)
        if bound is None:
            whole.append(i)
    return values, samples, len(scores) - len(whole)


@pytest.mark.parametrize(("kind", "cases"), [("accuracy", 40), ("loss", 200)])
def test_fronts_of_simulated_networks_are_the_same(kind: str, cases: int) -> None:
    maximize = kind == "accuracy"
    sign = -1.0 if maximize else 1.0
    rule, stopped, shares = RaceRule(), 0, []
    for seed in range(cases):
        scores, costs = simulated(np.random.default_rng([7, seed]), kind)
        values, samples, count = raced(scores, costs, rule, maximize=maximize)
        exact = np.column_stack((sign * scores.mean(1), costs))
        seen = np.column_stack((sign * values, costs))
        assert np.array_equal(nondominated(seen), nondominated(exact)), seed
        kept = nondominated(exact)
        assert np.array_equal(values[kept], scores.mean(1)[kept]), "fronts hold whole values"
        stopped += count
        shares.append(compute_saved_share(samples, scores.shape[1]))
    assert stopped > 500, "thousands were evaluated, and many stopped"
    assert np.mean(shares) > 0.05


def test_rival_is_the_best_that_is_no_worse_in_anything_else() -> None:
    others = np.array([[1.0, 1], [2, 2], [2, 1], [0, 9]])
    quality = np.array([-0.7, -0.9, -0.8, -0.99])
    assert find_best_rival(others, quality, np.array([2.0, 2])) == 1
    assert find_best_rival(others, quality, np.array([2.0, 1])) == 2
    assert find_best_rival(others, quality, np.array([0.5, 1])) is None
    assert find_best_rival(others[[1, 1]], quality[[1, 1]], np.array([3.0, 3])) == 0


def test_domination_needs_one_strict_step() -> None:
    points = np.array([[0.2, 1.0], [0.1, 2.0]])
    assert is_dominated(np.array([0.2, 1.1]), points)
    assert not is_dominated(np.array([0.2, 1.0]), points)
    assert not is_dominated(np.array([0.05, 3.0]), points)


def test_stages_are_nested_and_end_with_everything() -> None:
    rule = RaceRule()
    assert rule.list_stages(1000) == (125, 250, 500, 1000)
    assert rule.list_stages(100) == (25, 50, 100), "an eighth would be fewer than 16"
    assert rule.list_stages(10) == (10,)
    assert np.array_equal(rule.draw_order(50), rule.draw_order(50))
    assert sorted(rule.draw_order(50)) == list(range(50))
    assert not np.array_equal(rule.draw_order(50), RaceRule(seed=1).draw_order(50))


@pytest.mark.parametrize(
    "options",
    [{"shares": ()}, {"shares": (0.5, 0.25)}, {"shares": (0.5, 1.0)}, {"error": 0.0}, {"z": 0.0},
     {"least": 1}, {"lag": 0}],
)  # fmt: skip
def test_impossible_rules_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"shares|a race needs"):
        RaceRule(**options)


def test_rivals_of_another_split_are_refused() -> None:
    with pytest.raises(ValueError, match="the rival has 3 scores; the split has 40"):
        find_stop(np.ones(40), 40, np.ones(3), RaceRule(least=2), maximize=True)

"""Intervals of audits: how often they hold the truth, whose luck they count, what is preferred."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from app.auditing.evidence import Evidence, describe_statistic
from app.auditing.recipe_comparison import compare_recipes, judge_gains
from app.auditing.resampling import (
    MOST_GROUPS,
    Resampler,
    Scored,
    Varied,
    kendall_taus,
    mean_gaps,
    measure,
    spearmans,
    sum_by_group,
)
from app.records.audit import AuditRecord, Statistic
from app.records.audit_pieces import TrainedPiece
from predictors.scores import kendall_tau, spearman
from tests.app.audit_records import make_audit

BASES, COPIES = 120, 3


def _draw_networks(
    count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Size, ability alone and ability with inherited weights."""
    size = np.sort(rng.random(count))
    alone = 1.2 + 1.8 * size + 0.35 * rng.normal(size=count)
    return size, alone, alone - 0.35 + 0.25 * rng.normal(size=count)


def _chances(ability: np.ndarray, ease: np.ndarray) -> np.ndarray:
    chances: np.ndarray = 1 / (1 + np.exp(-(ability[:, None] + ease)))
    return chances


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    size, alone, inherited = _draw_networks(1500, rng)
    ease = 1.5 * rng.normal(size=300)
    exact, ours = (_chances(x, ease).mean(axis=1) for x in (alone, inherited))
    tau, of_size = kendall_tau(ours, exact), kendall_tau(size, exact)
    truth = (tau, tau - of_size, float((ours - exact).mean()))
    held = np.zeros(3)
    audits = 60
    places = np.repeat(np.arange(BASES), COPIES)
    for number in range(audits):
        rng = np.random.default_rng([1, number])
        size, *abilities = _draw_networks(12, rng)
        ease = 1.5 * rng.normal(size=BASES)[places]
        scores = [rng.random((12, len(ease))) < _chances(x, ease) for x in abilities]
        sums, sizes = sum_by_group(
            [row.astype(float) for part in scores for row in part], torch.from_numpy(places)
        )
        resampler = Resampler.draw(sizes, number)
        true, seen = (
            resampler.vary(Scored(part.mean(axis=1), sums[12 * i : 12 * (i + 1)]))
            for i, part in enumerate(scores)
        )
        found = measure(kendall_taus, seen, true)
        margin = found.less(measure(kendall_taus, resampler.repeat(size), true))
        for i, one in enumerate((found, margin, measure(mean_gaps, seen, true))):
            low, high = one.find_interval()
            held[i] += low <= truth[i] <= high
    # Of 60 intervals of 95 %, fewer than 52 hold the truth in 1 of 350 tries.
    assert (held >= 52).all(), held


def test_luck_of_samples_that_all_networks_share_is_counted() -> None:
    """All networks are alike, so that nothing but the samples may differ."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(BASES) < 0.8, COPIES).astype(float)
    rows = [right] * 8
    values = np.full(8, right.mean())
    error = math.sqrt(right.mean() * (1 - right.mean()) / BASES)
    groups = torch.arange(BASES).repeat_interleave(COPIES)
    for given, factor in ((groups, 1.0), (None, 1 / math.sqrt(COPIES))):
        sums, sizes = sum_by_group(rows, given)
        resampler = Resampler.draw(sizes, 0)
        zero = resampler.repeat(np.zeros(8))
        low, high = measure(mean_gaps, resampler.vary(Scored(values, sums)), zero).find_interval()
        # Student's quantile for 8 networks is 2.36.
        assert high - low == pytest.approx(2 * 2.365 * error * factor, rel=0.1)


def test_many_groups_are_put_together_without_losing_samples() -> None:
    count = 3 * MOST_GROUPS
    rng = np.random.default_rng(0)
    rows = [rng.random(count), rng.random(count)]
    sums, sizes = sum_by_group(rows, None)
    assert sums.shape == (2, MOST_GROUPS)
    assert sizes.sum() == count
    assert sums.sum(axis=1) == pytest.approx([row.sum() for row in rows])


def test_statistics_of_rows_are_those_of_vectors() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 6, (20, 9)).astype(float) for _ in range(2))
    second[3] = 1.0
    for of_rows, of_vectors in ((kendall_taus, kendall_tau), (spearmans, spearman)):
        found = of_rows(first, second)
        expected = [of_vectors(a, b) for a, b in zip(first, second, strict=True)]
        assert found == pytest.approx(expected, nan_ok=True)
        assert math.isnan(found[3])


def test_what_is_undefined_has_no_interval() -> None:
    flat = Varied(np.ones((1, 4)), np.ones((4, 3)), np.ones((5, 4)))
    found = describe_statistic(measure(kendall_taus, flat, flat), 1.0)
    assert found == Statistic(value=None, low=None, high=None)


def _compare(shifts: dict[str, float], diverged: str = "") -> AuditRecord:
    """Recipes whose networks are better by so much than those of the run."""
    rng = np.random.default_rng(0)
    n, samples = 12, 400
    ability = np.linspace(0.5, 0.8, n)
    drawn = rng.random((n, samples))
    alone = (rng.random((n, samples)) < ability[:, None] + 0.1).astype(float)
    rows = {"alone": alone, "own": (drawn < ability[:, None]).astype(float)}
    for name, shift in shifts.items():
        rows[name] = (drawn < (ability + shift)[:, None]).astype(float)
    sums, sizes = sum_by_group([row for part in rows.values() for row in part], None)
    scored = {
        name: Scored(part.mean(axis=1), sums[n * i : n * (i + 1)])
        for i, (name, part) in enumerate(rows.items())
    }
    found = make_audit(list(scored["own"].values), list(scored["alone"].values))
    keys = {name: f"{i:012x}" for i, name in enumerate(shifts)}
    evidence = Evidence(
        macs=np.arange(n, dtype=float),
        alone=scored["alone"],
        inherited=scored["own"],
        recipes={keys[name]: scored[name] for name in shifts},
        sizes=sizes,
        groups=samples,
    )
    pieces = [
        TrainedPiece(
            key=f"trained/{key}", recipe=name, changes={}, steps=10, passes=40, cpu_seconds=1.0,
            resumed_from=0,
        )
        for name, key in keys.items()
    ]  # fmt: skip
    if diverged:
        pieces.append(
            TrainedPiece(
                key="trained/ffffffffffff", recipe=diverged, changes={}, steps=10, passes=40,
                cpu_seconds=None, resumed_from=0, diverged="the loss is nan at step 3",
            )
        )  # fmt: skip
    return compare_recipes(found, pieces, evidence, higher_is_better=True)


def test_a_recipe_is_preferred_when_its_gain_is_more_than_its_uncertainty() -> None:
    found = _compare({"same": 0.0, "good": 0.1, "also": 0.099, "bad": -0.1}, diverged="hot")
    judged = {r.name: r.comparison.judgement for r in found.recipes if r.comparison}
    assert judged == {"same": "alike", "good": "better", "also": "better", "bad": "worse"}
    assert found.preferred == ("good", "also")
    assert found.recipes[-1].comparison is None
    gain = next(r.comparison.quality_gain for r in found.recipes if r.name == "good")
    assert gain.value == pytest.approx(0.1, abs=0.02)
    assert _compare({"same": 0.0}).preferred == ()


def test_the_more_recipes_are_tried_the_wider_are_intervals() -> None:
    one = _compare({"good": 0.1})
    five = _compare({"good": 0.1, **{f"r{i}": 0.0 for i in range(4)}})
    first, second = (found.recipes[0].comparison.quality_gain for found in (one, five))
    assert first.value == second.value
    assert second.high - second.low > 1.2 * (first.high - first.low)
    assert one.confidence == pytest.approx(0.975)
    assert five.confidence == pytest.approx(0.995)


@pytest.mark.parametrize(
    ("tau", "quality", "expected"),
    [
        ((0.1, 0.3), (-0.1, 0.2), "better"),
        ((-0.3, -0.1), (-0.1, 0.2), "worse"),
        ((0.1, 0.3), (-0.3, -0.1), "mixed"),
        ((-0.1, 0.3), (0.0, 0.2), "alike"),
        (None, (0.1, 0.2), "better"),
    ],
)
def test_gains_are_judged(
    tau: tuple[float, float] | None, quality: tuple[float, float], expected: str
) -> None:
    def make(ends: tuple[float, float] | None) -> Statistic:
        if ends is None:
            return Statistic(value=None, low=None, high=None)
        return Statistic(value=sum(ends) / 2, low=ends[0], high=ends[1])

    assert judge_gains(make(tau), make(quality)) == expected

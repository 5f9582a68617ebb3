"""Curves rise with the data, estimates hold where the law holds, and silence elsewhere."""

from __future__ import annotations

import json

import numpy as np
import pytest

from predictors.learning_curve import add_learning_curve, estimate_needed, measure_learning_curve
from predictors.models import ridge
from predictors.report_card import HeldOut, make_report_card, rescore_for_cost, summarise_card
from predictors.scores import kendall_tau
from tests.toys.worlds import accuracy, space

WORLD = space()


def sample(count, seed=0):
    return WORLD.sample(np.random.default_rng(seed), count)


def test_the_curve_rises_and_its_sizes_are_shares_of_the_rows():
    rows = sample(200)
    curve = measure_learning_curve(WORLD, rows, accuracy(WORLD, rows), seed=0, fit=ridge.fit)
    assert [size for size, _ in curve] == [40, 60, 90, 130, 170]
    assert curve[-1][1] > curve[0][1] + 0.05
    assert curve == measure_learning_curve(
        WORLD, rows, accuracy(WORLD, rows), seed=0, fit=ridge.fit
    )


def test_too_few_rows_or_constant_values_have_no_curve():
    rows = sample(9)
    assert measure_learning_curve(WORLD, rows, accuracy(WORLD, rows), seed=0, fit=ridge.fit) == ()
    assert measure_learning_curve(WORLD, sample(50), np.ones(50), seed=0, fit=ridge.fit) == ()


def test_a_power_law_is_continued():
    def law(n):
        return 1 - 2 * n**-0.5

    curve = tuple((n, law(n)) for n in (40, 60, 100, 150, 200))
    # 1 - tau = 0.1 at n = 400.
    assert estimate_needed(curve) == pytest.approx(200, abs=10)
    assert estimate_needed(curve, 0.85) == 0
    assert estimate_needed(curve, 0.99) is None, "sixteen thousand more cannot be told from 200"


def test_silence_when_the_points_do_not_carry_an_estimate():
    assert estimate_needed(()) is None
    assert estimate_needed(((20, 0.5), (40, 0.6))) is None
    flat = tuple((n, 0.6) for n in (20, 40, 60, 80))
    falling = ((20, 0.7), (40, 0.6), (60, 0.5), (80, 0.4))
    wild = ((20, 0.1), (40, 0.8), (60, 0.2), (80, 0.85))
    assert estimate_needed(flat) is estimate_needed(falling) is estimate_needed(wild) is None
    assert estimate_needed(((80, 0.95),)) == 0
    with pytest.raises(ValueError, match=r"aim = 1\.2 is no rank correlation"):
        estimate_needed(flat, 1.2)


def test_the_estimate_is_about_right_on_data():
    unseen = sample(600, seed=99)
    truth = accuracy(WORLD, unseen, 0.004, 7)
    reached = []
    for seed in range(6):
        rows, more = sample(100, seed), sample(2000, 50 + seed)
        noisy = accuracy(WORLD, rows, 0.004, seed)
        report = ridge.fit(WORLD, rows, noisy, seed=0).report
        card = add_learning_curve(
            report, measure_learning_curve(WORLD, rows, noisy, seed=0, fit=ridge.fit), aim=0.82
        )
        assert card.curve[-1] == (100, report.tau)
        if card.needed:
            part = more[: 100 + card.needed]
            later = ridge.fit(WORLD, part, accuracy(WORLD, part, 0.004, seed), seed=0)
            reached.append(kendall_tau(later.mean(unseen), truth))

    assert len(reached) >= 3, reached
    assert np.median(reached) == pytest.approx(0.82, abs=0.05)


def test_the_regret_of_a_cost_is_that_of_the_lowest_values():
    rows = sample(60)
    values = np.arange(60.0)
    # The order is right but for the lowest value, which is taken for a middling one.
    mean = values.copy()
    mean[0] = 30.5
    held_out = HeldOut(rows, values, mean, np.ones(60))
    card = make_report_card("ridge", held_out)
    assert (card.best, card.regret) == ("highest", 0.0)
    cost = rescore_for_cost(card, held_out)
    assert (cost.best, cost.regret) == ("lowest", 1.0)
    assert cost.tau == card.tau


def test_the_card_is_one_line_and_json():
    rows = sample(60)
    values = accuracy(WORLD, rows)
    model = ridge.fit(WORLD, rows, values, seed=0)
    plain = summarise_card("accuracy", "fraction", model.report)
    assert "\n" not in plain
    assert f"tau {model.report.tau:.2f}" in plain
    assert "60 evaluations" in plain
    assert "more evaluations" not in plain
    card = add_learning_curve(
        model.report, measure_learning_curve(WORLD, rows, values, seed=0, fit=ridge.fit), aim=0.999
    )
    assert "does not say when tau 0.999" in summarise_card("accuracy", "", card)
    record = json.loads(json.dumps(card.to_json(), allow_nan=False))
    assert record["needed"] is None
    assert record["curve"][-1] == [60, model.report.tau]
    assert record["regret"] >= 0
    assert {"model", "samples", "tau", "spearman", "rmse", "coverage", "widening"} <= set(record)

"""Objectives over several devices: the worst and the mean, relative to each device's own scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search import Objective, SearchProblem, search
from search.arrays.additive import AdditiveTerms
from search.devices import mean_of, worst_of
from search.strategies.nsga2 import Nsga2
from tests.toys.problems import tradeoff

FAST = Objective("latency_ms@a", "ms", "minimize", lambda x: 1.0 + x[:, :6].sum(1), "table")
SLOW = Objective("latency_ms@b", "ms", "minimize", lambda x: 10.0 + 5.0 * x[:, 6:].sum(1), "table")
ROWS = np.array([[0] * 12, [2] * 12, [2] * 6 + [0] * 6, [0] * 6 + [2] * 6], np.int16)


def test_worst_and_mean_of_relative_latencies():
    worst = worst_of("worst_latency", "of the largest", (FAST, SLOW), (13.0, 70.0))
    mean = mean_of("mean_latency", "of the largest", (FAST, SLOW), (13.0, 70.0))
    assert worst.evaluate(ROWS) == pytest.approx([10 / 70, 1.0, 1.0, 1.0])
    assert mean.evaluate(ROWS) == pytest.approx(
        [(1 / 13 + 1 / 7) / 2, 1.0, (1 + 1 / 7) / 2, (1 / 13 + 1) / 2]
    )
    assert (worst.source, worst.direction, worst.unit) == ("table", "minimize", "of the largest")


def test_a_failure_on_one_device_is_a_failure():
    failing = replace(SLOW, evaluate=lambda x: np.full(len(x), np.nan), source="measured")
    worst = worst_of("worst_latency", "", (FAST, failing), (1.0, 1.0))
    assert np.isnan(worst.evaluate(ROWS)).all()
    assert worst.source == "measured"


def test_the_mean_of_additive_quantities_is_additive():
    terms = [AdditiveTerms(((i,),), (np.array([0.0, 1.0, 3.0]),), 0.5) for i in (0, 1)]
    parts = [
        Objective(f"latency_ms@{i}", "ms", "minimize", term, "table", additive=term)
        for i, term in enumerate(terms)
    ]
    mean = mean_of("mean_latency", "", parts, (2.0, 4.0))
    assert mean.additive is not None
    assert mean.additive(ROWS) == pytest.approx(mean.evaluate(ROWS))
    assert mean_of("mean_latency", "", (FAST, parts[0]), (1.0, 1.0)).additive is None
    assert worst_of("worst_latency", "", parts, (1.0, 1.0)).additive is None, "a maximum is no sum"


def test_a_robust_search_finds_networks_that_are_fast_everywhere():
    accuracy = tradeoff().objectives[0]
    scales = tuple(float(part.evaluate(ROWS[1:2])[0]) for part in (FAST, SLOW))
    worst = worst_of("worst_latency", "of the largest", (FAST, SLOW), scales)

    def best_within(objective: Objective) -> float:
        problem = SearchProblem(tradeoff().space, (accuracy, objective))
        result = search(problem, Nsga2(40, 40), evaluations=400, seed=0)
        fits = worst.evaluate(result.front.positions) <= 0.6
        return float(result.front.values[fits, 0].max(initial=0.0))

    assert best_within(worst) > best_within(FAST)


@pytest.mark.parametrize(
    ("parts", "scales", "expected"),
    [
        ((), (), "needs at least one quantity"),
        ((FAST, SLOW), (1.0,), "made of 2 quantities and has 1 scales"),
        ((FAST,), (0.0,), "the scale 0.0 of latency_ms@a must be above 0"),
        ((tradeoff().objectives[0],), (1.0,), "cannot hold accuracy, which is maximised"),
    ],
)
def test_what_cannot_be_combined_is_refused(parts, scales, expected):
    for combine in (worst_of, mean_of):
        with pytest.raises(ValueError, match=expected):
            combine("worst_latency", "", parts, scales)

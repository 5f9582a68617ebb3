"""Charts of the screens: valid Vega-Lite, the right figures, and never too many marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.analysis.common_choices import Prevalence
from app.analysis.coverage import (
    Predicted,
    cover_levels,
    measure_coverage,
    split_residuals,
)
from app.analysis.devices import Agreement
from app.analysis.importance import ChoiceEffect
from app.analysis.positions import Encoded
from app.analysis.progress import find_records, share_values
from app.explorer.screens.predictors import describe_coverage
from app.records.device import ComparedNetwork
from app.records.quantities import ACCURACY, LATENCY, LOSS
from app.records.searches.front import Front, parse_front
from app.records.searches.trace import Hypervolume
from app.records.training_log import MetricsRecord
from app.reporting.charts import (
    choice_charts,
    device_charts,
    overlay_chart,
    population_charts,
    predictor_charts,
    progress_charts,
    training_charts,
)
from app.reporting.charts.device_charts import OnDevice
from app.reporting.charts.population_charts import Population
from tests.app.chart_reading import by_kind, take_apart
from tests.toys.explored_runs import front_json, small_space

MANY = 50_000
# What a page draws of any number of points.
MOST_MARKS = 5_000


def effect(name: str, share: float = 0.2) -> ChoiceEffect:
    means = np.array([0.90, 0.92, np.nan])
    counts = np.array([10, 20, 0])
    return ChoiceEffect(name, (1, 2, 4), counts, means, means - 0.01, means + 0.01, share)


def predicted(count: int) -> Predicted:
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.8, 0.95, count)
    value = mean + 0.01 * rng.standard_normal(count)
    return Predicted(np.arange(count) % 20, mean, mean - 0.02, mean + 0.02, value)


def population(count: int) -> Population:
    values = np.random.default_rng(0).uniform(0.5, 0.9, count)
    values[::7] = np.nan
    digests = [f"{number:012x}" for number in range(count)]
    members = np.arange(count) % max(count // 20, 1) == 1
    return Population(np.arange(1, count + 1), digests, values, members)


def metrics(count: int) -> list[MetricsRecord]:
    return [
        MetricsRecord(
            step=n, steps=count, loss_largest=2.0 / n, loss_smallest=None, learning_rate=0.1 / n
        )
        for n in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
def front() -> Front:
    return parse_front(front_json(small_space()), "front.json", "default")


DRAWN: dict[str, Callable[[Front, int], alt.LayerChart]] = {
    "importance": lambda _, n: choice_charts.draw_importance(
        [effect(f"c{i}") for i in range(min(n, 45))], ACCURACY
    ),
    "effects": lambda _, n: choice_charts.draw_effects([effect("a"), effect("b")], ACCURACY),
    "common": lambda _, n: choice_charts.draw_common(
        [Prevalence("a", 3, 5, 6, 10, 40, 0.0004), Prevalence("b", "int8", 2, 6, 10, 40, 1.0)]
    ),
    "table parity": lambda _, n: device_charts.draw_table_parity(
        [ComparedNetwork(digest=f"{i:012x}", predicted_ms=1 + i, measured_ms=2 + i)
         for i in range(n)]
    ),
    "agreement": lambda _, n: device_charts.draw_agreement(
        ["a", "b", "c"],
        [Agreement("a", "b", 0.5, 0.2, 0.7, 30), Agreement("a", "c", None, None, None, 2),
         Agreement("b", "c", -0.4, -0.6, -0.1, 30)],
    ),
    "on devices": lambda _, n: device_charts.draw_on_devices(
        [OnDevice("a", 1.0, 1.1, 1.0, 1.2), OnDevice("b", 2.0, None)]
    ),
    "shares": lambda _, n: device_charts.draw_unit_shares({"u": 1.0}, {"u": 0.4, "v": 0.6}, "uv"),
    "predictions": lambda front, n: predictor_charts.draw_predictions(
        front, ACCURACY, predicted(n)
    ),
    "residuals": lambda front, n: predictor_charts.draw_residuals(
        front, ACCURACY, predicted(n), split_residuals(predicted(n))
    ),
    "coverage": lambda _, n: predictor_charts.draw_coverage(cover_levels(predicted(n), 0.9)),
    "population": lambda _, n: population_charts.draw_population(population(n), ACCURACY),
    "values": lambda _, n: population_charts.draw_values_over_time(
        "a", ["1", "2"], np.array([5, 9]), np.array([[0.2, 0.8, 0.0], [0.5, 0.25, 0.25]])
    ),
    "losses": lambda _, n: training_charts.draw_losses(metrics(n)),
    "rate": lambda _, n: training_charts.draw_rate(metrics(n)),
    "fronts": lambda front, n: overlay_chart.draw_fronts(
        [("one", front), ("two", front)], LATENCY, ACCURACY
    ),
    "hypervolume": lambda _, n: progress_charts.draw_hypervolume(
        [Hypervolume(i, float(i), 0.5 * i) for i in range(n)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("count", [1, 20, MANY])
def test_charts_are_valid_and_have_few_enough_marks(front: Front, name: str, count: int) -> None:
    # Altair checks what it writes against the schema of Vega-Lite.
    drawn = take_apart(DRAWN[name](front, count))
    assert sum(len(layer.rows) for layer in drawn.layers) <= MOST_MARKS


@pytest.mark.parametrize("name", ["population", "losses", "rate", "hypervolume"])
def test_nothing_at_all_can_be_drawn(front: Front, name: str) -> None:
    assert take_apart(DRAWN[name](front, 0)).layers


def test_a_share_below_nothing_has_no_bar() -> None:
    drawn = take_apart(choice_charts.draw_importance([effect("a", -0.01)], ACCURACY))
    assert drawn.one("bar").column("x") == [0.0]
    assert drawn.one("text").rows[0]["text"] == "0.0 %"


def test_the_text_beside_the_longest_bar_has_room() -> None:
    drawn = take_apart(choice_charts.draw_importance([effect("a", 0.5)], ACCURACY))
    assert drawn.one("bar").encoding["x"]["scale"]["domain"][1] > 1.2 * 50


def test_parity_names_what_judges_and_what_was_fitted() -> None:
    points = [
        ComparedNetwork(digest="0" * 12, predicted_ms=1.1, measured_ms=1.0, calibration=True),
        ComparedNetwork(digest="1" * 12, predicted_ms=1.9, measured_ms=2.0),
    ]
    marks = by_kind(take_apart(device_charts.draw_table_parity(points)).one("point").rows)
    assert marks[device_charts.CALIBRATED][0]["error"] == "+10.0 %"
    assert marks[device_charts.HELD_OUT][0]["error"] == "-5.0 %"


def test_near_correlations_can_be_told_from_1() -> None:
    drawn = take_apart(
        device_charts.draw_agreement(["a", "b"], [Agreement("a", "b", 0.9961, 0.99, 0.998, 40)])
    )
    texts = {(row["row"], row["column"]): row["text"] for row in drawn.one("text").rows}
    assert texts["a", "b"] == texts["b", "a"] == "0.996"
    assert texts["a", "a"] == "1"


def test_losses_are_smoothed_by_a_running_median() -> None:
    rows = metrics(400)
    rows[200] = rows[200].replace(loss_largest=1000.0)
    drawn = take_apart(training_charts.draw_losses(rows))
    (spike,) = [row for row in drawn.one("line").rows if row["loss"] == 1000.0]
    assert spike["median"] == pytest.approx(np.median([2.0 / n for n in range(195, 208)]), rel=0.02)
    assert drawn.one("circle").encoding["y"]["scale"]["domain"][1] < 100


# -- what they are drawn from ----------------------------------------------------------------------


def test_coverage_counts_what_lies_inside() -> None:
    found = predicted(4000)
    covered = measure_coverage(found, 0.95)
    assert covered is not None
    # Two standard deviations of a normal distribution.
    assert covered.share == pytest.approx(0.9545, abs=0.012)
    assert covered.low < covered.share < covered.high
    for one in cover_levels(found, 0.9545):
        assert one.share == pytest.approx(one.wanted, abs=0.025)
    bare = Predicted(found.places, found.mean, found.low * np.nan, found.high, found.value)
    assert measure_coverage(bare, 0.9) is None
    assert cover_levels(bare, 0.9) == ()


def test_two_shares_of_one_predictor_say_why_they_differ() -> None:
    covered = measure_coverage(predicted(4000), 0.95)
    assert covered is not None
    assert "report card's 88 %" in describe_coverage(covered, 0.88)
    for unknown in (None, float("nan")):
        assert "report card" not in describe_coverage(covered, unknown)


@given(st.integers(0, 30), st.integers(1, 30))
@settings(deadline=None)
def test_the_interval_of_a_share_is_wilsons(inside: int, outside: int) -> None:
    from scipy.stats import binomtest

    count = inside + outside
    value = np.array([0.0] * inside + [9.0] * outside)
    zeros = np.zeros(count)
    found = Predicted(np.arange(count), zeros, zeros - 1, zeros + 1, value)
    covered = measure_coverage(found, 0.9)
    expected = binomtest(inside, count).proportion_ci(0.95, "wilson")
    assert covered is not None
    assert (covered.low, covered.high) == pytest.approx((expected.low, expected.high), abs=2e-4)


def test_an_end_that_a_quantity_cannot_pass_leaves_the_width() -> None:
    mean, high = np.full(10, 0.99), np.full(10, 1.0)
    found = Predicted(np.arange(10), mean, mean - 0.05, high, mean - 0.04)
    (own,) = cover_levels(found, 0.9, (0.9,))
    assert own.share == 1.0


def test_medians_of_residuals_show_a_bias() -> None:
    found = predicted(1000)
    shifted = Predicted(
        found.places, found.mean, found.low, found.high, found.value + 0.1 * (found.mean > 0.9)
    )
    parts = split_residuals(shifted)
    assert sum(part.values for part in parts) == 1000
    assert parts[0].residual == pytest.approx(0, abs=0.004)
    assert parts[-1].residual == pytest.approx(0.1, abs=0.004)
    assert split_residuals(predicted(15)) == ()


@given(
    st.lists(st.floats(-5, 5, allow_subnormal=False) | st.just(float("nan")), max_size=30),
    st.booleans(),
)
@settings(deadline=None)
def test_records_are_those_better_than_all_before(values: list[float], maximize: bool) -> None:
    expected, best = [], None
    for place, value in enumerate(values):
        if np.isnan(value):
            continue
        signed = value if maximize else -value
        if best is None or signed > best:
            expected.append(place)
            best = signed
    found = find_records(np.array(values, dtype=np.float64), maximize=maximize)
    assert found.tolist() == expected


@given(st.integers(0, 500), st.integers(1, 4))
@settings(deadline=None)
def test_shares_of_values_add_up_in_every_part(count: int, cardinality: int) -> None:
    rng = np.random.default_rng(count)
    rows = rng.integers(0, cardinality, (count, 2)).astype(np.int16)
    active = rng.random((count, 2)) < 0.7
    encoded = Encoded(rows, active, np.ones(count, dtype=np.bool_))
    ends, shares = share_values(encoded, 1, cardinality)
    assert shares.shape == (len(ends), cardinality + 1)
    assert shares.sum(axis=1) == pytest.approx(np.ones(len(ends)))
    sizes = np.diff([0, *ends.tolist()])
    assert (shares.T @ sizes)[-1] == pytest.approx(count - active[:, 1].sum())
    assert (ends[-1] if len(ends) else 0) == count


def test_a_loss_gets_better_downwards() -> None:
    drawn = population_charts.draw_population(population(50), LOSS)
    line: list[Any] = take_apart(drawn).one("line").column("y")
    assert line == sorted(line, reverse=True)

"""No interval that is printed or stored is wider than what the quantity can be."""

from __future__ import annotations

import importlib
import math
import pkgutil

import numpy as np
import pytest

import predictors.models
from app.evaluation.race_bounds import bound_loss
from app.explorer.markup import list_card
from app.records.columns.front_columns import Column
from app.records.quantities import ACCURACY, LOSS, QUANTITIES, Quantity
from app.records.searches.front import CardRecord
from app.records.searches.picking import _differ_beyond_noise
from app.reporting import report_text
from app.searching.results.front_builder import _predict_held_out
from predictors import Predictor, predict_interval, summarise_card
from supernet.quality.evaluate import summarise_scores
from tests.toys.worlds import accuracy, space

METHODS = sorted(module.name for module in pkgutil.iter_modules(predictors.models.__path__))
WORLD = space()


def _fit(method: str, values: np.ndarray) -> Predictor:
    rows = WORLD.sample(np.random.default_rng(0), len(values))
    found: Predictor = importlib.import_module(f"predictors.models.{method}").fit(
        WORLD, rows, values, seed=0
    )
    return found


def test_the_scales_of_the_quantities() -> None:
    bounds = {name: (q.least, q.most) for name, q in QUANTITIES.items()}
    assert bounds.pop("accuracy") == (0.0, 1.0)
    assert set(bounds.values()) == {(0.0, math.inf)}
    assert [ACCURACY.bound(x) for x in (-0.2, 0.3, 1.7)] == [0.0, 0.3, 1.0]
    assert [LOSS.bound(x) for x in (-0.2, 1.7)] == [0.0, 1.7]


@pytest.mark.parametrize("method", METHODS)
def test_one_label_that_stands_out_is_no_measure_of_error(method: str) -> None:
    labels = np.full(30, 0.5)
    labels[7] = 1.0
    model = _fit(method, labels)
    unseen = WORLD.sample(np.random.default_rng(1), 100)
    low, high = predict_interval(model, unseen)
    assert (high - low <= 1.0 + 1e-9).all(), "half-widths are at most the range of the labels"
    for part in _predict_held_out("accuracy", model, unseen):
        assert (part >= 0).all()
        assert (part <= 1).all()
    card = model.report
    assert not card.varied
    assert card.to_json()["half_width"] is None
    assert card.to_json()["coverage"] is None
    sentence = summarise_card("accuracy", "fraction", card)
    assert sentence.endswith("; they do not vary enough to say how far it is off")
    shown = dict(report_text.list_card(CardRecord(**card.to_json())))
    assert shown["intervals"].startswith("none")


@pytest.mark.parametrize("labels", [np.full(20, 0.5), 0.5 + 1e-6 * np.arange(20) % 3e-6])
def test_labels_that_are_all_the_same_say_nothing_either(labels: np.ndarray) -> None:
    labels = labels.copy()
    if np.ptp(labels):
        labels[3] = 0.9
    model = _fit("ridge", labels)
    assert not model.report.varied
    assert (predict_interval(model, WORLD.sample(np.random.default_rng(1), 9))[0] >= 0).all()


def test_labels_that_vary_have_the_intervals_they_had() -> None:
    rows = WORLD.sample(np.random.default_rng(0), 60)
    labels = accuracy(WORLD, rows)
    model = _fit("gaussian_process", labels)
    card = model.report
    mean, std = model.predict(rows)
    low, high = predict_interval(model, rows)
    np.testing.assert_array_equal(high, mean + std * card.widening)
    np.testing.assert_array_equal(low, mean - std * card.widening)
    assert card.half_width == float(np.median(model.held_out.std) * card.widening)
    assert card.widest == float(np.ptp(labels))
    assert "90% within ±" in summarise_card("accuracy", "fraction", card)


def test_a_loss_is_never_bounded_below_0() -> None:
    scores = np.array([0.0, 0.0, 0.0, 9.0])
    found = summarise_scores(scores, "language-modelling", "val", 0, 1.0)
    assert (found.value, found.low) == (2.25, 0.0)
    assert found.high == pytest.approx(2.25 + 1.959964 * 4.5 / 2)
    race = bound_loss(scores, 400, 0.5, 3.0)
    assert (race.estimate, race.low) == (2.25, 0.0)
    assert race.high > 8
    # A rival that has its losses where nobody has looked yet.
    rival = np.concatenate([np.full(4, 5.0), np.zeros(396)])
    assert bound_loss(np.zeros(4), 400, rival, 3.0).estimate == 0.0
    whole = summarise_scores(np.array([1.0, 1.1, 0.9, 1.0]), "language-modelling", "val", 0, 1.0)
    assert whole.low == pytest.approx(2 * whole.value - whole.high), "one that fits is whole"


def test_a_card_from_before_is_shown_within_the_scale() -> None:
    shown = {q.name: dict(list_card_pairs(q, 23.7)) for q in (ACCURACY, LOSS)}
    assert shown["accuracy"]["Typical ±"] == "100.00 points"
    assert shown["loss"]["Typical ±"] == "23.70 nats/token", "a loss has no upper end"


def list_card_pairs(quantity: Quantity, half_width: float) -> list[tuple[str, str]]:
    card = CardRecord(model="ridge", samples=30, half_width=half_width)
    return [(label, value) for label, value, _ in list_card(card, quantity)]


def _column(values: list[float], low: list[float], high: list[float]) -> Column:
    found, lower, upper = (np.array(part) for part in (values, low, high))
    unknown = np.full(len(found), np.nan)
    return Column(
        value=found, predicted=unknown, posterior=unknown, alone=unknown, low=lower, high=upper,
        error=unknown, best=found, looked_up=np.zeros(len(found), dtype=bool),
    )  # fmt: skip


def test_an_interval_that_was_cut_off_still_tells_the_noise() -> None:
    # One up and one down each, as far as there is a scale: 0.431 * sqrt(2) / 1.96 = 0.311 apart.
    losses = _column([0.5, 0.8, 0.85], [0.0, 0.0, 0.0], [1.5, 1.8, 1.85])
    differ = _differ_beyond_noise(losses, LOSS, np.arange(3), np.intp(0))
    assert differ.tolist() == [False, False, True]
    # That of a share has no such twin: Wilson's interval is not symmetric.
    shares = _column([0.0, 0.014, 0.018], [0.0, 0.0, 0.0], [0.1, 0.1, 0.1])
    differ = _differ_beyond_noise(shares, ACCURACY, np.arange(3), np.intp(0))
    assert differ.tolist() == [False, False, True]

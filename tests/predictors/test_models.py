"""Closed-form held-out predictions are the real thing, intervals cover, the choice is sensible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from predictors import fit, predict_held_out, predict_interval
from predictors.features import covariance as kernels
from predictors.features.encoding import one_hot, thermometer, thermometer_owners
from predictors.models import gaussian_process, random_forest, ridge
from predictors.scores import kendall_tau, rmse
from supernet.space import Choice, SearchSpace
from tests.timing import least_seconds
from tests.toys.worlds import accuracy, latency, space

WORLD = space()


def sample(count, seed=0):
    return WORLD.sample(np.random.default_rng(seed), count)


def test_ridge_leave_one_out_equals_leaving_one_out():
    rows = sample(30)
    values = accuracy(WORLD, rows)
    whole = ridge.fit(WORLD, rows, values, seed=0)
    # The same penalty must be used for a comparison of the formula alone.
    penalties = ridge.PENALTIES
    for i in (0, 7, 29):
        keep = np.arange(30) != i
        errors = []
        for penalty in penalties:
            ridge.PENALTIES = np.array([penalty])
            part = ridge.fit(WORLD, rows[keep], values[keep], seed=0)
            errors.append(abs(part.mean(rows[i : i + 1])[0] - whole.held_out.mean[i]))
        ridge.PENALTIES = penalties
        assert min(errors) < 1e-9


def test_gaussian_process_leave_one_out_equals_leaving_one_out():
    rows = sample(220)
    values = accuracy(WORLD, rows)
    whole = gaussian_process.fit(WORLD, rows, values, seed=0)
    kernel, noise = whole.covariance, whole.covariance.noise
    matrix = kernel(whole.features, whole.features) + noise * np.eye(220)
    standard = (values - whole.level) / whole.scale
    for i in (0, 130, 219):
        keep = np.arange(220) != i
        weights = np.linalg.solve(matrix[np.ix_(keep, keep)], standard[keep])
        left_out = whole.scale * (matrix[i, keep] @ weights) + whole.level
        assert whole.held_out.mean[i] == pytest.approx(left_out, abs=1e-7)


def test_relevances_of_few_rows_are_judged_on_rows_that_tuning_had_not_seen():
    rows = sample(40)
    values = np.random.default_rng(3).normal(size=40)
    model = gaussian_process.fit(WORLD, rows, values, seed=0)
    # Pure noise: whatever tuning finds in it does not help on other rows.
    assert model.report.tau < 0.25
    assert model.report.rmse > 0.9 * values.std()


@pytest.mark.parametrize("linear", [False, True])
def test_the_gradient_of_the_evidence_is_that_of_finite_differences(linear):
    rng = np.random.default_rng(0)
    rows = sample(25)
    code = np.concatenate((thermometer(WORLD, rows), rng.normal(size=(25, 2))), axis=1)
    code -= code.mean(0)
    plan = kernels.lay_out(WORLD, thermometer_owners(WORLD), code, 2, linear=linear)
    at = kernels.begin_parameters(plan) + rng.normal(0, 0.3, len(kernels.begin_parameters(plan)))
    targets = rng.normal(size=25)
    _, gradient = kernels._loss(at, plan, code, targets)
    for i in [*rng.permutation(len(at))[:12].tolist(), len(at) - 3, len(at) - 2, len(at) - 1]:
        step = np.zeros(len(at))
        step[i] = 1e-5
        high, low = (kernels._loss(at + s * step, plan, code, targets)[0] for s in (1, -1))
        assert gradient[i] == pytest.approx((high - low) / 2e-5, rel=1e-4, abs=1e-6)


def test_names_and_orders_are_told_apart():
    rng = np.random.default_rng(0)
    ordinary = SearchSpace(tuple(Choice(f"c{i}", tuple(range(5)), "op") for i in range(6)))
    rows = ordinary.sample(rng, 120)
    rising = (rows**0.5).sum(1)
    shuffled = np.stack([rng.permutation(5) ** 0.5 for _ in range(6)])
    mixed = np.take_along_axis(shuffled, rows.T.astype(int), 1).sum(0)
    assert gaussian_process.fit(ordinary, rows, rising, seed=0).ordered
    assert not gaussian_process.fit(ordinary, rows, mixed, seed=0).ordered


def test_the_mean_is_that_of_the_exact_process():
    rows, unseen = sample(150), sample(3000, seed=1)
    model = gaussian_process.fit(WORLD, rows, accuracy(WORLD, rows, 0.003), seed=0)
    code = thermometer if model.ordered else one_hot
    features = code(WORLD, unseen) - model.centre
    exact = model.covariance(features, model.features) @ model.weights
    assert model.mean(unseen) == pytest.approx(model.level + model.scale * exact, rel=1e-4)


def test_ridge_recovers_additive_latency_exactly():
    rows, unseen = sample(150), sample(300, seed=1)
    model = ridge.fit(WORLD, rows, latency(WORLD, rows), seed=0)
    truth = latency(WORLD, unseen)
    assert rmse(model.mean(unseen), truth) < 0.002 * truth.mean()


def test_the_process_learns_interactions_that_ridge_cannot():
    rows, unseen = sample(300), sample(500, seed=1)
    truth = accuracy(WORLD, unseen)
    errors = [
        rmse(method.fit(WORLD, rows, accuracy(WORLD, rows), seed=0).mean(unseen), truth)
        for method in (gaussian_process, ridge)
    ]
    assert errors[0] < 0.75 * errors[1]


@pytest.mark.parametrize("method", [gaussian_process, ridge, random_forest])
def test_ninety_percent_intervals_cover_ninety_percent_of_unseen_values(method):
    covered, claimed = [], []
    for seed in range(4):
        rows, unseen = sample(120, seed=seed), sample(400, seed=100 + seed)
        model = method.fit(WORLD, rows, accuracy(WORLD, rows, 0.003, seed), seed=seed)
        low, high = predict_interval(model, unseen)
        truth = accuracy(WORLD, unseen, 0.003, 50 + seed)
        covered.append(((truth >= low) & (truth <= high)).mean())
        claimed.append(model.report.coverage)
        assert model.report.half_width < 0.5 * np.ptp(truth)
    assert 0.84 <= np.mean(covered) <= 0.97
    assert abs(np.mean(claimed) - np.mean(covered)) < 0.08


def test_the_report_agrees_with_fresh_data():
    rows, unseen = sample(250), sample(1000, seed=1)
    model = fit(WORLD, rows, accuracy(WORLD, rows), seed=0)
    truth = accuracy(WORLD, unseen)
    assert model.report.samples == 250
    assert model.report.tau == pytest.approx(kendall_tau(model.mean(unseen), truth), abs=0.04)
    assert model.report.rmse == pytest.approx(rmse(model.mean(unseen), truth), rel=0.3)


def test_the_choice_falls_on_the_method_that_ranks_better():
    rows = sample(300)
    chosen = fit(WORLD, rows, accuracy(WORLD, rows), seed=0)
    assert chosen.report.model == "gaussian_process"
    exact = fit(WORLD, rows, latency(WORLD, rows), seed=0)
    assert exact.report.model == "ridge", "as well ranked, with a smaller error"
    assert fit(WORLD, rows, latency(WORLD, rows), seed=0, methods=[ridge.fit]).report.tau > 0.99


@pytest.mark.parametrize(
    ("tau", "error", "chosen"),
    [
        (0.60, 1.0, "first"),
        (0.62, 1.0, "first"),
        (0.66, 1.0, "second"),
        (0.62, 0.7, "second"),
        (0.50, 0.1, "first"),
        (float("nan"), 0.1, "first"),
    ],
)
def test_a_lead_within_chance_does_not_unseat_the_preferred_method(tau, error, chosen):
    base = ridge.fit(WORLD, sample(40), accuracy(WORLD, sample(40)), seed=0)

    def claiming(name, tau, error):
        card = replace(base.report, model=name, tau=tau, rmse=error, samples=40)
        return lambda *arguments, **keywords: replace(base, report=card)

    methods = [claiming("first", 0.6, 1.0), claiming("second", tau, error)]
    found = fit(WORLD, sample(40), accuracy(WORLD, sample(40)), seed=0, methods=methods)
    assert found.report.model == chosen


def test_choosing_is_fast_enough_for_every_round_of_a_search():
    rows = sample(450)
    values = accuracy(WORLD, rows)
    fit(WORLD, rows, values, seed=0)
    choosing = least_seconds(lambda: fit(WORLD, rows, values, seed=0))
    one = least_seconds(lambda: ridge.fit(WORLD, rows, values, seed=0))
    assert choosing < 80 * one  # measured 15: folds of every method


def test_training_rows_are_reported_as_predicted_without_them():
    rows = sample(60)
    values = accuracy(WORLD, rows, 0.01)
    model = gaussian_process.fit(WORLD, rows, values, seed=0)
    mean, low, high = predict_held_out(model, np.concatenate((rows[:5], sample(5, seed=9))))
    assert mean[:5] == pytest.approx(model.held_out.mean[:5])
    assert mean[5:] == pytest.approx(model.mean(sample(5, seed=9)))
    assert (low < mean).all()
    assert (mean < high).all()


def test_far_from_the_data_the_process_is_less_sure():
    small = np.unique(WORLD.canonical(np.minimum(sample(80), 1)), axis=0)
    model = gaussian_process.fit(WORLD, small, accuracy(WORLD, small, 0.0003), seed=0)
    _, near = model.predict(small[:1])
    _, far = model.predict((WORLD.cardinalities - 1)[None])
    assert far[0] > 2 * near[0]


def test_no_methods_is_refused():
    with pytest.raises(ValueError, match="at least one method"):
        fit(WORLD, sample(5), np.arange(5.0), seed=0, methods=[])


def test_a_cost_that_explains_the_value_saves_samples():
    rows, unseen = sample(30), sample(500, seed=1)
    values, truth = accuracy(WORLD, rows), accuracy(WORLD, unseen)

    def capacity(positions):
        size = -np.log(0.95 - accuracy(WORLD, positions)) + 0.02 * latency(WORLD, positions)
        return size[:, None]

    informed, blind = (
        gaussian_process.fit(WORLD, rows, values, seed=0, statistics=free).mean(unseen)
        for free in (capacity, None)
    )
    assert rmse(informed, truth) < 0.5 * rmse(blind, truth)

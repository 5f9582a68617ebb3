"""An earlier run on other data helps with few labels, and one about something else does no harm."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import predictors
from predictors.models import ridge
from predictors.scores import kendall_tau
from predictors.transfer import transfer
from tests.toys.worlds import accuracy, latency, space

WORLD = space()
ROOT = Path(__file__).resolve().parents[2]
LABELS = 30


def sample(count, seed=0):
    return WORLD.sample(np.random.default_rng(seed), count)


def other_data(rows, noise=0.0, seed=0):
    """Harder data: related to accuracy, in another unit, with a part of its own."""
    own = latency(WORLD, rows)
    jitter = np.random.default_rng(seed).normal(0, noise, len(rows)) if noise else 0.0
    return 60 * accuracy(WORLD, rows) + 0.4 * own + jitter


def published(name):
    path = ROOT / "benchmarks" / f"{name}.py"
    if not path.is_file():
        pytest.skip("benchmarks folder is not part of this installation")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def taus(fits, space, rows, values, seeds):
    """Mean tau on the rows not among the labels, for each fit."""
    found = []
    for fit in fits:
        each = []
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(rows))
            known, unseen = order[:LABELS], order[LABELS:]
            model = fit(space, rows[known], values[known], seed=seed)
            each.append(kendall_tau(model.mean(rows[unseen]), values[unseen]))
        found.append(float(np.mean(each)))
    return found


def test_an_earlier_run_on_related_data_helps_at_thirty_labels():
    rows, earlier = sample(430), sample(300, seed=9)
    helped = transfer(ridge.fit, earlier, accuracy(WORLD, earlier, 0.002))
    alone, with_it = taus((ridge.fit, helped), WORLD, rows, other_data(rows, 0.1), 4)
    assert with_it > alone + 0.1


def test_an_earlier_run_about_something_else_does_little_harm():
    rows, earlier = sample(430), sample(300, seed=9)
    noise = np.random.default_rng(0).normal(size=300)
    opposite = -accuracy(WORLD, earlier)
    fits = (ridge.fit, *(transfer(ridge.fit, earlier, v) for v in (noise, opposite)))
    alone, *wrong = taus(fits, WORLD, rows, other_data(rows, 0.1), 4)
    assert min(wrong) > alone - 0.02


def test_published_language_tasks_help_each_other():
    data = published("_flexibert").load()
    if data is None:
        pytest.skip("needs shared/data/bench/flexibert_glue.npz beside the repository")
    # The earlier run saw half of the encoders; both tasks are trainings and tests of their own.
    earlier = np.random.default_rng(0).permutation(500)[:250]
    rows = data.rows[np.setdiff1d(np.arange(500), earlier)]
    values = data.task("sst")[np.setdiff1d(np.arange(500), earlier)]
    helped = transfer(ridge.fit, data.rows[earlier], data.task("mnli")[earlier])
    scrambled = np.random.default_rng(1).permutation(data.task("mnli")[earlier])
    harmed = transfer(ridge.fit, data.rows[earlier], scrambled)
    alone, good, bad = taus((ridge.fit, helped, harmed), data.space, rows, values, 8)
    assert good > alone + 0.015
    assert bad > alone - 0.02


def test_it_is_a_predictor_like_any_other():
    rows, earlier = sample(40), sample(200, seed=9)
    fit = transfer(predictors.fit, earlier, accuracy(WORLD, earlier))
    model = fit(WORLD, rows, other_data(rows), seed=0, statistics=lambda r: r[:, :2] * 1.0)
    unseen = sample(20, seed=3)
    mean, std = model.predict(unseen)
    assert mean == pytest.approx(model.mean(unseen))
    assert (std > 0).all()
    assert model.report.samples == 40
    assert model.report.tau == pytest.approx(
        kendall_tau(model.held_out.mean, model.held_out.values)
    )
    assert model.mean(unseen[:0]).shape == (0,)
    again = fit(WORLD, rows, other_data(rows), seed=0, statistics=lambda r: r[:, :2] * 1.0)
    assert (again.mean(unseen) == mean).all()


def test_the_earlier_run_is_fitted_once():
    calls = []

    def counting(space, positions, values, *, seed, statistics=None):
        calls.append(len(positions))
        return ridge.fit(space, positions, values, seed=seed, statistics=statistics)

    earlier, rows = sample(77, seed=9), sample(30)
    fit = transfer(counting, earlier, accuracy(WORLD, earlier))
    for _ in range(3):
        fit(WORLD, rows, other_data(rows), seed=0)
    assert calls.count(77) == 1


def test_unusable_earlier_runs_are_refused():
    rows = sample(10)
    with pytest.raises(ValueError, match="at least 3 rows and a value for each"):
        transfer(ridge.fit, rows[:2], np.arange(2.0))
    with pytest.raises(ValueError, match="cannot be transferred"):
        transfer(ridge.fit, rows, np.arange(4.0))

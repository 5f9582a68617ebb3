"""Learned combinations of layers find which layers matter, where a sum cannot."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.networks.perceptron import Training
from predictors.networks.ranking_losses import mse
from predictors.research.mixer import initialise
from predictors.research.nodewise import fit_mixer, fit_trees
from predictors.scores import kendall_tau
from tests.toys.worlds import space

WORLD = space()
BLOCKS = [(s, b) for s in range(4) for b in range(3)]
FITS = pytest.mark.parametrize("fit", [fit_mixer, fit_trees])


def layers(rows):
    """Two proxies of each of 12 blocks, by width and place; zero where a block is not there."""
    table = np.random.default_rng(3).gamma(2.0, 1.0, (len(BLOCKS), 4, 2))
    columns = [WORLD.index(f"s{s}.b{b}.width") for s, b in BLOCKS]
    there = WORLD.active(rows)[:, columns]
    found = table[np.arange(len(BLOCKS))[None], rows[:, columns]]
    return found * there[..., None]


def truth(rows, noise=0.0):
    """Only the last third of the blocks, those of the last stage and a bit, matter."""
    late = layers(rows)[:, 8:, 0].sum(1)
    return 70 + 2 * late + noise * np.random.default_rng(0).normal(size=len(rows))


def sample(count, seed=0):
    return WORLD.sample(np.random.default_rng(seed), count)


@FITS
def test_the_last_third_is_found_where_a_sum_is_lost(fit):
    rows, unseen = sample(100), sample(400, seed=1)
    values = truth(unseen)
    summed = max(abs(kendall_tau(layers(unseen)[..., i].sum(1), values)) for i in (0, 1))
    model = fit(WORLD, rows, truth(rows, 0.1), seed=0, layers=layers)
    found = kendall_tau(model.mean(unseen), values)
    assert found > summed + 0.2
    assert model.report.tau == pytest.approx(found, abs=0.12)


def test_tokens_are_really_mixed():
    mixers = initialise(1, 6, 2, seed=0)
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(1, 6, 2))

    def layer_effects(model):
        # Without token mixing, what one layer adds could not depend on another layer.
        other = matrix.copy()
        other[0, 0] += 1.0
        both = other.copy()
        both[0, 5] += 1.0
        last = matrix.copy()
        last[0, 5] += 1.0
        scores = [float(model(m)[0, 0]) for m in (matrix, other, last, both)]
        return abs(scores[3] - scores[1] - (scores[2] - scores[0]))

    assert layer_effects(mixers) > 1e-3
    for name in list(mixers.weights):
        if ".tokens.out" in name:
            mixers.weights[name] = np.zeros_like(mixers.weights[name])
    assert layer_effects(mixers) < 1e-5


@FITS
def test_predictions_have_units_spread_and_repeat(fit):
    rows, unseen = sample(60), sample(30, seed=2)
    model = fit(WORLD, rows, truth(rows), seed=0, layers=layers)
    mean, std = model.predict(unseen)
    assert mean == pytest.approx(model.mean(unseen))
    assert np.abs(mean - truth(unseen)).mean() < 0.8 * truth(unseen).std()
    assert (std > 0).all()
    again = fit(WORLD, rows, truth(rows), seed=0, layers=layers)
    assert (again.mean(unseen) == mean).all()
    assert model.mean(unseen[:0]).shape == (0,)
    assert (model.held_out.mean != model.held_out.values).all()


def test_a_squared_error_needs_no_scale():
    rows = sample(60)
    quick = Training(steps=60, learning_rate=1e-2)
    model = fit_mixer(WORLD, rows, truth(rows), seed=0, layers=layers, loss=mse, training=quick)
    assert model.report.tau > 0.3


@FITS
def test_unusable_layer_statistics_are_one_clear_sentence(fit):
    rows = sample(10)
    with pytest.raises(ValueError, match=r"expected \(10, layers, statistics\)"):
        fit(WORLD, rows, np.arange(10.0), seed=0, layers=lambda r: np.zeros((len(r), 4)))
    with pytest.raises(ValueError, match="layer statistics have to be finite"):
        fit(
            WORLD,
            rows,
            np.arange(10.0),
            seed=0,
            layers=lambda r: np.full((len(r), 4, 1), np.nan),
        )
    with pytest.raises(ValueError, match="at least 3 evaluations"):
        fit(WORLD, rows[:2], np.arange(2.0), seed=0, layers=layers)

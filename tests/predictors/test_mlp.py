"""The perceptron ensemble: units under every loss, independence of members, no global effects."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from predictors.cross_fitting import choose_training_rows, deal_folds
from predictors.features.encoding import one_hot
from predictors.models import mlp
from predictors.networks.perceptron import Training, initialise, train
from predictors.networks.ranking_losses import differentiable_kendall, logistic, pairwise_hinge
from predictors.scores import kendall_tau, rmse
from tests.toys.worlds import accuracy, space

WORLD = space()


def sample(count, seed=0):
    return WORLD.sample(np.random.default_rng(seed), count)


@pytest.mark.parametrize("loss", [pairwise_hinge, logistic, differentiable_kendall])
def test_a_ranking_loss_still_predicts_in_natural_units(loss):
    rows, unseen = sample(120), sample(400, seed=1)
    model = mlp.fit(WORLD, rows, 100 * accuracy(WORLD, rows), seed=0, loss=loss)
    truth = 100 * accuracy(WORLD, unseen)
    assert kendall_tau(model.mean(unseen), truth) > 0.7
    assert rmse(model.mean(unseen), truth) < 0.55 * truth.std()
    assert model.report.rmse == pytest.approx(rmse(model.mean(unseen), truth), rel=0.6)


def test_intervals_cover_what_they_say():
    covered = []
    for seed in range(2):
        rows, unseen = sample(120, seed=seed), sample(400, seed=100 + seed)
        model = mlp.fit(WORLD, rows, accuracy(WORLD, rows, 0.003, seed), seed=seed)
        mean, std = model.predict(unseen)
        truth = accuracy(WORLD, unseen, 0.003, 50 + seed)
        covered.append((np.abs(truth - mean) <= model.report.widening * std).mean())
    assert 0.84 <= np.mean(covered) <= 0.98


def test_no_member_has_seen_what_it_is_held_out_from():
    folds = deal_folds(11, 4, 2, seed=0)
    rows = choose_training_rows(folds, 4, seed=0)
    assert rows.shape == (8, 8)
    for member, own in enumerate(rows):
        assert (folds[member // 4][own] != member % 4).all()
        assert len(set(own.tolist())) == len(own)


def test_members_trained_together_are_those_trained_alone():
    rows = sample(40)
    features, targets = one_hot(WORLD, rows), np.random.default_rng(0).normal(size=(40, 1))
    start = initialise(2, (features.shape[1], 8, 1), seed=0)
    own = np.stack([np.arange(20), np.arange(20, 40)])
    training = Training(steps=5)
    both = train(start, features, targets, own, training, seed=0)
    alone = type(start)(tuple(w[1:] for w in start.weights), tuple(b[1:] for b in start.biases))
    second = train(alone, features, targets, own[1:], training, seed=0)
    np.testing.assert_allclose(both(features)[1], second(features)[0], rtol=1e-4, atol=1e-5)


def test_seeds_matter_and_global_random_state_does_not():
    rows = sample(40)
    values = accuracy(WORLD, rows)
    quick = Training(steps=5)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = mlp.fit(WORLD, rows, values, seed=0, training=quick).mean(rows)
    assert (torch.get_rng_state() == before).all()
    torch.manual_seed(4)
    assert (first == mlp.fit(WORLD, rows, values, seed=0, training=quick).mean(rows)).all()
    assert (first != mlp.fit(WORLD, rows, values, seed=1, training=quick).mean(rows)).any()


def test_small_data_gets_small_layers_and_a_thousand_rows_the_published_ones():
    quick = Training(steps=1, batch=8)
    rows = sample(1100)
    values = accuracy(WORLD, rows)
    assert mlp.fit(WORLD, rows[:50], values[:50], seed=0, training=quick).layers.hidden == (64,) * 3
    full = mlp.fit(WORLD, rows, values, seed=0, training=quick)
    assert full.layers.hidden == (400, 400, 400)
    assert full.layers.weights[0].shape == (4, int(WORLD.cardinalities.sum()), 400)
    assert np.isfinite(full.mean(rows[:5])).all()


def test_out_of_range_training_is_refused():
    with pytest.raises(ValueError, match="steps = 0 must be at least 1"):
        Training(steps=0)
    with pytest.raises(ValueError, match="learning_rate = 0"):
        Training(learning_rate=0)


def test_predictors_import_without_torch():
    code = (
        "import sys, predictors, predictors.models.mlp, predictors.research.pretraining, "
        "predictors.transfer; print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr

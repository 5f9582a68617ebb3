"""Hidden layers that know free statistics need fewer labels."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.models import mlp
from predictors.networks.perceptron import Training
from predictors.research.pretraining import pretrain
from predictors.scores import kendall_tau
from supernet.space import Choice, SearchSpace
from tests.toys.worlds import accuracy, latency, space

WORLD = space()
FREE = Training(steps=120, learning_rate=5e-3)


def statistics(rows):
    # A size that drives accuracy, as parameters do, and one that does not.
    size = -np.log(0.96 - accuracy(WORLD, rows))
    return np.stack([size, latency(WORLD, rows)], 1)


@pytest.fixture(scope="module")
def start():
    return pretrain(WORLD, statistics, seed=0, samples=800, width=48, training=FREE)


def test_the_trunk_learns_the_statistics_of_unseen_architectures(start):
    assert start.error.shape == (2,)
    assert (start.error < 0.4).all()


def test_few_labels_rank_better_after_pretraining(start):
    unseen = WORLD.sample(np.random.default_rng(9), 300)
    truth = accuracy(WORLD, unseen)
    taus = []
    for fit in (start.prepare_fit(), mlp.fit):
        found = []
        for seed in range(2):
            rows = WORLD.sample(np.random.default_rng(seed), 30)
            model = fit(WORLD, rows, accuracy(WORLD, rows), seed=seed)
            found.append(kendall_tau(model.mean(unseen), truth))
        taus.append(np.mean(found))
    assert taus[0] > taus[1] + 0.05


def test_it_is_a_function_of_its_seed(start):
    again = pretrain(WORLD, statistics, seed=0, samples=800, width=48, training=FREE)
    for first, second in zip(start.trunk.layers.weights, again.trunk.layers.weights, strict=True):
        assert (first == second).all()


def test_statistics_may_be_features_beside_the_trunk(start):
    rows, unseen = (WORLD.sample(np.random.default_rng(s), n) for s, n in ((0, 40), (1, 200)))
    model = start.prepare_fit()(WORLD, rows, accuracy(WORLD, rows), seed=0, statistics=statistics)
    width = int(WORLD.cardinalities.sum())
    assert model.layers.inputs == width + 2
    assert kendall_tau(model.mean(unseen), accuracy(WORLD, unseen)) > 0.8
    # Without a step of training, the trunk is where the members start.
    still = start.prepare_fit(training=Training(steps=1, learning_rate=1e-9))
    first = still(WORLD, rows, accuracy(WORLD, rows), seed=0, statistics=statistics).layers
    np.testing.assert_allclose(
        first.weights[0][0, :width], start.trunk.layers.weights[0][0], atol=1e-6
    )


def test_what_does_not_fit_is_refused(start):
    rows = WORLD.sample(np.random.default_rng(0), 10)
    other = SearchSpace((Choice("a", (1, 2), "width"),))
    with pytest.raises(ValueError, match="was pretrained on space"):
        start.prepare_fit()(other, rows[:, :1] % 2, np.arange(10.0), seed=0)
    with pytest.raises(ValueError, match="at least 20 architectures; got samples = 3"):
        pretrain(WORLD, statistics, seed=0, samples=3)
    with pytest.raises(ValueError, match="finite"):
        pretrain(WORLD, lambda rows: np.full((len(rows), 1), np.nan), seed=0)

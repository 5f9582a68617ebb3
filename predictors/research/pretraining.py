"""Pretraining on free statistics: the perceptron first learns what costs nothing to know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from predictors.features.encoding import Statistics, one_hot, standardise
from predictors.models import mlp
from predictors.networks.perceptron import Training, initialise, train
from predictors.networks.ranking_losses import Loss, mse
from predictors.predictor import Fit
from supernet.errors import InputError
from supernet.space import SearchSpace

SAMPLES = 2000
WIDTH = 96
TRUNKS = 2
PRETRAINING = Training(steps=300, learning_rate=5e-3, weight_decay=1e-4)
FINE_TUNING = Training(steps=120, learning_rate=2e-3, weight_decay=1e-3)


@dataclass(frozen=True)
class Pretrained:
    """Hidden layers that know the statistics of a space.

    Args:
        trunk: The hidden layers, and the head that predicted the statistics.
        error: Root mean squared error of the standardised statistics on architectures it had not
            seen, ``(k,)``: 0 is perfect, 1 no better than their mean.
    """

    trunk: mlp.Trunk
    error: NDArray[np.float64]

    def prepare_fit(self, *, training: Training = FINE_TUNING, loss: Loss = mse) -> Fit:
        """Make a fit that fine-tunes these layers; it takes and refuses what any other does.

        Statistics may come beside the choices as features as well, the same or others; the hidden
        layers then start to use them during fine-tuning.

        Args:
            training: Steps and rates of the fine-tuning.
            loss: What the fine-tuning minimises.
        """
        return partial(mlp.fit, trunk=self.trunk, training=training, loss=loss)


def pretrain(
    space: SearchSpace,
    statistics: Statistics,
    *,
    seed: int,
    samples: int = SAMPLES,
    width: int = WIDTH,
    training: Training = PRETRAINING,
    pool: NDArray[np.integer] | None = None,
) -> Pretrained:
    """Train hidden layers to regress free statistics of random architectures (FBNetV3, section 4).

    The labels cost nothing: operations, parameters and table latencies are known for any
    architecture. Afterwards a fit on few accuracies starts from features that already order
    architectures by size.

    Args:
        space: The search space.
        statistics: Canonical positions ``(n, len(space))`` in, numbers ``(n, k)`` out.
        seed: Draws architectures, initial weights and batches.
        samples: How many random architectures; a tenth of them, unseen, measures the error.
        width: Units of each hidden layer.
        training: Steps and rates of the pretraining.
        pool: Canonical rows ``(n, len(space))`` to draw from instead of the whole space.

    Raises:
        InputError: Fewer than 20 samples, or statistics that are not finite numbers ``(n, k)``.
    """
    if samples < 20:
        raise InputError(f"pretraining needs at least 20 architectures; got samples = {samples}")
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(3)]
    rng = np.random.default_rng(seeds[0])
    if pool is None:
        rows = space.sample(rng, samples)
    else:
        known = space.canonical(np.asarray(pool))
        rows = known[rng.permutation(len(known))[:samples]]
    targets = standardise(space, statistics, rows)(rows)
    features = one_hot(space, rows)
    sizes = (features.shape[1], *(width,) * mlp.HIDDEN_LAYERS, targets.shape[1])
    kept = len(rows) - len(rows) // 10
    members = np.broadcast_to(np.arange(kept), (TRUNKS, kept))
    trunk = train(
        initialise(TRUNKS, sizes, seeds[1]), features, targets, members, training, seeds[2]
    )
    missed = trunk(features[kept:]).mean(0) - targets[kept:]
    return Pretrained(mlp.Trunk(space, trunk), np.sqrt((missed.astype(np.float64) ** 2).mean(0)))

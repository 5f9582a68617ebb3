"""Pretraining on free statistics: the perceptron first learns what costs nothing to know."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from predictors.features.encoding import Statistics, one_hot, scaled
from predictors.models import mlp
from predictors.networks.perceptron import Layers, Training, initial, train
from predictors.networks.ranking_losses import Loss, mse
from predictors.predictor import Predictor
from supernet.space import SearchSpace

SAMPLES = 2000
WIDTH = 96
TRUNKS = 2
PRETRAINING = Training(steps=300, learning_rate=5e-3, weight_decay=1e-4)
FINE_TUNING = Training(steps=120, learning_rate=2e-3, weight_decay=1e-3)


@dataclass(frozen=True)
class Pretrained:
    """Hidden layers that know the statistics of a space; call it like ``predictors.fit``.

    Args:
        space: What it was trained on.
        trunk: The hidden layers, and the head that predicted the statistics.
        error: Root mean squared error of the standardised statistics on architectures it had not
            seen, ``(k,)``: 0 is perfect, 1 no better than their mean.
        training: Of the fine-tuning on values.
        loss: Of the fine-tuning.
    """

    space: SearchSpace
    trunk: Layers
    error: NDArray[np.float64]
    training: Training = field(default=FINE_TUNING)
    loss: Loss = field(default=mse)

    def __call__(
        self,
        space: SearchSpace,
        positions: NDArray[np.integer],
        values: NDArray[np.floating],
        *,
        seed: int,
        statistics: Statistics | None = None,
    ) -> Predictor:
        """Fine-tune on positions ``(n, len(space))`` and values ``(n,)``.

        Statistics may come beside the choices as features as well, the same or others; the hidden
        layers then start to use them during fine-tuning.

        Raises:
            ValueError: Another space than that of the pretraining, or unusable values.
        """
        if space != self.space:
            raise ValueError(
                f"the perceptron was pretrained on space {self.space.digest}, not on {space.digest}"
            )
        return mlp.fit(
            space,
            positions,
            values,
            seed=seed,
            statistics=statistics,
            loss=self.loss,
            training=self.training,
            trunk=self.trunk,
        )


def pretrained(
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
        seed: Of the architectures, initial weights and batches.
        samples: How many random architectures; a tenth of them, unseen, measures the error.
        width: Units of each hidden layer.
        training: Steps and rates of the pretraining.
        pool: Canonical rows ``(n, len(space))`` to draw from instead of the whole space.

    Raises:
        ValueError: Fewer than 20 samples, or statistics that are not finite numbers ``(n, k)``.
    """
    if samples < 20:
        raise ValueError(f"pretraining needs at least 20 architectures; got samples = {samples}")
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(3)]
    rng = np.random.default_rng(seeds[0])
    if pool is None:
        rows = space.sample(rng, samples)
    else:
        known = space.canonical(np.asarray(pool))
        rows = known[rng.permutation(len(known))[:samples]]
    targets = scaled(space, statistics, rows)(rows)
    features = one_hot(space, rows)
    sizes = (features.shape[1], *(width,) * mlp.HIDDEN_LAYERS, targets.shape[1])
    kept = len(rows) - len(rows) // 10
    members = np.broadcast_to(np.arange(kept), (TRUNKS, kept))
    trunk = train(initial(TRUNKS, sizes, seeds[1]), features, targets, members, training, seeds[2])
    missed = trunk(features[kept:]).mean(0) - targets[kept:]
    return Pretrained(space, trunk, np.sqrt((missed.astype(np.float64) ** 2).mean(0)))

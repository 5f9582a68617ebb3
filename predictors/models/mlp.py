"""Once-for-All's accuracy predictor: a perceptron with three hidden layers, as an ensemble."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.cross_fitting import choose_training_rows, deal_folds, hold_out_members
from predictors.features.encoding import Extras, Standardised, one_hot_with, standardise
from predictors.networks.perceptron import Layers, Training, initialise, train
from predictors.networks.ranking_losses import Loss, mse, to_units
from predictors.predictor import Rows, Values, prepare_training_rows
from predictors.report_card import HeldOut, ReportCard, Vector, make_report_card
from supernet.errors import InputError
from supernet.space import SearchSpace

SUMMARY = "OFA's perceptron with any ranking loss; for a thousand labels and more, or pretrained"
HIDDEN_LAYERS = 3
# (rows up to, width): the published 400 units need about a thousand labels.
WIDTHS = ((100, 64), (300, 96), (1000, 160))
FULL_WIDTH = 400
FOLDS = 4
FULL_TRAINING = Training(steps=600, learning_rate=1e-3, weight_decay=1e-4)


@dataclass(frozen=True)
class Trunk:
    """Hidden layers that were trained before, and the head they were trained with.

    Args:
        space: The search space whose one-hot code they take.
        layers: One or more perceptrons.
    """

    space: SearchSpace
    layers: Layers


@dataclass(frozen=True)
class Perceptron:
    """A fitted ensemble; see :func:`fit`."""

    space: SearchSpace
    free: Standardised
    layers: Layers
    slopes: Vector
    offsets: Vector
    noise: float
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: Rows) -> Vector:
        """Expected values ``(n,)``."""
        result: Vector = self._members(positions).mean(0)
        return result

    def predict(self, positions: Rows) -> tuple[Vector, Vector]:
        """Expected values and standard deviations (disagreement and noise), ``(n,)`` each."""
        members = self._members(positions)
        return members.mean(0), np.sqrt(members.var(0) + self.noise**2)

    def _members(self, positions: Rows) -> NDArray[np.float64]:
        scores = self.layers(one_hot_with(self.space, self.free, positions))[..., 0]
        return scores * self.slopes[:, None] + self.offsets[:, None]


def fit(
    space: SearchSpace,
    positions: Rows,
    values: Values,
    *,
    seed: int,
    loss: Loss = mse,
    training: Training | None = None,
    trunk: Trunk | None = None,
    statistics: Extras = None,
) -> Perceptron:
    """Fit 3 hidden ReLU layers to base value and residual (OFA, Cai et al. 2020, section 3.4).

    The last layer has no bias: the mean of the training values takes its place. Hidden layers
    have 400 units from a thousand values on and fewer below. Each member of the ensemble leaves
    out one fold of the rows, so that the members that predict also make the held-out predictions;
    the rows are dealt into 4 folds twice, and once from a thousand rows on.

    Args:
        space: As in :class:`predictors.predictor.Fit`.
        positions: Likewise.
        values: Likewise.
        seed: Deals the folds, and draws initial weights and batches.
        loss: One of :mod:`predictors.networks.ranking_losses`, or your own. Scores of a loss that
            only ranks are brought to the values' unit by a fit of each member on its own rows.
        training: Steps and rates; where ``None``, what suits the number of rows.
        trunk: Hidden layers to start from, handed round among the members; see
            :mod:`predictors.research.pretraining`.
        statistics: As in :class:`predictors.predictor.Fit`.

    Returns:
        The fitted ensemble.

    Raises:
        InputError: As in :class:`predictors.predictor.Fit`, or the trunk is of another space.
    """
    if trunk is not None and trunk.space != space:
        raise InputError(
            f"the perceptron was pretrained on space {trunk.space.digest}, not on {space.digest}"
        )
    rows, targets = prepare_training_rows(space, positions, values)
    free = standardise(space, statistics, rows)
    features = one_hot_with(space, free, rows)
    level, scale = float(targets.mean()), float(targets.std()) or 1.0
    large = len(rows) >= WIDTHS[-1][0]
    number, times = min(FOLDS, len(rows)), 1 if large else 2
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(4)]
    folds = deal_folds(len(rows), number, times, seeds[0])
    members = choose_training_rows(folds, number, seeds[1])
    before = None if trunk is None else trunk.layers
    start = _start(features, len(members), number, before, seeds[2])
    chosen = training or (FULL_TRAINING if large else Training())
    standard = ((targets - level) / scale)[:, None]
    layers = train(start, features, standard, members, chosen, seeds[3], loss)
    scores = layers(features)[..., 0].astype(np.float64)
    units = [to_units(s[own], targets[own]) for s, own in zip(scores, members, strict=True)]
    slopes, offsets = np.array([(scale, level)] * len(members) if loss is mse else units).T
    predicted = scores * slopes[:, None] + offsets[:, None]
    held_out, noise = hold_out_members(rows, targets, predicted, folds)
    report = make_report_card("mlp", held_out)
    return Perceptron(space, free, layers, slopes, offsets, noise, report, held_out)


def _start(
    features: NDArray[np.float64], members: int, folds: int, trunk: Layers | None, seed: int
) -> Layers:
    """New layers of a width that suits the rows, or those of the trunk with a new last layer."""
    count, inputs = features.shape
    width = next((size for limit, size in WIDTHS if count < limit), FULL_WIDTH)
    hidden = trunk.hidden if trunk is not None else (width,) * HIDDEN_LAYERS
    start = initialise(members, (inputs, *hidden, 1), seed)
    if trunk is None:
        return start
    # Members of one repeat share a trunk: folds then differ by their rows alone.
    which = (np.arange(members) // folds) % len(trunk.weights[0])
    first = start.weights[0].copy()
    # Statistics come after the choices; the trunk has not met them, so they keep new weights.
    first[:, : trunk.inputs] = trunk.weights[0][which]
    middle = (w[which] for w in trunk.weights[1:-1])
    return Layers((first, *middle, start.weights[-1]), tuple(b[which] for b in trunk.biases))

"""Learned combinations of statistics of single layers, instead of their plain sum (ParZC)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictors.cross_fitting import choose_training_rows, deal_folds, hold_out_members
from predictors.features.encoding import compute_statistics
from predictors.networks.perceptron import Training
from predictors.networks.ranking_losses import Loss, differentiable_kendall, mse, to_units
from predictors.predictor import Rows, Values, prepare_training_rows
from predictors.report_card import HeldOut, ReportCard, Vector, make_report_card
from predictors.research import mixer
from supernet.errors import InputError
from supernet.space import SearchSpace

Matrices = NDArray[np.float64]
# Canonical positions (n, len(space)) in, (n, layers, statistics) out: one row of numbers for each
# layer, all zero where the architecture does not have it.
LayerStatistics = Callable[[NDArray[np.int16]], Matrices]

FOLDS = 4
REPEATS = 2
TREES = 120
TRAINING = Training(steps=100, learning_rate=1e-2, weight_decay=1e-2)


@dataclass(frozen=True)
class Scale:
    """Layer matrices as the models take them: logarithms, standardised on the training rows.

    Args:
        space: Makes rows canonical.
        source: The statistics.
        centre: Mean of each statistic over the layers that are there, ``(statistics,)``.
        spread: Standard deviation likewise, 1 for a constant one.
    """

    space: SearchSpace
    source: LayerStatistics
    centre: Vector
    spread: Vector

    def __call__(self, positions: Rows) -> Matrices:
        """``(n, layers, statistics + 1)``: the last column is 1 where the layer is there."""
        raw = _raw(self.source, self.space.canonical(np.asarray(positions)))
        there = (raw != 0).any(2, keepdims=True)
        scaled = np.where(there, (_logarithms(raw) - self.centre) / self.spread, 0.0)
        return np.concatenate((scaled, there * 1.0), axis=2)


@dataclass(frozen=True)
class Nodewise:
    """A fitted combination; see :func:`fit_mixer` and :func:`fit_trees`.

    Args:
        scale: Makes the matrices.
        members: Scores ``(m, n)`` of matrices, in the unit of the values.
        noise: Standard deviation of a value around the members' mean.
        report: The report card, from held-out predictions.
        held_out: Those predictions.
    """

    scale: Scale
    members: Callable[[Matrices], NDArray[np.float64]]
    noise: float
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: Rows) -> Vector:
        """Expected values ``(n,)``."""
        return self.predict(positions)[0]

    def predict(self, positions: Rows) -> tuple[Vector, Vector]:
        """Expected values and standard deviations (disagreement and noise), ``(n,)`` each."""
        if not len(positions):
            return np.zeros(0), np.zeros(0)
        members = self.members(self.scale(positions))
        return members.mean(0), np.sqrt(members.var(0) + self.noise**2)


def fit_mixer(
    space: SearchSpace,
    positions: Rows,
    values: Values,
    *,
    layers: LayerStatistics,
    seed: int,
    loss: Loss = differentiable_kendall,
    training: Training = TRAINING,
) -> Nodewise:
    """Combine layer statistics by a small mixer trained on few values (ParZC, Dong et al. 2024).

    Layers are tokens: each block mixes over layers and then over channels. Bayesian layers of the
    publication are replaced by an ensemble, whose members each leave out a fold of the rows.

    Args:
        space: As in :class:`predictors.predictor.Fit`.
        positions: Likewise.
        values: Likewise.
        layers: Canonical positions in, ``(n, layers, statistics)`` out, zero for absent layers.
        seed: Deals the folds and draws initial weights.
        loss: One of :mod:`predictors.networks.ranking_losses`; scores are brought to the values'
            unit afterwards.
        training: Steps and rates.

    Returns:
        The fitted combination.

    Raises:
        InputError: As in :class:`predictors.predictor.Fit`, or layer statistics of another shape
            or that are not finite.
    """
    task = _prepare(space, positions, values, layers, seed)
    targets, own, matrices = task.targets, task.own, task.matrices
    level, spread = float(targets.mean()), float(targets.std()) or 1.0
    start = mixer.initialise(len(own), matrices.shape[1], matrices.shape[2], task.seed)
    trained = mixer.train(start, matrices, (targets - level) / spread, own, training, loss)
    scores = trained(matrices).astype(np.float64)
    units = [to_units(s[r], targets[r]) for s, r in zip(scores, own, strict=True)]
    slopes, offsets = np.array([(spread, level)] * len(own) if loss is mse else units).T

    def members(found: Matrices) -> NDArray[np.float64]:
        return trained(found) * slopes[:, None] + offsets[:, None]

    return _finish("nodewise mixer", task, members)


def fit_trees(
    space: SearchSpace, positions: Rows, values: Values, *, layers: LayerStatistics, seed: int
) -> Nodewise:
    """Combine layer statistics by gradient boosting on the same matrix, flattened.

    Arguments and errors are those of :func:`fit_mixer`; the seed deals the folds and draws the
    rows and columns that each tree sees.
    """
    task = _prepare(space, positions, values, layers, seed)
    flat = task.matrices.reshape(len(task.matrices), -1)
    boosted = [
        _boosting(task.seed + i).fit(flat[r], task.targets[r]) for i, r in enumerate(task.own)
    ]

    def members(found: Matrices) -> NDArray[np.float64]:
        flat = found.reshape(len(found), -1)
        return np.stack([model.predict(flat) for model in boosted])

    return _finish("nodewise trees", task, members)


@dataclass(frozen=True)
class _Task:
    """Scaled matrices and checked values, dealt into folds; ``own`` are each member's rows."""

    scale: Scale
    matrices: Matrices
    rows: NDArray[np.int16]
    targets: Vector
    folds: NDArray[np.intp]
    own: NDArray[np.intp]
    seed: int


def _prepare(
    space: SearchSpace, positions: Rows, values: Values, layers: LayerStatistics, seed: int
) -> _Task:
    rows, targets = prepare_training_rows(space, positions, values)
    raw = _raw(layers, rows)
    there = (raw != 0).any(2)
    present = _logarithms(raw)[there] if there.any() else np.zeros((1, raw.shape[2]))
    spread = present.std(0)
    scale = Scale(space, layers, present.mean(0), np.where(spread > 1e-9, spread, 1.0))
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(3)]
    number = min(FOLDS, len(rows))
    folds = deal_folds(len(rows), number, REPEATS, seeds[0])
    own = choose_training_rows(folds, number, seeds[1])
    return _Task(scale, scale(rows), rows, targets, folds, own, seeds[2])


def _finish(name: str, task: _Task, members: Callable[[Matrices], NDArray[np.float64]]) -> Nodewise:
    found = members(task.matrices)
    held_out, noise = hold_out_members(task.rows, task.targets, found, task.folds)
    return Nodewise(task.scale, members, noise, make_report_card(name, held_out), held_out)


def _boosting(seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(
        n_estimators=TREES,
        learning_rate=0.08,
        max_depth=3,
        subsample=0.7,
        max_features=0.3,
        random_state=seed % 2**32,
    )


def _raw(layers: LayerStatistics, rows: NDArray[np.int16]) -> Matrices:
    raw = compute_statistics(layers, rows, "layer statistics", ("layers", "statistics"))
    if not np.isfinite(raw).all():
        row, layer, column = (int(i) for i in np.argwhere(~np.isfinite(raw))[0])
        raise InputError(
            f"statistic {column} of layer {layer} of architecture {row} is "
            f"{raw[row, layer, column]}; layer statistics have to be finite"
        )
    return raw


def _logarithms(raw: Matrices) -> Matrices:
    # Proxies of layers differ by orders of magnitude; signs stay.
    result: Matrices = np.sign(raw) * np.log1p(np.abs(raw))
    return result

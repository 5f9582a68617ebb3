"""Support vector regression with a radial kernel on masked one-hot features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVR

from predictors.features.encoding import Extras, Standardised, one_hot, standardise
from predictors.predictor import Rows, Values, prepare_training_rows
from predictors.report_card import HeldOut, ReportCard, Vector, make_report_card
from supernet.space import SearchSpace

SUMMARY = "support vector regression; a strong published accuracy predictor, slower to choose"
COSTS = (1.0, 10.0, 100.0)
FOLDS = 5


@dataclass(frozen=True)
class SupportVector:
    """A fitted regression; see :func:`fit`."""

    space: SearchSpace
    free: Standardised
    machine: SVR
    level: float
    scale: float
    spread: float
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: Rows) -> Vector:
        """Expected values ``(n,)``."""
        if not len(positions):
            return np.zeros(0)
        result: Vector = self.machine.predict(_features(self.space, self.free, positions))
        return result * self.scale + self.level

    def predict(self, positions: Rows) -> tuple[Vector, Vector]:
        """Expected values and one common standard deviation (of held-out errors), ``(n,)`` each."""
        mean = self.mean(positions)
        return mean, np.full(len(mean), self.spread)


def fit(
    space: SearchSpace, positions: Rows, values: Values, *, seed: int, statistics: Extras = None
) -> SupportVector:
    """Fit with the cost parameter of least cross-validated error.

    Arguments and errors are those of :class:`predictors.predictor.Fit`; the seed deals the rows to
    the folds.
    """
    rows, targets = prepare_training_rows(space, positions, values)
    free = standardise(space, statistics, rows)
    features = _features(space, free, rows)
    level, scale = float(targets.mean()), float(targets.std()) or 1.0
    standard = (targets - level) / scale
    folds = np.random.default_rng(seed).permutation(np.arange(len(rows)) % FOLDS)
    trials = []
    for cost in COSTS:
        mean = np.zeros(len(rows))
        for fold in np.unique(folds):
            test = folds == fold
            machine = _machine(cost).fit(features[~test], standard[~test])
            mean[test] = machine.predict(features[test])
        trials.append((float(((mean - standard) ** 2).mean()), cost, mean))
    error, cost, mean = min(trials, key=lambda trial: trial[0])
    spread = max(float(np.sqrt(error)) * scale, 1e-12)
    held_out = HeldOut(rows, targets, mean * scale + level, np.full(len(rows), spread))
    return SupportVector(
        space=space,
        free=free,
        machine=_machine(cost).fit(features, standard),
        level=level,
        scale=scale,
        spread=spread,
        report=make_report_card("support_vector", held_out),
        held_out=held_out,
    )


def _machine(cost: float) -> SVR:
    return SVR(kernel="rbf", gamma="scale", C=cost, epsilon=0.01)


def _features(space: SearchSpace, free: Standardised, positions: Rows) -> NDArray[np.float64]:
    code = one_hot(space, positions)
    # Half the spread of a column of ones and zeros is what a statistic weighs in the distance.
    return np.concatenate((code, 0.5 * free(positions)), axis=1) if len(free) else code

"""Gradient-boosted trees on ordered positions: thresholds and interactions from few rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from predictors.features.encoding import Extras, Standardised, ordinal_with, standardise
from predictors.predictor import Rows, Values, prepare_training_rows
from predictors.report_card import HeldOut, ReportCard, Vector, make_report_card
from supernet.space import SearchSpace

SUMMARY = "boosted trees on ordered positions; for effects with thresholds and a few hundred rows"
FOLDS = 5
ROUNDS = 150
LEARNING_RATE = 0.05
# The usual 20 rows per leaf leave almost nothing to split below two hundred.
SMALL_ROWS, SMALL_LEAF, LEAF = 200, 5, 20


@dataclass(frozen=True)
class GradientBoosting:
    """The fitted trees of every fold and their mean; see :func:`fit`."""

    space: SearchSpace
    free: Standardised
    machines: tuple[HistGradientBoostingRegressor, ...]
    noise: float
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: Rows) -> Vector:
        """Expected values ``(n,)``."""
        return np.asarray(self._votes(positions).mean(axis=0))

    def predict(self, positions: Rows) -> tuple[Vector, Vector]:
        """Expected values and standard deviations (disagreement and noise), ``(n,)`` each."""
        votes = self._votes(positions)
        return votes.mean(axis=0), np.sqrt(votes.var(axis=0) + self.noise**2)

    def _votes(self, positions: Rows) -> NDArray[np.float64]:
        if not len(positions):
            return np.zeros((len(self.machines), 0))
        features = ordinal_with(self.space, self.free, positions)
        return np.stack([machine.predict(features) for machine in self.machines])


def fit(
    space: SearchSpace, positions: Rows, values: Values, *, seed: int, statistics: Extras = None
) -> GradientBoosting:
    """Boost on all rows but one fold, for every fold; the prediction is the mean of these models.

    A model per fold costs the same as cross-validation and a final fit, averages as bagging does,
    and its members' disagreement is part of the spread. Arguments and errors are those of
    :class:`predictors.predictor.Fit`; the seed deals the rows to the folds.
    """
    rows, targets = prepare_training_rows(space, positions, values)
    free = standardise(space, statistics, rows)
    features = ordinal_with(space, free, rows)
    folds = np.random.default_rng(seed).permutation(np.arange(len(rows)) % FOLDS)
    leaf = SMALL_LEAF if len(rows) < SMALL_ROWS else LEAF
    machines = []
    mean = np.zeros(len(rows))
    for fold in np.unique(folds):
        test = folds == fold
        machine = HistGradientBoostingRegressor(
            learning_rate=LEARNING_RATE,
            max_iter=ROUNDS,
            min_samples_leaf=leaf,
            early_stopping=False,
            random_state=seed % 2**32,
        ).fit(features[~test], targets[~test])
        machines.append(machine)
        mean[test] = machine.predict(features[test])
    noise = max(float(np.sqrt(((mean - targets) ** 2).mean())), 1e-12)
    votes = np.stack([machine.predict(features) for machine in machines])
    held_out = HeldOut(rows, targets, mean, np.sqrt(votes.var(axis=0) + noise**2))
    return GradientBoosting(
        space=space,
        free=free,
        machines=tuple(machines),
        noise=noise,
        report=make_report_card("gradient_boosting", held_out),
        held_out=held_out,
    )

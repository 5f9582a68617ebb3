"""Random forest on ordered positions: strong with few samples where effects are not smooth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from predictors.features.encoding import Extras, Standardised, ordinal_with, standardise
from predictors.predictor import Rows, Values, prepare_training_rows
from predictors.report_card import HeldOut, ReportCard, Vector, make_report_card
from supernet.space import SearchSpace

SUMMARY = "trees on ordered positions; for small data with thresholds instead of slopes"
TREES = 150


@dataclass(frozen=True)
class RandomForest:
    """A fitted forest; see :func:`fit`."""

    space: SearchSpace
    free: Standardised
    forest: RandomForestRegressor
    noise: float
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: Rows) -> Vector:
        """Expected values ``(n,)``."""
        if not len(positions):
            return np.zeros(0)
        result: Vector = self.forest.predict(ordinal_with(self.space, self.free, positions))
        return result

    def predict(self, positions: Rows) -> tuple[Vector, Vector]:
        """Expected values and standard deviations (disagreement and noise), ``(n,)`` each."""
        if not len(positions):
            return np.zeros(0), np.zeros(0)
        features = ordinal_with(self.space, self.free, positions)
        votes = np.stack([tree.predict(features) for tree in self.forest.estimators_])
        return votes.mean(0), np.sqrt(votes.var(0) + self.noise**2)


def fit(
    space: SearchSpace, positions: Rows, values: Values, *, seed: int, statistics: Extras = None
) -> RandomForest:
    """Fit a forest; held-out predictions are those of the trees that had not drawn the row.

    Arguments and errors are those of :class:`predictors.predictor.Fit`; the seed draws bootstrap
    samples and the features of each split.
    """
    rows, targets = prepare_training_rows(space, positions, values)
    forest = RandomForestRegressor(
        TREES, max_features=0.5, oob_score=True, random_state=seed % 2**32, n_jobs=1
    )
    free = standardise(space, statistics, rows)
    features = ordinal_with(space, free, rows)
    forest.fit(features, targets)
    mean = np.asarray(forest.oob_prediction_)
    noise = max(float(np.sqrt(((mean - targets) ** 2).mean())), 1e-12)
    votes = np.stack([tree.predict(features) for tree in forest.estimators_])
    held_out = HeldOut(rows, targets, mean, np.sqrt(votes.var(0) + noise**2))
    return RandomForest(
        space=space,
        free=free,
        forest=forest,
        noise=noise,
        report=make_report_card("random_forest", held_out),
        held_out=held_out,
    )

"""Mean of several predictors, each weighted by how well it did on held-out values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.features.encoding import Extras
from predictors.models import gaussian_process, ridge, support_vector
from predictors.predictor import Fit, Predictor, Rows, Values, prepare_training_rows
from predictors.report_card import HeldOut, ReportCard, Vector, make_report_card
from supernet.space import SearchSpace

SUMMARY = "weighted mean of process, support vectors and ridge; steadier than any one of them"
MEMBERS: tuple[Fit, ...] = (gaussian_process.fit, support_vector.fit, ridge.fit)


@dataclass(frozen=True)
class Ensemble:
    """Fitted members and their weights, which add up to 1; see :func:`fit`."""

    members: tuple[Predictor, ...]
    weights: Vector
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: Rows) -> Vector:
        """Expected values ``(n,)``."""
        means = np.stack([member.mean(positions) for member in self.members])
        return np.asarray(self.weights @ means)

    def predict(self, positions: Rows) -> tuple[Vector, Vector]:
        """Expected values and standard deviations, ``(n,)`` each."""
        means, stds = zip(*(member.predict(positions) for member in self.members), strict=True)
        return _combined(self.weights, np.stack(means), np.stack(stds))


def fit(
    space: SearchSpace, positions: Rows, values: Values, *, seed: int, statistics: Extras = None
) -> Ensemble:
    """Fit every member and weigh it by the inverse of its held-out squared error.

    Arguments and errors are those of :class:`predictors.predictor.Fit`, handed to every member; of
    more rows than a Gaussian process takes, the seed draws as many as it does.
    """
    rows, targets = prepare_training_rows(space, positions, values)
    if len(rows) > gaussian_process.MOST_ROWS:
        most = gaussian_process.MOST_ROWS
        kept = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
        rows, targets = rows[kept], targets[kept]
    fitted = [part(space, rows, targets, seed=seed, statistics=statistics) for part in MEMBERS]
    means = np.stack([member.held_out.mean for member in fitted])
    stds = np.stack([member.held_out.std for member in fitted])
    error = np.maximum(((means - targets) ** 2).mean(axis=1), 1e-24)
    weights = (1 / error) / (1 / error).sum()
    held_out = HeldOut(rows, targets, *_combined(weights, means, stds))
    return Ensemble(
        members=tuple(fitted),
        weights=weights,
        report=make_report_card("ensemble", held_out),
        held_out=held_out,
    )


def _combined(
    weights: Vector, means: NDArray[np.float64], stds: NDArray[np.float64]
) -> tuple[Vector, Vector]:
    """Mean and spread of the mixture: the members' variances and their disagreement."""
    mean = weights @ means
    variance = weights @ (stds**2 + (means - mean) ** 2)
    return mean, np.sqrt(variance)

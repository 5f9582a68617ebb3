"""Linear ridge regression on masked one-hot features; exact where costs are sums over blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.features.encoding import Extras, Standardised, one_hot_with, standardise
from predictors.predictor import Rows, Values, prepare_training_rows
from predictors.report_card import HeldOut, ReportCard, Vector, make_report_card
from supernet.space import SearchSpace

SUMMARY = "linear in the choices; best for additive costs and very few samples"
PENALTIES = 10.0 ** np.arange(-4, 3.01, 0.5)


@dataclass(frozen=True)
class Ridge:
    """A fitted linear model; see :func:`fit`."""

    space: SearchSpace
    free: Standardised
    weights: Vector
    offset: float
    centre: Vector
    basis: NDArray[np.float64]
    shrink: Vector
    penalty: float
    noise: float
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: Rows) -> Vector:
        """Expected values ``(n,)``."""
        result: Vector = one_hot_with(self.space, self.free, positions) @ self.weights + self.offset
        return result

    def predict(self, positions: Rows) -> tuple[Vector, Vector]:
        """Expected values and standard deviations, ``(n,)`` each."""
        features = one_hot_with(self.space, self.free, positions)
        centred = features - self.centre
        projected = (centred @ self.basis) ** 2
        # Directions in which the training rows do not differ are known from the penalty alone.
        unseen = np.maximum((centred**2).sum(1) - projected.sum(1), 0) / self.penalty
        spread = 1 + 1 / len(self.held_out.values) + projected @ self.shrink + unseen
        return features @ self.weights + self.offset, self.noise * np.sqrt(spread)


def fit(
    space: SearchSpace, positions: Rows, values: Values, *, seed: int, statistics: Extras = None
) -> Ridge:
    """Fit with the penalty of least leave-one-out error, all in closed form.

    Arguments and errors are those of :class:`predictors.predictor.Fit`; nothing is drawn, so that
    the seed changes nothing.
    """
    rows, targets = prepare_training_rows(space, positions, values)
    free = standardise(space, statistics, rows)
    features = one_hot_with(space, free, rows)
    centre, level = features.mean(0), targets.mean()
    left, singular, right = np.linalg.svd(features - centre, full_matrices=False)
    keep = singular > 1e-9 * max(singular[0], 1e-300)
    left, singular, right = left[:, keep], singular[keep], right[keep]
    residual = targets - level
    projected = left.T @ residual
    best: tuple[float, float, Vector, Vector] | None = None
    for penalty in PENALTIES:
        shrink = singular**2 / (singular**2 + penalty)
        leverage = np.minimum(1 / len(rows) + (left**2) @ shrink, 1 - 1e-9)
        error = (residual - left @ (shrink * projected)) / (1 - leverage)
        score = float((error**2).mean())
        if best is None or score < best[0]:
            best = (score, float(penalty), error, leverage)
    assert best is not None
    score, penalty, error, leverage = best
    weights = right.T @ (singular / (singular**2 + penalty) * projected)
    # Residual scale such that held-out errors have unit variance on average.
    ratio = error * np.sqrt(1 - leverage)
    noise = max(float(np.sqrt((ratio**2).mean())), 1e-12)
    held_out = HeldOut(rows, targets, targets - error, noise / np.sqrt(1 - leverage))
    return Ridge(
        space=space,
        free=free,
        weights=weights,
        offset=float(level - centre @ weights),
        centre=centre,
        basis=right.T,
        shrink=1 / (singular**2 + penalty),
        penalty=penalty,
        noise=noise,
        report=make_report_card("ridge", held_out),
        held_out=held_out,
    )

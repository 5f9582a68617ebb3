"""Mean of several predictors, each weighted by how well it did on held-out values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.features.encoding import Statistics
from predictors.models import gaussian_process, ridge, support_vector
from predictors.predictor import HeldOut, Predictor, ReportCard, Vector, report_card, training_rows
from supernet.space import SearchSpace

SUMMARY = "weighted mean of process, support vectors and ridge; steadier than any one of them"
MEMBERS: tuple[Callable[..., Predictor], ...] = (
    gaussian_process.fit,
    support_vector.fit,
    ridge.fit,
)


@dataclass(frozen=True)
class Ensemble:
    """Fitted members and their weights, which add up to 1; see :func:`fit`."""

    members: tuple[Predictor, ...]
    weights: Vector
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: NDArray[np.integer]) -> Vector:
        """Expected values ``(n,)``."""
        means = np.stack([member.mean(positions) for member in self.members])
        return np.asarray(self.weights @ means)

    def predict(self, positions: NDArray[np.integer]) -> tuple[Vector, Vector]:
        """Expected values and standard deviations, ``(n,)`` each."""
        means, stds = zip(*(member.predict(positions) for member in self.members), strict=True)
        return _combined(self.weights, np.stack(means), np.stack(stds))


def fit(
    space: SearchSpace,
    positions: NDArray[np.integer],
    values: NDArray[np.floating],
    *,
    seed: int,
    statistics: Statistics | None = None,
    members: Sequence[Callable[..., Predictor]] = MEMBERS,
) -> Ensemble:
    """Fit every member and weigh it by the inverse of its held-out squared error.

    Args:
        space: The search space.
        positions: ``(n, len(space))``.
        values: Finite values ``(n,)``.
        seed: Handed to every member.
        statistics: Handed to every member.
        members: Fit functions; every one must use all rows.

    Raises:
        ValueError: No members, fewer than 3 rows, mismatched shapes or values that are not finite.
    """
    if not members:
        raise ValueError("an ensemble needs at least one member")
    rows, targets = training_rows(space, positions, values)
    if len(rows) > gaussian_process.MOST_ROWS:
        most = gaussian_process.MOST_ROWS
        kept = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
        rows, targets = rows[kept], targets[kept]
    fitted = [part(space, rows, targets, seed=seed, statistics=statistics) for part in members]
    means = np.stack([member.held_out.mean for member in fitted])
    stds = np.stack([member.held_out.std for member in fitted])
    error = np.maximum(((means - targets) ** 2).mean(axis=1), 1e-24)
    weights = (1 / error) / (1 / error).sum()
    held_out = HeldOut(rows, targets, *_combined(weights, means, stds))
    return Ensemble(
        members=tuple(fitted),
        weights=weights,
        report=report_card("ensemble", held_out),
        held_out=held_out,
    )


def _combined(
    weights: Vector, means: NDArray[np.float64], stds: NDArray[np.float64]
) -> tuple[Vector, Vector]:
    """Mean and spread of the mixture: the members' variances and their disagreement."""
    mean = weights @ means
    variance = weights @ (stds**2 + (means - mean) ** 2)
    return mean, np.sqrt(variance)

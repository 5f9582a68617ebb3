"""Gaussian process on masked one-hot features: smooth interactions between choices, with spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.encoding import Standardised, Statistics, one_hot, scaled
from predictors.predictor import HeldOut, ReportCard, Vector, report_card, training_rows
from supernet.space import SearchSpace

SUMMARY = "interactions between choices and calibrated spread; the default for accuracy"
# Distances are per choice: length 1 lets about one choice in two differ before correlation fades.
LENGTHS = (0.7, 1.0, 1.5, 2.5, 5.0)
NOISES = 10.0 ** np.arange(-5, 1.01, 1.0)
# Hyperparameters settle long before predictions do; the cubic cost is paid once on all rows.
TUNING_ROWS = 150
MOST_ROWS = 2000


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process; see :func:`fit`."""

    space: SearchSpace
    free: Standardised
    features: NDArray[np.float64]
    length: float
    weights: Vector
    inverse: NDArray[np.float64]
    level: float
    scale: float
    noise: float
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: NDArray[np.integer]) -> Vector:
        """Expected values ``(n,)``."""
        result: Vector = self._covariance(positions) @ self.weights * self.scale + self.level
        return result

    def predict(self, positions: NDArray[np.integer]) -> tuple[Vector, Vector]:
        """Expected values and standard deviations of a measurement, ``(n,)`` each."""
        covariance = self._covariance(positions)
        explained = ((covariance @ self.inverse) * covariance).sum(1)
        spread = np.sqrt(np.maximum(2.0 + self.noise - explained, 1e-12))
        amplitude = self.scale * self._amplitude()
        return covariance @ self.weights * self.scale + self.level, amplitude * spread

    def _covariance(self, positions: NDArray[np.integer]) -> NDArray[np.float64]:
        return _kernel(_features(self.space, self.free, positions), self.features, self.length)

    def _amplitude(self) -> float:
        targets = (self.held_out.values - self.level) / self.scale
        return float(np.sqrt(np.maximum(targets @ self.weights / len(targets), 1e-12)))


def fit(
    space: SearchSpace,
    positions: NDArray[np.integer],
    values: NDArray[np.floating],
    *,
    seed: int,
    statistics: Statistics | None = None,
) -> GaussianProcess:
    """Fit length scale and noise by marginal likelihood over a grid; amplitude in closed form.

    Leave-one-out predictions follow from the inverse covariance (Rasmussen and Williams 2006,
    section 5.4.2), so the report costs no further fits.

    Args:
        space: The search space.
        positions: ``(n, len(space))``; beyond 2000 rows a random 2000 are used.
        values: Finite values ``(n,)``.
        seed: Chooses the rows for tuning when there are more than 150.
        statistics: Free numbers per architecture as further features, standardised on the rows.

    Raises:
        ValueError: Fewer than 3 rows, mismatched shapes or values that are not finite.
    """
    rows, targets = training_rows(space, positions, values)
    rng = np.random.default_rng(seed)
    if len(rows) > MOST_ROWS:
        kept = np.sort(rng.choice(len(rows), MOST_ROWS, replace=False))
        rows, targets = rows[kept], targets[kept]
    level, scale = float(targets.mean()), float(targets.std()) or 1.0
    standard = (targets - level) / scale
    free = scaled(space, statistics, rows)
    features = _features(space, free, rows)
    tuning = np.arange(len(rows))
    if len(rows) > TUNING_ROWS:
        tuning = np.sort(rng.choice(len(rows), TUNING_ROWS, replace=False))
    length, noise = _tune(features[tuning], standard[tuning])
    covariance = _kernel(features, features, length)
    covariance[np.diag_indices_from(covariance)] += noise
    inverse: NDArray[np.float64] = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
    weights = inverse @ standard
    diagonal = np.maximum(np.diag(inverse), 1e-12)
    amplitude = np.sqrt(np.maximum(standard @ weights / len(standard), 1e-12))
    held_out = HeldOut(
        rows, targets, targets - weights / diagonal * scale, scale * amplitude / np.sqrt(diagonal)
    )
    return GaussianProcess(
        space=space,
        free=free,
        features=features,
        length=length,
        weights=weights,
        inverse=inverse,
        level=level,
        scale=scale,
        noise=noise,
        report=report_card("gaussian_process", held_out),
        held_out=held_out,
    )


def _features(
    space: SearchSpace, free: Standardised, positions: NDArray[np.integer]
) -> NDArray[np.float64]:
    # Dividing by the number of choices makes one set of length scales fit every space.
    code = one_hot(space, positions) / np.sqrt(len(space))
    return np.concatenate((code, 0.5 * free(positions)), axis=1) if len(free) else code


def _kernel(
    first: NDArray[np.float64], second: NDArray[np.float64], length: float
) -> NDArray[np.float64]:
    """Squared exponential plus a constant, so that the mean's own uncertainty is included."""
    # In place: these few lines are most of what a search spends on predictions.
    result: NDArray[np.float64] = first @ second.T
    result -= 0.5 * (second**2).sum(1)
    result -= 0.5 * (first**2).sum(1)[:, None]
    result *= 1.0 / length**2
    np.exp(result, out=result)
    result += 1.0
    return result


def _tune(features: NDArray[np.float64], targets: Vector) -> tuple[float, float]:
    """Length and noise of the highest marginal likelihood, amplitude integrated at its best."""
    best = (np.inf, LENGTHS[0], float(NOISES[0]))
    n = len(targets)
    for length in LENGTHS:
        # One eigendecomposition serves every noise level.
        roots, vectors = np.linalg.eigh(_kernel(features, features, length))
        projected = (vectors.T @ targets) ** 2
        spectrum = np.maximum(roots, 0)[:, None] + NOISES[None]
        quadratic = np.maximum((projected[:, None] / spectrum).mean(0), 1e-300)
        loss = n * np.log(quadratic) + np.log(spectrum).sum(0)
        at = int(np.argmin(loss))
        best = min(best, (float(loss[at]), length, float(NOISES[at])))
    return best[1], best[2]

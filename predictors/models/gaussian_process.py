"""Gaussian process with a relevance for every choice: effects, interactions and their spread."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from predictors.features.coded import (
    code_positions,
    find_owners,
    has_names_alone,
    join_features,
)
from predictors.features.covariance import (
    CONSTANT,
    Covariance,
    Layout,
    begin_parameters,
    invert,
    lay_out,
    make_covariance,
    tune,
)
from predictors.features.encoding import Extras, Standardised, standardise
from predictors.predictor import Rows, Values, prepare_training_rows
from predictors.report_card import HeldOut, ReportCard, Vector, make_report_card
from supernet.space import SearchSpace

SUMMARY = "interactions between choices and calibrated spread; the default for accuracy"
# Relevances settle long before predictions do; the cubic cost of all rows is paid once.
COMPARING_ROWS, COMPARING_STEPS = 80, 8
TUNING_ROWS, TUNING_STEPS = 150, 12
# With many more rows than tuning saw, leaving one out is honest about the relevances as well.
FOLDED_ROWS, FOLDS, FOLD_STEPS = 200, 4, 10
MOST_ROWS = 2000
# Rows per block: the covariances of one stay in the processor's cache.
_BLOCK = 1024


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process; see :func:`fit`."""

    space: SearchSpace
    ordered: bool
    free: Standardised
    centre: Vector
    features: NDArray[np.float64]
    covariance: Covariance
    weights: Vector
    inverse: NDArray[np.float64]
    level: float
    scale: float
    amplitude: float
    quick: _Quick
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: Rows) -> Vector:
        """Expected values ``(n,)``."""
        rows = np.asarray(positions)
        blocks = [rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK)]
        parts = [
            self.quick(code_positions(self.space, self.ordered, b), self.free(b)) for b in blocks
        ]
        standard = np.concatenate((*parts, np.zeros(0)))
        result: Vector = standard * self.scale + self.level
        return result

    def predict(self, positions: Rows) -> tuple[Vector, Vector]:
        """Expected values and standard deviations of a measurement, ``(n,)`` each."""
        features = join_features(self.space, self.ordered, self.free, positions) - self.centre
        known = self.covariance(features, self.features)
        explained = ((known @ self.inverse) * known).sum(1)
        spread = self.covariance.variance(features) + self.covariance.noise - explained
        deviation = self.scale * self.amplitude * np.sqrt(np.maximum(spread, 1e-12))
        return self.mean(positions), deviation


@dataclass(frozen=True)
class _Quick:
    """The mean of a process as two matrix products and one exponential.

    Squared distances of zeros and ones are linear in the zeros and ones, so that the exponent of
    every covariance comes out of one product in single precision.
    """

    exponents: NDArray[np.floating]
    weights: NDArray[np.floating]
    offset: float
    free: Vector
    slopes: NDArray[np.floating] | None

    def __call__(
        self, code: NDArray[np.bool_ | np.float64], statistics: NDArray[np.float64]
    ) -> Vector:
        columns, count = code.shape[1], statistics.shape[1]
        kind = self.exponents.dtype
        extended = np.empty((len(code), columns + count + 2), dtype=kind)
        extended[:, :columns] = code
        extended[:, columns:-2] = statistics
        extended[:, -2] = -0.5 * (statistics**2) @ self.free
        extended[:, -1] = 1.0
        exponents = extended @ self.exponents
        np.exp(exponents, out=exponents)
        result: Vector = (exponents @ self.weights).astype(np.float64)
        if self.slopes is not None:
            result += extended[:, : columns + count] @ self.slopes
        return result + self.offset


def fit(
    space: SearchSpace, positions: Rows, values: Values, *, seed: int, statistics: Extras = None
) -> GaussianProcess:
    """Fit the relevances of choices and statistics by evidence; the rest is closed form.

    Choices are coded by order (thermometer) or as mere names (one-hot), whichever makes the
    values more probable. Leave-one-out predictions follow from the inverse covariance (Rasmussen
    and Williams 2006, section 5.4.2), so the report costs no further fits.

    Arguments and errors are those of :class:`predictors.predictor.Fit`. Of more than 2000 rows a
    random 2000 are used; the seed draws these, and the 150 that relevances are tuned on.
    """
    rows, targets = prepare_training_rows(space, positions, values)
    rng = np.random.default_rng(seed)
    if len(rows) > MOST_ROWS:
        kept = np.sort(rng.choice(len(rows), MOST_ROWS, replace=False))
        rows, targets = rows[kept], targets[kept]
    level, scale = float(targets.mean()), float(targets.std()) or 1.0
    standard = (targets - level) / scale
    free = standardise(space, statistics, rows)
    ordered, plan, parameters = _choose(space, rows, free, standard, rng)
    features = join_features(space, ordered, free, rows)
    centre = features.mean(axis=0)
    features -= centre
    task = _Task(plan, features, standard)
    few = _subset(np.arange(len(rows)), TUNING_ROWS, rng)
    tuned = task.tuned(parameters, few, TUNING_STEPS)
    inverse, weights = task.solved(tuned)
    error, variance = task.held_out(tuned, rng)
    # Residual scale such that held-out errors have unit variance on average.
    amplitude = max(float(np.sqrt((error**2 / variance).mean())), 1e-6)
    held_out = HeldOut(
        rows, targets, targets - error * scale, scale * amplitude * np.sqrt(variance)
    )
    kernel = make_covariance(plan, tuned)
    tolerance = 0.01 * float(np.sqrt((error**2).mean()))
    return GaussianProcess(
        space=space,
        ordered=ordered,
        free=free,
        centre=centre,
        features=features,
        covariance=kernel,
        weights=weights,
        inverse=inverse,
        level=level,
        scale=scale,
        amplitude=amplitude,
        quick=_quick(kernel, features, centre, weights, len(free), tolerance),
        report=make_report_card("gaussian_process", held_out),
        held_out=held_out,
    )


@dataclass(frozen=True)
class _Task:
    """What is fitted: centred features and standardised values."""

    plan: Layout
    features: NDArray[np.float64]
    standard: Vector

    def tuned(self, begin: Vector, rows: NDArray[np.intp], steps: int) -> Vector:
        """Parameters of the highest evidence on some of the rows."""
        return tune(self.plan, begin, self.features[rows], self.standard[rows], steps)[1]

    def solved(self, parameters: Vector) -> tuple[NDArray[np.float64], Vector]:
        """Inverse covariance ``(n, n)`` of all rows, and its product with the values."""
        kernel = make_covariance(self.plan, parameters)
        matrix = kernel(self.features, self.features)
        matrix[np.diag_indices_from(matrix)] += kernel.noise
        inverse, _ = invert(matrix)
        return inverse, inverse @ self.standard

    def held_out(self, tuned: Vector, rng: np.random.Generator) -> tuple[Vector, Vector]:
        """Errors and claimed variances ``(n,)`` of every row predicted from all others.

        A few rows can be fitted by their relevances alone. Those of a fold are therefore
        predicted with relevances that were tuned without the fold.
        """
        count = len(self.standard)
        if count >= FOLDED_ROWS:
            return self._left_out(tuned)
        error, variance = np.zeros(count), np.ones(count)
        folds = rng.permutation(np.arange(count) % FOLDS)
        begin = begin_parameters(self.plan)
        for fold in np.unique(folds):
            rest = _subset(np.flatnonzero(folds != fold), TUNING_ROWS, rng)
            errors, variances = self._left_out(self.tuned(begin, rest, FOLD_STEPS))
            test = folds == fold
            error[test], variance[test] = errors[test], variances[test]
        return error, variance

    def _left_out(self, parameters: Vector) -> tuple[Vector, Vector]:
        inverse, weights = self.solved(parameters)
        variance = 1 / np.maximum(np.diag(inverse), 1e-12)
        return weights * variance, variance


def _choose(
    space: SearchSpace,
    rows: NDArray[np.int16],
    free: Standardised,
    standard: Vector,
    rng: np.random.Generator,
) -> tuple[bool, Layout, Vector]:
    """The code under which a part of the values is more probable, and its first parameters."""
    few = _subset(np.arange(len(rows)), COMPARING_ROWS, rng)
    best: tuple[float, bool, Layout, Vector] | None = None
    for ordered in (True, False):
        if ordered and has_names_alone(space):
            continue
        features = join_features(space, ordered, free, rows)
        features -= features.mean(axis=0)
        owners = find_owners(space, ordered)
        plan = lay_out(space, owners, features, len(free), linear=has_names_alone(space))
        loss, parameters = tune(
            plan, begin_parameters(plan), features[few], standard[few], COMPARING_STEPS
        )
        if best is None or loss < best[0]:
            best = (loss, ordered, plan, parameters)
    assert best is not None
    return best[1:]


def _subset(rows: NDArray[np.intp], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _quick(
    kernel: Covariance,
    features: NDArray[np.float64],
    centre: Vector,
    weights: Vector,
    free: int,
    tolerance: float,
) -> _Quick:
    columns = len(centre) - free
    raw = features + centre
    products = raw * kernel.weights
    # Half the squared norm of zeros and ones is their sum: it moves into the product.
    products[:, :columns] -= 0.5 * kernel.weights[:columns]
    own = -0.5 * (raw**2) @ kernel.weights
    exponents = np.vstack((products.T, np.ones(len(raw)), own))
    amplitudes = kernel.amplitude * weights
    offset, slopes = float(CONSTANT * weights.sum()), None
    if kernel.linear:
        slopes = kernel.linear * kernel.weights * (features.T @ weights)
        offset -= float(centre @ slopes)
    precise = _Quick(exponents, amplitudes, offset, kernel.weights[columns:], slopes)
    single = replace(
        precise,
        exponents=exponents.astype(np.float32),
        weights=amplitudes.astype(np.float32),
        slopes=None if slopes is None else slopes.astype(np.float32),
    )
    code, statistics = raw[:, :columns], raw[:, columns:]
    gap = np.abs(single(code, statistics) - precise(code, statistics)).max()
    # Single precision is twice as fast; values without noise can need the other one.
    return single if gap <= tolerance else precise

"""Covariance of architectures with a relevance for every feature, tuned by its evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.space import SearchSpace

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# Standard deviations of the logarithms of relevances: between kinds of choice, choices of a kind,
# values of a choice, and statistics. They keep a hundred relevances from fitting noise. Looser
# ones rank random rows as well, but lead a search to worse fronts.
KIND_SD, CHOICE_SD, VALUE_SD, STATISTIC_SD = 0.5, 0.3, 0.2, 1.5
# Variances before tuning and how far they may move: of the radial part and the noise; and of the
# linear part, the radial one and the noise.
RADIAL, RADIAL_SD = np.log([1.0, 0.03]), np.array([1.5, 2.0])
LINEAR, LINEAR_SD = np.log([1.0, 0.5, 0.1]), np.array([1.5, 1.5, 2.0])
# The level of all values is uncertain by as much as they spread.
CONSTANT = 1.0
LEAST_NOISE = 1e-5
# Bound of every logarithm: far beyond what the priors let pass, within what doubles can invert.
_REACH = 8.0


@dataclass(frozen=True)
class Layout:
    """How few parameters make the relevances of many features.

    Args:
        groups: Ones where a parameter contributes to a feature, ``(features, parameters)``.
        base: Logarithm of every feature's relevance before tuning, ``(features,)``.
        spread: Prior standard deviation of every parameter, ``(parameters,)``.
        linear: Whether effects also add up; see :class:`Covariance`.
    """

    groups: Matrix
    base: Vector
    spread: Vector
    linear: bool = False


@dataclass(frozen=True)
class Covariance:
    """``amplitude * exp(-sum(weights * (a - b)^2) / 2) + linear * <a, b>_weights + constant``.

    Relevances are those of Rasmussen and Williams 2006, section 5.1. Where values are numbers there
    is no linear part: near the Pareto front effects saturate, and it would extrapolate what small
    networks gain to large ones. Between names, such as operations, nothing is extrapolated, and
    what each adds on its own is worth knowing.

    Args:
        weights: Relevance of every feature, ``(features,)``.
        amplitude: Variance of the radial part, in units of the values' variance.
        noise: Variance of one measurement, in the same units.
        linear: Variance of the linear part, in the same units.
    """

    weights: Vector
    amplitude: float
    noise: float
    linear: float = 0.0

    def __call__(self, first: Matrix, second: Matrix) -> Matrix:
        """Covariances ``(n, m)`` of features ``(n, features)`` and ``(m, features)``."""
        product: Matrix = (first * self.weights) @ second.T
        result = _correlate(self.weights, first, second, product)
        result *= self.amplitude
        result += CONSTANT
        if self.linear:
            result += self.linear * product
        return result

    def variance(self, features: Matrix) -> Vector:
        """Prior variances of the function at features ``(n, features)``; shape ``(n,)``."""
        own: Vector = self.linear * ((features**2) @ self.weights)
        return own + self.amplitude + CONSTANT


def lay_out(
    space: SearchSpace,
    owners: NDArray[np.intp],
    features: Matrix,
    free: int,
    *,
    linear: bool = False,
) -> Layout:
    """Lay out the parameters of the relevances: one per kind, choice, column and statistic.

    Args:
        space: Names the kinds.
        owners: For every column that codes a choice, the choice.
        features: Centred training features ``(n, columns + free)``.
        free: Number of statistics, in the last columns.
        linear: Whether effects also add up.
    """
    names = [choice.kind for choice in space.choices]
    order = {kind: i for i, kind in enumerate(dict.fromkeys(names))}
    kinds = np.array([order[name] for name in names])
    columns = len(owners)
    blocks = (np.eye(len(order))[kinds[owners]], np.eye(len(space))[owners], np.eye(columns))
    spread = np.repeat((KIND_SD, CHOICE_SD, VALUE_SD), [block.shape[1] for block in blocks])
    groups = np.zeros((columns + free, len(spread) + free))
    groups[:columns, : len(spread)] = np.concatenate(blocks, axis=1)
    groups[columns:, len(spread) :] = np.eye(free)
    # Two training architectures are then at a squared distance of 1 on average, and one more
    # for every four statistics.
    variance = float(features[:, :columns].var(axis=0).sum())
    base = np.full(columns + free, -np.log(max(2 * variance, 1e-12)))
    base[columns:] = -np.log(8.0)
    return Layout(groups, base, np.concatenate((spread, np.full(free, STATISTIC_SD))), linear)


def begin_parameters(plan: Layout) -> Vector:
    """Return the parameters before tuning: relevances, then logarithms of the variances."""
    return np.concatenate((np.zeros(len(plan.spread)), LINEAR if plan.linear else RADIAL))


def make_covariance(plan: Layout, parameters: Vector) -> Covariance:
    """Make the covariance that parameters (relevances, then two or three variances) stand for."""
    count = len(plan.spread)
    weights = np.exp(plan.base + plan.groups @ parameters[:count])
    *linear, amplitude, noise = np.exp(parameters[count:]).tolist()
    return Covariance(weights, amplitude, noise + LEAST_NOISE, *linear)


def tune(
    plan: Layout,
    parameters: Vector,
    features: Matrix,
    targets: Vector,
    steps: int,
    known: Vector | None = None,
) -> tuple[float, Vector]:
    """Maximise evidence times prior by L-BFGS from ``parameters``.

    Args:
        plan: The parameters' meaning.
        parameters: The parameters to start from.
        features: Centred features ``(n, features)``.
        targets: Standardised values ``(n,)``.
        steps: Most iterations.
        known: Variance of the measurement of each target, ``(n,)``, where it is known; the noise
            that is tuned is then what networks have of their own besides.

    Returns:
        The negative logarithm of evidence and prior, and the best parameters.
    """
    from scipy.optimize import minimize

    found = minimize(
        _loss,
        parameters,
        args=(plan, features, targets, known),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-_REACH, _REACH)] * len(parameters),
        options={"maxiter": steps},
    )
    return float(found.fun), np.asarray(found.x, dtype=np.float64)


def invert(matrix: Matrix) -> tuple[Matrix, float]:
    """Compute inverse and logarithm of the determinant of a positive definite matrix ``(n, n)``."""
    from scipy.linalg import lapack

    # A symmetric matrix is its own transpose, which spares the library a copy.
    factor, failed = lapack.dpotrf(matrix.T, lower=1, clean=1)
    if failed:
        raise np.linalg.LinAlgError("the covariance is not positive definite")
    lower, failed = lapack.dpotri(factor, lower=1)
    inverse: Matrix = lower + lower.T
    inverse[np.diag_indices_from(inverse)] *= 0.5
    return inverse, float(2 * np.log(np.diag(factor)).sum())


def _correlate(weights: Vector, first: Matrix, second: Matrix, product: Matrix) -> Matrix:
    """Compute radial correlations ``(n, m)``; ``product`` holds the weighted products."""
    result: Matrix = product - 0.5 * ((first**2) @ weights)[:, None]
    result -= 0.5 * ((second**2) @ weights)
    np.minimum(result, 0, out=result)
    np.exp(result, out=result)
    return result


def _loss(
    parameters: Vector,
    plan: Layout,
    features: Matrix,
    targets: Vector,
    known: Vector | None = None,
) -> tuple[float, Vector]:
    """Negative log evidence (same book, equation 5.8) and prior, and the gradient (5.9)."""
    now = make_covariance(plan, parameters)
    product: Matrix = (features * now.weights) @ features.T
    radial = _correlate(now.weights, features, features, product)
    radial *= now.amplitude
    matrix = radial + CONSTANT
    if plan.linear:
        matrix += now.linear * product
    matrix[np.diag_indices_from(matrix)] += now.noise if known is None else now.noise + known
    try:
        inverse, determinant = invert(matrix)
    except np.linalg.LinAlgError:
        # The line search steps back from here.
        return 1e12, np.zeros_like(parameters)
    solved = inverse @ targets
    spread = np.concatenate((plan.spread, LINEAR_SD if plan.linear else RADIAL_SD))
    off = (parameters - begin_parameters(plan)) / spread
    loss = 0.5 * (targets @ solved + determinant + (off**2).sum())
    outer = 0.5 * (inverse - np.outer(solved, solved))
    variances = [(now.noise - LEAST_NOISE) * np.trace(outer)]
    radial *= outer
    variances.insert(0, radial.sum())
    # The sum over pairs of (a - b)^2 per feature, without an array of pairs and features.
    pairs = (features * (radial @ features)).sum(0) - (features**2).T @ radial.sum(1)
    if plan.linear:
        variances.insert(0, now.linear * (outer * product).sum())
        pairs += now.linear * (features * (outer @ features)).sum(0)
    slope = np.concatenate((plan.groups.T @ (pairs * now.weights), variances))
    return float(loss), slope + off / spread

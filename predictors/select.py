"""Automatic choice of a prediction method by cross-validated rank correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from predictors.encoding import Statistics
from predictors.models import gaussian_process, ridge
from predictors.predictor import Predictor
from supernet.space import SearchSpace


class Fit(Protocol):
    """What every module in ``predictors/models`` offers as ``fit``."""

    def __call__(
        self,
        space: SearchSpace,
        positions: NDArray[np.integer],
        values: NDArray[np.floating],
        *,
        seed: int,
        statistics: Statistics | None = None,
    ) -> Predictor:
        """Fit to positions ``(n, len(space))`` and values ``(n,)``."""
        ...


# Only methods whose held-out predictions come in closed form: choosing costs milliseconds and
# nothing here imports scikit-learn.
DEFAULT_METHODS: tuple[Fit, ...] = (gaussian_process.fit, ridge.fit)


def fit(
    space: SearchSpace,
    positions: NDArray[np.integer],
    values: NDArray[np.floating],
    *,
    seed: int,
    statistics: Statistics | None = None,
    methods: Sequence[Fit] = DEFAULT_METHODS,
) -> Predictor:
    """Fit every method and return the one that ranks unseen architectures best.

    Args:
        space: The search space.
        positions: ``(n, len(space))``.
        values: Finite values ``(n,)``.
        seed: Passed to each method.
        statistics: Free numbers per architecture ``(n, k)``, such as operations and parameters, as
            further features; finite for every architecture of the space.
        methods: Candidates, by default the Gaussian process and ridge regression.

    Returns:
        The predictor with the highest held-out Kendall tau; near-ties go to the smaller error.

    Raises:
        ValueError: No methods, fewer than 3 rows or values that are not finite.
    """
    if not methods:
        raise ValueError("choosing a predictor needs at least one method")
    # Several BLAS threads on matrices this small mostly wait for each other.
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        fitted = [
            method(space, positions, values, seed=seed, statistics=statistics) for method in methods
        ]

    def merit(predictor: Predictor) -> tuple[float, float]:
        tau = predictor.report.tau
        return round(tau, 2) if np.isfinite(tau) else -2.0, -predictor.report.rmse

    return max(fitted, key=merit)

"""The points of a front as columns, so that a view of thousands of them is a few array operations.

A column is made when it is first asked for and kept with its front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_NUMBERS = ("value", "predicted", "low", "high")
_ALONE = ("alone", "alone_low", "alone_high", "alone_error")
_POSTERIOR = ("posterior", "posterior_low", "posterior_high", "posterior_error")


class Estimated(Protocol):
    """What is known of one quantity of one point, in its stored unit."""

    @property
    def value(self) -> float | None:
        """What was evaluated or measured."""

    @property
    def predicted(self) -> float | None:
        """By the model or table of the search."""

    @property
    def low(self) -> float | None:
        """Lower end of the 95 % interval of the value."""

    @property
    def high(self) -> float | None:
        """Upper end."""

    @property
    def posterior(self) -> float | None:
        """What all evaluations together say."""

    @property
    def posterior_low(self) -> float | None:
        """Lower end of its 95 % interval."""

    @property
    def posterior_high(self) -> float | None:
        """Upper end."""

    @property
    def posterior_error(self) -> float | None:
        """Its standard deviation, without what all points have in common."""

    @property
    def alone(self) -> float | None:
        """What the network is expected to be worth trained alone."""

    @property
    def alone_low(self) -> float | None:
        """Lower end of the 95 % interval of one such training."""

    @property
    def alone_high(self) -> float | None:
        """Upper end."""

    @property
    def alone_error(self) -> float | None:
        """Its standard deviation, without what all points have in common."""

    @property
    def source(self) -> str:
        """Where the value is from."""


@dataclass(frozen=True)
class Column:
    """One quantity of every point, in its stored unit; all arrays ``(n,)``, NaN is "not known".

    Args:
        value: What was evaluated or measured.
        predicted: By the model or table of the search.
        posterior: What all evaluations together say.
        alone: What the networks are expected to be worth trained alone.
        low: Lower end of the 95 % interval of that, else of the posterior, else of the value.
        high: Upper end.
        error: Standard deviation of the first or second of these, without what all points have in
            common.
        best: What they are worth alone, else the posterior, else the value, else the prediction.
        looked_up: Whether the value was taken from a table instead of measured.
    """

    value: NDArray[np.float64]
    predicted: NDArray[np.float64]
    posterior: NDArray[np.float64]
    alone: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    error: NDArray[np.float64]
    best: NDArray[np.float64]
    looked_up: NDArray[np.bool_]


def make_column(estimates: Sequence[Estimated]) -> Column:
    """Lay out one quantity of every point.

    Args:
        estimates: Of every point, in the order of the arrays.
    """
    value, predicted, low, high = (_lay_out(estimates, key) for key in _NUMBERS)
    best, error = np.where(np.isnan(value), predicted, value), np.full(len(value), np.nan)
    found = []
    for keys in (_POSTERIOR, _ALONE):
        expected, *others = (_lay_out(estimates, key) for key in keys)
        known = ~np.isnan(expected)
        best, low, high, error = (
            np.where(known, new, old)
            for new, old in zip((expected, *others), (best, low, high, error), strict=True)
        )
        found.append(expected)
    posterior, alone = found
    looked_up = np.array([e.source == "table" for e in estimates], dtype=np.bool_)
    return Column(value, predicted, posterior, alone, low, high, error, best, looked_up)


def _lay_out(estimates: Sequence[Estimated], key: str) -> NDArray[np.float64]:
    return np.array([getattr(e, key) for e in estimates], dtype=np.float64)

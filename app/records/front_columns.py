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
    def source(self) -> str:
        """Where the value is from."""


@dataclass(frozen=True)
class Column:
    """One quantity of every point, in its stored unit; all arrays ``(n,)``, NaN is "not known".

    Args:
        value: What was evaluated or measured.
        predicted: By the model or table of the search.
        low: Lower end of the 95 % interval of the value.
        high: Upper end.
        best: The value, or the prediction while there is no value.
        looked_up: Whether the value was taken from a table instead of measured.
    """

    value: NDArray[np.float64]
    predicted: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    best: NDArray[np.float64]
    looked_up: NDArray[np.bool_]


def make_column(estimates: Sequence[Estimated]) -> Column:
    """Lay out one quantity of every point.

    Args:
        estimates: Of every point, in the order of the arrays.
    """
    value, predicted, low, high = (
        np.array([getattr(e, key) for e in estimates], dtype=np.float64) for key in _NUMBERS
    )
    best = np.where(np.isnan(value), predicted, value)
    looked_up = np.array([e.source == "table" for e in estimates], dtype=np.bool_)
    return Column(value, predicted, low, high, best, looked_up)

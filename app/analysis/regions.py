"""Parts of a chart and ranges of choices, as geometry, and which points lie within them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError
from supernet.space import Value

# A hand draws more corners than an address can hold.
MOST_CORNERS = 120
Corner = tuple[float, float]
# The lowest and the highest value that pass, or all that do.
Filter = tuple[float, float] | frozenset[Value]


@dataclass(frozen=True)
class Region:
    """A box or a lasso that was drawn over two quantities.

    Args:
        x: Name of the horizontal quantity.
        y: Name of the vertical one.
        kind: ``"box"`` with two opposite corners or ``"lasso"`` with three corners or more.
        corners: In the stored units of the quantities.
        x_log: Whether a lasso was drawn over a logarithmic horizontal axis, where its sides are
            straight.
        y_log: The same of the vertical axis.
    """

    x: str
    y: str
    kind: Literal["box", "lasso"]
    corners: tuple[Corner, ...]
    x_log: bool = False
    y_log: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no region.

        Raises:
            InputError: Too few or too many corners, one that is not finite, or one that a
                logarithmic axis does not have.
        """
        count = len(self.corners)
        if self.kind == "box" and count != 2:
            raise InputError(f"a box has 2 corners, not {count}")
        if self.kind == "lasso" and not 3 <= count <= MOST_CORNERS:
            raise InputError(f"a lasso has 3 to {MOST_CORNERS} corners, not {count}")
        if not all(math.isfinite(part) for corner in self.corners for part in corner):
            raise InputError("a corner is not finite")
        for place, log in enumerate((self.x_log, self.y_log)):
            if log and any(corner[place] <= 0 for corner in self.corners):
                raise InputError("a logarithmic axis has no corner at or below 0")


def find_inside(
    region: Region, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which points lie within a region, its border included for boxes.

    Args:
        region: The region.
        x: Horizontal places in stored units, ``(n,)``; NaN is nowhere.
        y: Vertical places, ``(n,)``.

    Returns:
        ``(n,)``.
    """
    corners = np.array(region.corners, dtype=np.float64)
    low, high = corners.min(axis=0), corners.max(axis=0)
    inside = (low[0] <= x) & (x <= high[0]) & (low[1] <= y) & (y <= high[1])
    if region.kind == "box":
        return inside
    candidates = np.flatnonzero(inside)
    across, up = _straighten(x[candidates], region.x_log), _straighten(y[candidates], region.y_log)
    sides = np.stack(
        [_straighten(corners[:, 0], region.x_log), _straighten(corners[:, 1], region.y_log)], axis=1
    )
    found = np.zeros(len(x), dtype=np.bool_)
    found[candidates] = _count_crossings(sides, across, up) % 2 == 1
    return found


def thin_corners(corners: Sequence[Corner], most: int = MOST_CORNERS) -> tuple[Corner, ...]:
    """At most so many corners of a lasso, evenly spread along it; the first is among them."""
    if len(corners) <= most:
        return tuple(corners)
    return tuple(corners[number * len(corners) // most] for number in range(most))


def find_passing(
    filters: Mapping[str, Filter], columns: Mapping[str, NDArray]
) -> NDArray[np.bool_]:
    """Which points pass every filter; one whose choice is inert has no value that could.

    Args:
        filters: By the name of the choice; at least one.
        columns: The value of each choice of every point, ``(n,)``: numbers with NaN for inert
            choices, or any values with ``None`` for them.

    Returns:
        ``(n,)``.
    """
    passing = []
    for name, wanted in filters.items():
        column = columns[name]
        if isinstance(wanted, tuple):
            passing.append((wanted[0] <= column) & (column <= wanted[1]))
        else:
            passing.append(np.array([value in wanted for value in column.tolist()], dtype=np.bool_))
    return np.logical_and.reduce(passing)


def _straighten(values: NDArray[np.float64], log: bool) -> NDArray[np.float64]:
    """Places on an axis on which the sides of a lasso are straight."""
    return np.log(values) if log else values


def _count_crossings(
    corners: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.intp]:
    """How many sides a ray to the right of each point crosses, ``(n,)``."""
    crossings = np.zeros(len(x), dtype=np.intp)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        # Half open, so that a corner between two sides counts once.
        spans = (y1 > y) != (y2 > y)
        crossings += spans & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return crossings

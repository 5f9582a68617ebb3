"""Architectures as numeric features; the vocabulary comes from the space, never from data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError
from supernet.space import SearchSpace

Features = NDArray[np.float64]
Statistics = Callable[[NDArray[np.int16]], NDArray[np.float64]]
"""Canonical positions ``(n, len(space))`` in, free numbers of architectures ``(n, k)`` out."""

Extras = Statistics | None
"""Statistics as further features of a predictor, or none."""


def one_hot(space: SearchSpace, positions: NDArray[np.integer]) -> Features:
    """Encode one-hot and masked: one column per legal value, all zero for a choice that is inert.

    Args:
        space: Defines the columns, so that training and prediction cannot disagree.
        positions: Option positions, shape ``(n, len(space))``; inert entries may hold anything.

    Returns:
        Zeros and ones, shape ``(n, total number of legal values)``.
    """
    positions = np.asarray(positions)
    cardinalities = space.cardinalities.astype(np.intp)
    width = int(cardinalities.sum())
    starts = np.concatenate(([0], np.cumsum(cardinalities)[:-1])).astype(np.intp)
    features = np.zeros((len(positions), width))
    columns = positions + starts + np.arange(len(positions))[:, None] * width
    # Writing through flat indices is several times faster than comparing every column.
    features.reshape(-1)[columns.reshape(-1)] = space.active(positions).reshape(-1)
    return features


def ordinal(space: SearchSpace, positions: NDArray[np.integer]) -> Features:
    """Encode one column per choice: the position scaled to (0, 1], and 0 for an inert choice.

    Args:
        space: Defines the columns.
        positions: Option positions, shape ``(n, len(space))``.

    Returns:
        Shape ``(n, len(space))``; suits trees, which split on order.
    """
    positions = np.asarray(positions)
    scaled: Features = (positions + 1.0) / space.cardinalities * space.active(positions)
    return scaled


def thermometer(space: SearchSpace, positions: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Encode for every value but the first of a choice whether the choice stands there or later.

    Neighbouring values share most columns, so that what is learned of one carries over; an inert
    choice is as far from its first value as that is from nothing, which its parent's column says.

    Args:
        space: Defines the columns, ordered as :func:`thermometer_owners` says.
        positions: Option positions, shape ``(n, len(space))``; inert entries may hold anything.

    Returns:
        Shape ``(n, number of legal values less number of choices)``.
    """
    rows = space.canonical(np.asarray(positions))
    owners = thermometer_owners(space)
    code = np.empty((len(rows), len(owners)), dtype=bool)
    done = 0
    for level in range(1, int(space.cardinalities.max(initial=1))):
        columns = np.flatnonzero(space.cardinalities > level)
        part = rows if len(columns) == rows.shape[1] else rows[:, columns]
        np.greater_equal(part, level, out=code[:, done : done + len(columns)])
        done += len(columns)
    return code


def thermometer_owners(space: SearchSpace) -> NDArray[np.intp]:
    """List the choice of every column of :func:`thermometer`: all second values, all third, ..."""
    levels = range(1, int(space.cardinalities.max(initial=1)))
    found = [np.flatnonzero(space.cardinalities > level) for level in levels]
    return np.concatenate((*found, np.zeros(0, dtype=np.intp)))


def one_hot_owners(space: SearchSpace) -> NDArray[np.intp]:
    """List the choice of every column of :func:`one_hot`."""
    return np.repeat(np.arange(len(space)), space.cardinalities)


@dataclass(frozen=True)
class Standardised:
    """Statistics on the scale of the training rows, zero mean and unit spread; see :func:`scaled`.

    Args:
        space: Makes rows canonical before they are handed to the statistics.
        source: The statistics, or ``None`` for no columns at all.
        centre: Mean of each column on the training rows, ``(k,)``.
        spread: Standard deviation of each column there, 1 for a constant one, ``(k,)``.
    """

    space: SearchSpace
    source: Statistics | None
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.centre)

    def __call__(self, positions: NDArray[np.integer]) -> Features:
        """Columns ``(n, k)`` of positions ``(n, len(space))``."""
        if self.source is None or not len(positions):
            return np.zeros((len(positions), len(self)))
        raw = _columns(self.source, self.space.canonical(np.asarray(positions)))
        result: Features = (raw - self.centre) / self.spread
        return result


def one_hot_with(
    space: SearchSpace, free: Standardised, positions: NDArray[np.integer]
) -> Features:
    """:func:`one_hot` and the statistics after it, ``(n, number of legal values + k)``."""
    code = one_hot(space, positions)
    return np.concatenate((code, free(positions)), axis=1) if len(free) else code


def ordinal_with(
    space: SearchSpace, free: Standardised, positions: NDArray[np.integer]
) -> Features:
    """:func:`ordinal` and the statistics after it, ``(n, len(space) + k)``."""
    return np.concatenate((ordinal(space, positions), free(positions)), axis=1)


def standardise(
    space: SearchSpace, statistics: Statistics | None, rows: NDArray[np.int16]
) -> Standardised:
    """Standardise statistics on training rows.

    Args:
        space: The search space.
        statistics: Canonical positions ``(n, len(space))`` in, free numbers ``(n, k)`` out; or
            ``None`` for none.
        rows: Canonical training rows ``(n, len(space))``.

    Raises:
        InputError: The statistics have another shape or are not finite.
    """
    if statistics is None:
        return Standardised(space, None, np.zeros(0), np.ones(0))
    raw = _columns(statistics, rows)
    if not np.isfinite(raw).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(raw))[0])
        raise InputError(
            f"statistic {column} of architecture {row} is {raw[row, column]}; "
            f"statistics have to be finite for every architecture"
        )
    spread = raw.std(axis=0)
    # Rounding gives a constant column a tiny spread; dividing by it would make noise of it.
    constant = spread <= 1e-9 * np.maximum(np.abs(raw).max(axis=0), 1e-300)
    return Standardised(space, statistics, raw.mean(axis=0), np.where(constant, 1.0, spread))


def _columns(statistics: Statistics, rows: NDArray[np.int16]) -> Features:
    return compute_statistics(statistics, rows, "statistics", ("k",))


def compute_statistics(
    statistics: Statistics, rows: NDArray[np.int16], kind: str, axes: tuple[str, ...]
) -> Features:
    """Compute numbers of architectures by a function that others wrote.

    Args:
        statistics: Canonical positions ``(n, len(space))`` in, ``(n, *axes)`` out.
        rows: Such positions.
        kind: What messages call the numbers.
        axes: Names of all axes but the first.

    Raises:
        InputError: The shape of what it returns is another.
    """
    raw = np.asarray(statistics(rows), dtype=np.float64)
    if raw.ndim != 1 + len(axes) or len(raw) != len(rows):
        raise InputError(
            f"the {kind} of {len(rows)} architectures have shape {raw.shape}; "
            f"expected ({', '.join((str(len(rows)), *axes))})"
        )
    return raw

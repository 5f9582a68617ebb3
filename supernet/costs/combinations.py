"""All combinations of some choices as arrays of positions, and which of them are one network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from supernet.space import SearchSpace, Value

_ROWS_AT_ONCE = 1 << 14


def list_combinations(space: SearchSpace, names: Sequence[str]) -> NDArray[np.int16]:
    """List all combinations of the values of some choices as positions, the last running fastest.

    Args:
        space: The choices.
        names: Names of those that are combined.

    Returns:
        Shape ``(combinations, len(names))``; of no choices one combination.
    """
    sizes = [len(space.choice(name).values) for name in names]
    if not sizes:
        return np.zeros((1, 0), dtype=np.int16)
    return np.indices(sizes, dtype=np.int16).reshape(len(sizes), -1).T


def make_canonical(
    space: SearchSpace, names: Sequence[str], rows: NDArray[np.integer]
) -> NDArray[np.int16]:
    """Make combinations canonical where all other choices have their last value.

    Args:
        space: The choices.
        names: Names of those that the columns are of.
        rows: Positions, ``(n, len(names))``.

    Returns:
        The same networks with inert entries 0, of the shape of ``rows``.
    """
    columns = [space.index(name) for name in names]
    result = np.empty(rows.shape, dtype=np.int16)
    # A whole row is far wider than what is asked of it.
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        whole = np.tile(space.cardinalities - 1, (len(part), 1))
        whole[:, columns] = part
        result[start : start + _ROWS_AT_ONCE] = space.canonical(whole)[:, columns]
    return result


def number_rows(
    space: SearchSpace, names: Sequence[str], rows: NDArray[np.integer]
) -> NDArray[np.intp]:
    """Number combinations by their place in :func:`list_combinations`; ``(n, k)`` to ``(n,)``."""
    numbers = np.zeros(len(rows), dtype=np.intp)
    for column, name in enumerate(names):
        numbers = numbers * len(space.choice(name).values) + rows[:, column]
    return numbers


def iterate_values(
    space: SearchSpace, names: Sequence[str], rows: NDArray[np.integer]
) -> Iterator[tuple[Value, ...]]:
    """Iterate over the values that rows ``(n, len(names))`` of positions stand for."""
    values = [space.choice(name).values for name in names]
    for row in rows.tolist():
        yield tuple(options[position] for options, position in zip(values, row, strict=True))

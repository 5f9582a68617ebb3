"""What a front keeps of its points as columns, so that none of them has to be in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from app.records.columns.choice_columns import ChoiceColumns
from app.records.columns.front_columns import Column, Estimated, make_column
from app.records.columns.stored_sequence import StoredSequence

FLAGS = ("on_front", "indistinguishable", "verified", "out_of_limits")


@dataclass(frozen=True, eq=False)
class PointColumns:
    """Everything that views of thousands of points need; arrays are ``(n,)``.

    Args:
        digest: Of the architectures.
        on_front: Whether no evaluated point dominates it.
        indistinguishable: Whether it is dominated only within noise.
        verified: Whether it was evaluated on the test split and measured.
        out_of_limits: Whether a limit of the search does not hold for its measured values.
        choices: The architectures.
        carried: What is estimated of them, in the order of the file.
        columns: By the name of the quantity, those that are estimated and those that are counted.
    """

    digest: NDArray[np.str_]
    on_front: NDArray[np.bool_]
    indistinguishable: NDArray[np.bool_]
    verified: NDArray[np.bool_]
    out_of_limits: NDArray[np.bool_]
    choices: ChoiceColumns
    carried: tuple[str, ...]
    columns: Mapping[str, Column]

    def column(self, name: str, unknown: Estimated) -> Column:
        """One quantity of every point; ``unknown`` for each where no point has it."""
        found = self.columns.get(name)
        if found is not None:
            return found
        return repeat_column(make_column([unknown]), len(self.digest))


@dataclass(frozen=True, eq=False)
class StoredPoints(StoredSequence):
    """Points that stay in their file, with what is known of all of them.

    Args:
        table: The columns.
    """

    table: PointColumns


def find_columns(points: Sequence[object]) -> PointColumns | None:
    """The columns of points that stay in their file; ``None`` for those that are in memory."""
    return points.table if isinstance(points, StoredPoints) else None


def repeat_column(column: Column, count: int) -> Column:
    """The one entry of a column ``count`` times."""
    return Column(**{f.name: np.repeat(getattr(column, f.name), count) for f in fields(Column)})

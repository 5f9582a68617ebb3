"""One choice of all points of a front, as a column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.records.searches.front import Front


def read_choice(front: Front, name: str) -> NDArray:
    """The value of one choice of every point of a front, ``(n,)``.

    Numbers come as ``float64`` with NaN where the choice is inert, anything else as objects with
    ``None`` there.

    Args:
        front: The front.
        name: Of the choice; one that no point has is inert everywhere.
    """
    choices = front.choices
    if name not in choices.names:
        return np.full(len(front.points), np.nan)
    place = choices.names.index(name)
    values, codes = choices.values[place], choices.codes[:, place]
    # An inert choice has the code -1, which is the last entry.
    if any(isinstance(value, str) for value in values):
        return np.array([*values, None], dtype=object)[codes]
    return np.array([*values, np.nan], dtype=np.float64)[codes]

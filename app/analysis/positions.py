"""Architectures out of files as rows of positions, those left out that the space does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.space import SearchSpace, Value

_INERT, _FOREIGN = -1, -2


@dataclass(frozen=True)
class Encoded:
    """Architectures as positions of their values among the legal ones.

    Args:
        rows: Canonical positions, ``(n, len(space))``; 0 where a choice is inert.
        active: Whether a choice has an effect, ``(n, len(space))``.
        known: Whether the space knows the architecture, ``(n,)``; other rows mean nothing.
    """

    rows: NDArray[np.int16]
    active: NDArray[np.bool_]
    known: NDArray[np.bool_]

    def select(self, kept: NDArray[np.bool_]) -> Encoded:
        """The architectures that a mask ``(n,)`` keeps."""
        return Encoded(self.rows[kept], self.active[kept], self.known[kept])


def encode_choices(space: SearchSpace, choices: Sequence[Mapping[str, Value]]) -> Encoded:
    """Encode architectures as a file holds them: by the names of their active choices.

    Args:
        space: Whose choices they are; what else a file names is passed over.
        choices: One mapping per architecture.

    Returns:
        Positions in the order of ``choices``; an architecture with a value that is not legal, or
        without one that is needed, is marked as unknown.
    """
    columns = []
    for choice in space.choices:
        places: dict[Value | None, int] = {value: i for i, value in enumerate(choice.values)}
        places[None] = _INERT
        columns.append([places.get(chosen.get(choice.name), _FOREIGN) for chosen in choices])
    found = np.array(columns, dtype=np.int16).reshape(len(space), len(choices)).T
    rows = space.canonical(np.maximum(found, 0))
    active = space.active(rows)
    known = ((found >= 0) | ((found == _INERT) & ~active)).all(axis=1)
    return Encoded(rows, active, known)

"""Architectures out of files as rows of positions, those left out that the space does not know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.records.columns.choice_columns import ChoiceColumns
from supernet.space import SearchSpace

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

    def select(self, kept: NDArray[np.bool_] | NDArray[np.intp]) -> Encoded:
        """The architectures that a mask ``(n,)`` keeps, or those at places ``(k,)``."""
        return Encoded(self.rows[kept], self.active[kept], self.known[kept])


def encode_choices(space: SearchSpace, choices: ChoiceColumns) -> Encoded:
    """Encode architectures as files hold them: by the names of their active choices.

    Args:
        space: Whose choices they are; what else a file names is passed over.
        choices: The architectures, ``n`` of them.

    Returns:
        Positions ``(n, len(space))`` in the order of ``choices``; an architecture with a value
        that is not legal, or without one that is needed, is marked as unknown.
    """
    found = np.full((len(choices), len(space)), _INERT, dtype=np.int16)
    for column, choice in enumerate(space.choices):
        if choice.name not in choices.names:
            continue
        place = choices.names.index(choice.name)
        legal = {(type(value), value): i for i, value in enumerate(choice.values)}
        # One entry more, which the code of an inert choice leads to.
        positions = [legal.get((type(v), v), _FOREIGN) for v in choices.values[place]]
        table = np.array([*positions, _INERT], dtype=np.int16)
        found[:, column] = table[choices.codes[:, place]]
    rows = space.canonical(np.maximum(found, 0))
    active = space.active(rows)
    known = ((found >= 0) | ((found == _INERT) & ~active)).all(axis=1)
    return Encoded(rows, active, known)

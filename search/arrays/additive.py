"""Quantities that add up over units: the form that exact selection works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError


@dataclass(frozen=True)
class AdditiveTerms:
    """A number per architecture that is a sum of terms, each decided by a few choices.

    Args:
        groups: For each term the columns of the choices that decide it; empty for a constant.
        tables: For each term its values, one axis per choice of the group and of the length of its
            cardinality. Inert choices count as position 0, as in canonical rows.
        offset: Added to every sum.

    Raises:
        InputError: The numbers of groups and tables differ, or a table has other axes than its
            group has choices.
    """

    groups: tuple[tuple[int, ...], ...]
    tables: tuple[NDArray[np.float64], ...]
    offset: float = 0.0

    def __post_init__(self) -> None:
        if len(self.groups) != len(self.tables):
            raise InputError(f"{len(self.groups)} groups have {len(self.tables)} tables")
        for group, table in zip(self.groups, self.tables, strict=True):
            if table.ndim != len(group):
                raise InputError(
                    f"the term of choices {group} has a table of {table.ndim} axes; "
                    f"it needs {len(group)}"
                )

    def __call__(self, positions: NDArray[np.integer]) -> NDArray[np.float64]:
        """Values ``(n,)`` of canonical rows ``(n, len(space))``."""
        rows = np.asarray(positions)
        total = np.full(len(rows), float(self.offset))
        for group, table in zip(self.groups, self.tables, strict=True):
            total += table[tuple(rows[:, column] for column in group)]
        return total

    def scaled(self, factor: float) -> AdditiveTerms:
        """The same sum times ``factor``."""
        tables = tuple(table * factor for table in self.tables)
        return AdditiveTerms(self.groups, tables, self.offset * factor)


def total(terms: Sequence[AdditiveTerms]) -> AdditiveTerms:
    """The sum of several additive quantities."""
    return AdditiveTerms(
        tuple(group for part in terms for group in part.groups),
        tuple(table for part in terms for table in part.tables),
        sum(part.offset for part in terms),
    )

"""Architectures as binary variables with linear constraints, for integer programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.arrays.additive import AdditiveTerms
from supernet.errors import InputError
from supernet.space import SearchSpace

_MOST_COMBINATIONS = 100_000
_SOLVED, _IMPOSSIBLE = 0, 2


class SolverError(RuntimeError):
    """The solver gave up on a program without saying whether it has a solution."""


@dataclass(frozen=True)
class Binaries:
    """One binary for each value of each choice, and one for each combination of a group.

    Sums of a group's combinations over all but one choice equal that choice's binaries.

    Args:
        space: The space.
        starts: First variable of each choice.
        groups: Sets of choices, ascending, with variables for their combinations.
        combinations: For each group its possible positions ``(k, size of the group)``.
        offsets: First variable of each group.
        width: Number of variables.
    """

    space: SearchSpace
    starts: NDArray[np.intp]
    groups: tuple[tuple[int, ...], ...]
    combinations: tuple[NDArray[np.intp], ...]
    offsets: tuple[int, ...]
    width: int

    @classmethod
    def build(cls, space: SearchSpace, groups: Iterable[tuple[int, ...]]) -> Binaries:
        """Variables for all choices and for the groups that no other group contains.

        Raises:
            InputError: A group has more than 100,000 combinations.
        """
        sets = {tuple(sorted(set(group))) for group in groups if len(set(group)) > 1}
        kept: list[tuple[int, ...]] = []
        for group in sorted(sets, key=lambda g: (-len(g), g)):
            if not any(set(group) <= set(larger) for larger in kept):
                kept.append(group)
        kept.sort()
        for group in kept:
            count = prod(int(space.cardinalities[i]) for i in group)
            if count > _MOST_COMBINATIONS:
                names = ", ".join(space.names[i] for i in group)
                raise InputError(
                    f"a term of {names} has {count} combinations; an integer program takes at "
                    f"most {_MOST_COMBINATIONS}"
                )
        ends = np.cumsum(space.cardinalities.astype(np.intp))
        combinations = tuple(_possible(space, group) for group in kept)
        sizes = [len(rows) for rows in combinations]
        firsts = np.cumsum([int(ends[-1]) if len(ends) else 0, *sizes])
        return cls(
            space,
            np.concatenate(([0], ends[:-1])).astype(np.intp),
            tuple(kept),
            combinations,
            tuple(int(first) for first in firsts[:-1]),
            int(firsts[-1]),
        )

    def weights(self, terms: AdditiveTerms) -> NDArray[np.float64]:
        """Factors of the variables ``(width,)`` that give the sum without its constants."""
        result = np.zeros(self.width)
        for group, table in zip(terms.groups, terms.tables, strict=True):
            if len(set(group)) == 1:
                column = group[0]
                start = self.starts[column]
                # A choice named twice in one term stands for the diagonal of its table.
                values = np.array([table[(v,) * len(group)] for v in range(table.shape[0])])
                result[start : start + len(values)] += values
            elif group:
                at = next(i for i, g in enumerate(self.groups) if set(group) <= set(g))
                rows = self.combinations[at]
                where = [self.groups[at].index(column) for column in group]
                offset = self.offsets[at]
                result[offset : offset + len(rows)] += table[tuple(rows[:, j] for j in where)]
        return result

    def structure(self) -> tuple[Any, NDArray[np.float64], NDArray[np.float64]]:
        """Sparse matrix and bounds that hold for architectures in canonical form only."""
        # Each constraint: variables counted with 1, with -1, and the bounds of their sum.
        rules: list[tuple[Iterable[int], Iterable[int], float, float]] = []
        for i, cardinality in enumerate(self.space.cardinalities.tolist()):
            start = int(self.starts[i])
            rules.append((range(start, start + cardinality), (), 1.0, 1.0))
            needed = needed_positions(self.space, i)
            if needed is not None:
                parent, least = needed
                first = int(self.starts[parent])
                allowing = range(first + least, first + int(self.space.cardinalities[parent]))
                # Any position but 0 needs the choice to be active.
                rules.append((range(start + 1, start + cardinality), allowing, -np.inf, 0.0))
        for group, rows, offset in zip(self.groups, self.combinations, self.offsets, strict=True):
            for j, i in enumerate(group):
                for value in range(int(self.space.cardinalities[i])):
                    having = (offset + np.flatnonzero(rows[:, j] == value)).tolist()
                    rules.append((having, (int(self.starts[i]) + value,), 0.0, 0.0))
        from scipy.sparse import csr_array

        entries = [(r, v, 1.0) for r, rule in enumerate(rules) for v in rule[0]]
        entries += [(r, v, -1.0) for r, rule in enumerate(rules) for v in rule[1]]
        places = np.array([entry[:2] for entry in entries], dtype=np.intp).T
        factors = np.array([entry[2] for entry in entries])
        matrix = csr_array((factors, (places[0], places[1])), shape=(len(rules), self.width))
        return matrix, np.array([r[2] for r in rules]), np.array([r[3] for r in rules])

    def cut(self, row: NDArray[np.integer]) -> NDArray[np.float64]:
        """A constraint row: the number of choices on which an architecture agrees with ``row``."""
        result = np.zeros(self.width)
        result[self.starts + np.asarray(row, dtype=np.intp)] = 1.0
        return result

    def minimise(
        self,
        factors: NDArray[np.float64],
        matrix: Any,
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        gap: float,
    ) -> NDArray[np.int16] | None:
        """The architecture ``(len(space),)`` of least sum, or ``None`` where there is none.

        Raises:
            SolverError: The solver gave up.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        # HiGHS now and then gives up on bounds that only just hold; without presolve it does not.
        for presolve in (True, False):
            found = milp(
                factors,
                integrality=np.ones(self.width),
                bounds=Bounds(0.0, 1.0),
                constraints=LinearConstraint(matrix, low, high),
                options={"mip_rel_gap": gap, "presolve": presolve},
            )
            if found.status in (_SOLVED, _IMPOSSIBLE):
                break
        if found.status == _IMPOSSIBLE:
            return None
        if found.status != _SOLVED or found.x is None:
            raise SolverError(f"the integer program was not solved: {found.message}")
        ends = self.starts + self.space.cardinalities
        parts = [found.x[a:b] for a, b in zip(self.starts, ends, strict=True)]
        return np.array([int(np.argmax(part)) for part in parts], dtype=np.int16)


def needed_positions(space: SearchSpace, column: int) -> tuple[int, int] | None:
    """The choice and its least position that ``column`` needs to matter; ``None``: it always does.

    A need that the other choice meets at any position passes on to what that choice needs.
    """
    needs = space.choices[column].needs
    while needs is not None:
        parent = space.index(needs[0])
        least = space.choices[parent].position(needs[1])
        if least > 0:
            return parent, least
        needs = space.choices[parent].needs
    return None


def _possible(space: SearchSpace, group: tuple[int, ...]) -> NDArray[np.intp]:
    """Combinations of positions that canonical rows have in these columns."""
    legal = product(*(range(int(space.cardinalities[i])) for i in group))
    rows = np.array(list(legal), dtype=np.intp)
    keep = np.ones(len(rows), dtype=bool)
    for j, column in enumerate(group):
        needed = needed_positions(space, column)
        if needed is not None and needed[0] in group:
            inert = rows[:, group.index(needed[0])] < needed[1]
            keep &= ~inert | (rows[:, j] == 0)
    return rows[keep]

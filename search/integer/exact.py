"""Exact selection by integer programming, when what counts is a sum over units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.arrays.additive import AdditiveTerms
from search.integer.binaries import Binaries
from search.sampling.feasibility import InfeasibleError
from supernet.errors import InputError
from supernet.space import SearchSpace

Row = NDArray[np.int16]
Limit = tuple[AdditiveTerms, float]

# HiGHS works to absolute tolerances near 1e-6: quantities are scaled so that those mean little,
# and limits are widened by more than them, or solutions that only just fit confuse it. Scaled any
# larger, its own rounding breaks the tolerances, which it reports past Python on standard output.
_SCALE = 10.0
_SLACK = 2e-7
# Sums of the same numbers in another order differ by less than this share of their range.
_ROUNDING = 1e-9


def solve(
    space: SearchSpace,
    maximise: AdditiveTerms,
    limits: Sequence[Limit] = (),
    *,
    pool: NDArray[np.int16] | None = None,
    forbidden: Iterable[NDArray[np.integer]] = (),
    gap: float = 0.0,
    names: Sequence[str] = (),
) -> Row | None:
    """The best architecture within limits, proven.

    A binary variable for each value of each choice and for each combination of a group; HiGHS by
    way of :func:`scipy.optimize.milp`. Of the forbidden rows only those that would be chosen are
    cut off, one after the other.

    Args:
        space: Where to choose; inert choices are at position 0, as in canonical rows.
        maximise: What to make large; use ``terms.scaled(-1)`` to make it small.
        limits: Quantities and what each may be at most.
        pool: Rows to which the choice is confined, ``(n, len(space))``.
        forbidden: Canonical rows that must not be chosen.
        gap: How far from the best the choice may be, relative to it; 0 for the best.
        names: What to call the limits in messages.

    Returns:
        The row ``(len(space),)``, or ``None`` when everything within the limits is forbidden.

    Raises:
        InfeasibleError: Nothing meets the limits; the nearest feasible value is in the message.
        InputError: A term does not fit the space.
    """
    program = Program(space, maximise, tuple(terms for terms, _ in limits), pool, gap)
    return program.best([bound for _, bound in limits], forbidden, names)


def exact_front(
    space: SearchSpace,
    maximise: AdditiveTerms,
    minimise: AdditiveTerms,
    *,
    pool: NDArray[np.int16] | None = None,
    most: int = 10_000,
) -> NDArray[np.int16]:
    """The exact Pareto set of two additive quantities, cheapest first.

    Epsilon-constraint sweep (Haimes et al. 1971): the best within a limit, then the cheapest of
    those as good, then a limit just below it. Values of ``minimise`` closer than a few
    ten-millionths of its range count as equal.

    For quantities that are additive themselves; strategies, whose sums are surrogates, solve single
    programs instead.

    Args:
        space: Where to choose.
        maximise: The one to make large.
        minimise: The one to make small.
        pool: Rows to which the choice is confined, ``(n, len(space))``.
        most: Stop after so many points, counted from the dearest.

    Returns:
        One row for each point of the front, ``(k, len(space))``.
    """
    best = Program(space, maximise, (minimise,), pool)
    cheapest = Program(space, minimise.scaled(-1), (maximise.scaled(-1), minimise), pool)
    step = 2 * _SLACK * span(minimise)
    tie = _ROUNDING * span(maximise)
    limit = _most(minimise)
    floor = best.least(0)
    rows: list[Row] = []
    while len(rows) < most and limit >= floor:
        row = best.best([limit])
        assert row is not None
        # Ties in the first quantity are broken by the second, or the point is dominated.
        least_gain = float(maximise(row[None])[0]) - tie
        row = cheapest.best([-least_gain, limit])
        assert row is not None
        rows.append(row)
        limit = float(minimise(row[None])[0]) - step
    return np.stack(rows[::-1]) if rows else np.zeros((0, len(space)), dtype=np.int16)


@dataclass(frozen=True)
class Program:
    """An integer program set up once and solved for many limits; see :func:`solve`.

    Args:
        space: Where to choose.
        maximise: What to make large.
        limited: Quantities with limits.
        pool: Rows to which the choice is confined, ``(n, len(space))``.
        gap: Allowed relative distance from the best.

    Raises:
        InputError: A term names a choice that the space does not have, or has a table of another
            shape.
    """

    space: SearchSpace
    maximise: AdditiveTerms
    limited: tuple[AdditiveTerms, ...] = ()
    pool: NDArray[np.int16] | None = None
    gap: float = 0.0

    def __post_init__(self) -> None:
        for terms in (self.maximise, *self.limited):
            _check(self.space, terms)

    def best(
        self,
        bounds: Sequence[float],
        forbidden: Iterable[NDArray[np.integer]] = (),
        names: Sequence[str] = (),
        tries: int | None = None,
        cut: Sequence[NDArray[np.integer]] = (),
    ) -> Row | None:
        """The best row with each limited quantity at most its bound; see :func:`solve`.

        Args:
            bounds: One for each limited quantity.
            forbidden: Canonical rows that must not be chosen.
            names: What to call the limited quantities in messages.
            tries: Programs solved before the best allowed row counts as not found.
            cut: Those of the forbidden rows that are likely to be the best ones: cut off at once.

        Raises:
            InfeasibleError: Nothing meets the bounds, and ``tries`` is ``None``.
        """
        taken = {np.asarray(row, dtype=np.int16).tobytes() for row in forbidden}
        if self.pool is None:
            row = self._of_space(bounds, taken, tries, cut)
        else:
            row = self._of_pool(bounds, taken)
        if row is None and tries is None:
            self._explain(bounds, names)
        return row

    def least(self, which: int) -> float:
        """The smallest value that a limited quantity can have, whatever the other limits."""
        terms = self.limited[which]
        row = Program(self.space, terms.scaled(-1), (), self.pool).best([])
        assert row is not None
        return float(terms(row[None])[0])

    def _of_pool(self, bounds: Sequence[float], taken: set[bytes]) -> Row | None:
        rows = np.asarray(self.pool, dtype=np.int16)
        for terms, bound in zip(self.limited, bounds, strict=True):
            rows = rows[terms(rows) <= bound + _ROUNDING * span(terms)]
        for i in np.argsort(-self.maximise(rows), kind="stable"):
            if rows[i].tobytes() not in taken:
                return np.asarray(rows[i], dtype=np.int16)
        return None

    def _of_space(
        self,
        bounds: Sequence[float],
        taken: set[bytes],
        tries: int | None,
        cut: Sequence[NDArray[np.integer]],
    ) -> Row | None:
        from scipy.sparse import vstack

        matrix, low, high = self._constraints
        room = [
            _SCALE * ((bound - _constant(terms)) / span(terms) + _SLACK)
            for terms, bound in zip(self.limited, bounds, strict=True)
        ]
        low, high = np.append(low, [-np.inf] * len(room)), np.append(high, room)
        if len(cut):
            matrix = vstack([matrix, [self._variables.cut(row) for row in cut]], format="csr")
            low = np.append(low, np.full(len(cut), -np.inf))
            high = np.append(high, np.full(len(cut), len(self.space) - 1.0))
        for _ in count() if tries is None else range(tries):
            row = self._variables.minimise(self._objective, matrix, low, high, self.gap)
            if row is None:
                break
            # Within the solver's tolerance is not yet within the limit.
            over = any(
                terms(row[None])[0] > bound + _ROUNDING * span(terms)
                for terms, bound in zip(self.limited, bounds, strict=True)
            )
            if not over and row.tobytes() not in taken:
                return row
            matrix = vstack([matrix, self._variables.cut(row)[None]], format="csr")
            low, high = np.append(low, -np.inf), np.append(high, len(row) - 1.0)
        return None

    @cached_property
    def _variables(self) -> Binaries:
        groups = [g for terms in (self.maximise, *self.limited) for g in terms.groups]
        return Binaries.build(self.space, groups)

    @cached_property
    def _objective(self) -> NDArray[np.float64]:
        factor = -_SCALE / span(self.maximise)
        result: NDArray[np.float64] = self._variables.weights(self.maximise) * factor
        return result

    @cached_property
    def _constraints(self) -> tuple[Any, NDArray[np.float64], NDArray[np.float64]]:
        """Structure first, then one row for each limited quantity, without its bound."""
        from scipy.sparse import vstack

        matrix, low, high = self._variables.structure()
        if self.limited:
            rows = [
                self._variables.weights(terms) * (_SCALE / span(terms)) for terms in self.limited
            ]
            matrix = vstack([matrix, np.stack(rows)], format="csr")
        return matrix, low, high

    def _explain(self, bounds: Sequence[float], names: Sequence[str]) -> None:
        """InfeasibleError when the limits alone are to blame; nothing when forbidden rows are."""
        titles = [names[i] if i < len(names) else f"quantity {i}" for i in range(len(bounds))]
        for i, bound in enumerate(bounds):
            least = self.least(i)
            if least > bound + _ROUNDING * span(self.limited[i]):
                raise InfeasibleError(
                    f"no architecture has {titles[i]} at most {bound:g}; the nearest feasible "
                    f"value is {least:.6g}",
                    titles[i],
                    least,
                )
        if len(bounds) < 2:
            return
        first, *others = self.limited
        row = Program(self.space, first.scaled(-1), tuple(others), self.pool).best(
            bounds[1:], (), titles[1:]
        )
        value = float("nan") if row is None else float(first(row[None])[0])
        if value > bounds[0] + _ROUNDING * span(first):
            raise InfeasibleError(
                f"no architecture meets all limits at once; within the other limits {titles[0]} "
                f"is at least {value:.6g}, not {bounds[0]:g}",
                titles[0],
                value,
            )


def span(terms: AdditiveTerms) -> float:
    """An upper bound of the range of a sum, above 0."""
    found = float(sum(np.ptp(table) for table in terms.tables if table.ndim))
    return found if found > 0 else 1.0


def _most(terms: AdditiveTerms) -> float:
    return terms.offset + float(sum(table.max() for table in terms.tables))


def _constant(terms: AdditiveTerms) -> float:
    return terms.offset + float(sum(table for table in terms.tables if not table.ndim))


def _check(space: SearchSpace, terms: AdditiveTerms) -> None:
    for group, table in zip(terms.groups, terms.tables, strict=True):
        if any(not 0 <= column < len(space) for column in group):
            raise InputError(
                f"a term depends on columns {group}, but the space has {len(space)} choices"
            )
        shape = tuple(int(space.cardinalities[column]) for column in group)
        if table.shape != shape:
            raise InputError(
                f"the term of {', '.join(space.names[i] for i in group)} has a table of shape "
                f"{table.shape}; the space needs {shape}"
            )

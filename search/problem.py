"""What is searched for: objectives with directions, constraints and the space they live on."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from search.arrays.additive import AdditiveTerms
from search.arrays.row_pool import nearest_rows
from supernet.errors import InputError
from supernet.space import SearchSpace

Values = NDArray[np.float64]
Evaluate = Callable[[NDArray[np.int16]], NDArray[np.float64]]

DIRECTIONS = ("maximize", "minimize")
CHEAP_SOURCES = ("table", "analytic", "predicted")
EXPENSIVE_SOURCES = ("evaluated", "measured")


@dataclass(frozen=True)
class Objective:
    """One number per architecture, and how it is obtained.

    Args:
        name: ``accuracy``, ``latency_ms``, ``size_bytes``, ...
        unit: ``fraction``, ``ms``, ``bytes``, ...
        direction: ``maximize`` or ``minimize``.
        evaluate: Positions ``(n, len(space))`` in, values ``(n,)`` out; NaN marks a failure.
        source: ``table``, ``analytic`` or ``predicted``: exact for the search and called on whole
            populations. ``evaluated`` or ``measured``: costly, called once per chosen architecture.
        noise: Standard deviation of one evaluation in the unit of the values: a number, or a
            function of the values ``(n,)``. Two points closer than that are not told apart.
        additive: The same quantity as a sum over units, where it is one.

    Raises:
        InputError: Unknown direction or source.
    """

    name: str
    unit: str
    direction: str
    evaluate: Evaluate
    source: str
    noise: float | Callable[[Values], Values] = 0.0
    additive: AdditiveTerms | None = None

    def __post_init__(self) -> None:
        _check_word("direction", self.direction, DIRECTIONS)
        _check_word("source", self.source, CHEAP_SOURCES + EXPENSIVE_SOURCES)

    @property
    def expensive(self) -> bool:
        """Whether a value costs an evaluation, so that a predictor stands in for it."""
        return self.source in EXPENSIVE_SOURCES

    @property
    def sign(self) -> float:
        """Factor that turns values into ones to be minimised."""
        return -1.0 if self.direction == "maximize" else 1.0

    def deviation(self, values: NDArray[np.floating]) -> Values:
        """Standard deviations ``(n,)`` of evaluations that gave ``values`` ``(n,)``."""
        numbers = np.asarray(values, dtype=np.float64)
        found = self.noise(numbers) if callable(self.noise) else self.noise
        return np.broadcast_to(np.asarray(found, dtype=np.float64), numbers.shape).copy()


@dataclass(frozen=True)
class Constraint:
    """A limit on one quantity: exactly one of ``at_most`` and ``at_least``, in its unit.

    Raises:
        InputError: Both limits, none, or one that is not finite.
    """

    objective: str
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise InputError(f"constraint on {self.objective!r} needs either at_most or at_least")
        if not np.isfinite(self.limit):
            raise InputError(f"constraint on {self.objective!r} has the limit {self.limit}")

    @property
    def limit(self) -> float:
        """The limit, whichever side it is on."""
        limit = self.at_most if self.at_most is not None else self.at_least
        assert limit is not None
        return float(limit)

    def __str__(self) -> str:
        side = "at most" if self.at_most is not None else "at least"
        return f"{self.objective} {side} {self.limit:g}"

    def violation(self, values: NDArray[np.floating]) -> Values:
        """How far values ``(n,)`` are beyond the limit, relative to it; at most 0 is feasible.

        A failed evaluation (NaN) violates every constraint.
        """
        excess = np.asarray(values, dtype=np.float64) - self.limit
        if self.at_least is not None:
            excess = -excess
        return np.nan_to_num(excess / max(abs(self.limit), 1e-12), nan=np.inf, posinf=np.inf)


@dataclass(frozen=True)
class SearchProblem:
    """A space, at least two objectives, and limits on them or on further quantities.

    Args:
        space: Where to search.
        objectives: In the order of every value array; at least two.
        constraints: Limits on objectives or on ``limited`` quantities.
        limited: Quantities that are only constrained, not optimised.
        pool: Canonical rows ``(n, len(space))`` to which the search is confined, such as the
            entries of a published table; ``None`` for the whole space.

    Raises:
        InputError: Fewer than two objectives, a name twice, a constraint on an unknown name, or an
            empty pool or one of another space.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    limited: tuple[Objective, ...] = ()
    pool: NDArray[np.int16] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if len(self.objectives) < 2:
            raise InputError(f"a search needs at least two objectives; got {len(self.objectives)}")
        names = self.names
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"objective {name!r} is listed twice")
        for constraint in self.constraints:
            _check_word("constrained objective", constraint.objective, names)
        if self.pool is None:
            return
        if not len(self.pool) or self.pool.ndim != 2 or self.pool.shape[1] != len(self.space):
            raise InputError(
                f"a pool of shape {self.pool.shape} cannot be searched; it needs at least one row "
                f"of {len(self.space)} positions"
            )

    @property
    def quantities(self) -> tuple[Objective, ...]:
        """Objectives, then the quantities that are only constrained: columns of value arrays."""
        return self.objectives + self.limited

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the quantities."""
        return tuple(quantity.name for quantity in self.quantities)

    @property
    def expensive(self) -> tuple[Objective, ...]:
        """Quantities that cost an evaluation."""
        return tuple(quantity for quantity in self.quantities if quantity.expensive)

    @property
    def cheap(self) -> tuple[Objective, ...]:
        """Quantities that are known for whole populations."""
        return tuple(quantity for quantity in self.quantities if not quantity.expensive)

    def column(self, name: str) -> int:
        """The column of a quantity in value arrays.

        Raises:
            InputError: No such quantity; the nearest name is in the message.
        """
        _check_word("objective", name, self.names)
        return self.names.index(name)

    def project(self, positions: NDArray[np.integer]) -> NDArray[np.int16]:
        """Canonical rows, each replaced by the most similar one of the pool where there is one."""
        rows = self.space.canonical(np.asarray(positions))
        return rows if self.pool is None else nearest_rows(self.pool, rows)

    def cheap_values(self, positions: NDArray[np.integer]) -> Values:
        """Values ``(n, number of quantities)`` with the expensive columns NaN."""
        values = np.full((len(positions), len(self.quantities)), np.nan)
        for column, quantity in enumerate(self.quantities):
            if not quantity.expensive and len(positions):
                values[:, column] = quantity.evaluate(np.asarray(positions, dtype=np.int16))
        return values

    def minimised(self, values: NDArray[np.floating]) -> Values:
        """The objective columns ``(n, m)``, signs turned so that less is better."""
        signs = np.array([objective.sign for objective in self.objectives])
        return np.asarray(values, dtype=np.float64)[:, : len(self.objectives)] * signs

    def natural(self, minimised: NDArray[np.floating]) -> Values:
        """The inverse of :meth:`minimised`: ``(n, m)`` in the objectives' own directions."""
        signs = np.array([objective.sign for objective in self.objectives])
        return np.asarray(minimised, dtype=np.float64) * signs

    def violations(self, values: NDArray[np.floating], *, cheap_only: bool = False) -> Values:
        """Relative excess over each limit, ``(n, number of constraints)``; at most 0 is feasible.

        Args:
            values: ``(n, number of quantities)``.
            cheap_only: Leave out the constraints on expensive quantities.
        """
        expensive = {quantity.name for quantity in self.expensive}
        chosen = [c for c in self.constraints if not (cheap_only and c.objective in expensive)]
        columns = [c.violation(values[:, self.column(c.objective)]) for c in chosen]
        return np.stack(columns, 1) if columns else np.zeros((len(values), 0))

    def admits(self, positions: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which positions ``(n, len(space))`` meet every constraint on cheap quantities."""
        limited = {constraint.objective for constraint in self.constraints}
        if not any(quantity.name in limited for quantity in self.cheap):
            return np.ones(len(positions), dtype=bool)
        values = self.cheap_values(positions)
        return np.asarray((self.violations(values, cheap_only=True) <= 0).all(axis=1))


def _check_word(what: str, word: str, legal: tuple[str, ...]) -> None:
    if word not in legal:
        close = difflib.get_close_matches(word, legal, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"unknown {what} {word!r}; known are {', '.join(legal)}{hint}")

"""When a search ends: evaluations, time, or a front that has stopped growing."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from search.arrays.pareto import hypervolume, reference_point
from search.history import History
from search.problem import SearchProblem
from supernet.errors import InputError

GROWTH = 1e-3
EVALUATIONS, TIME, STAGNATION, EXHAUSTED = "evaluations", "time", "stagnation", "exhausted"


@dataclass(frozen=True)
class Stops:
    """What ends a search; the first that is met does.

    Args:
        evaluations: Length of the history to reach.
        seconds: Wall-clock time, looked at between rounds: the round that is under way is
            finished, and the first is always made. A search that is resumed counts the time of the
            present process only.
        stagnation: End when the hypervolume grew by less than 0.1 % during so many evaluations,
            looked at between rounds.

    Raises:
        InputError: A number is below 1, or the time is not above 0.
    """

    evaluations: int
    seconds: float | None = None
    stagnation: int | None = None

    def __post_init__(self) -> None:
        if self.evaluations < 1:
            raise InputError(f"evaluations = {self.evaluations} is impossible; use at least 1")
        if self.seconds is not None and not (isfinite(self.seconds) and self.seconds > 0):
            raise InputError(f"a time limit of {self.seconds:g} s cannot work; it must be above 0")
        if self.stagnation is not None and self.stagnation < 1:
            raise InputError(
                f"stagnation = {self.stagnation} is impossible; it is a number of evaluations, "
                "at least 1"
            )

    def met(
        self,
        problem: SearchProblem,
        history: History,
        seconds: float,
        reference: NDArray[np.floating] | None = None,
    ) -> str | None:
        """Why a search with this history should end now, or ``None``.

        Args:
            problem: Objectives and limits.
            history: Whole rounds of evaluations.
            seconds: Since this process began to search.
            reference: Hypervolume reference ``(m,)`` to be minimised against; by default that of
                :func:`frozen_reference`.

        Returns:
            ``"evaluations"``, ``"time"``, ``"stagnation"`` or ``None``.
        """
        if len(history) >= self.evaluations:
            return EVALUATIONS
        # A search that made nothing at all could not be continued to any end, however often asked.
        if self.seconds is not None and len(history) and seconds >= self.seconds:
            return TIME
        if self.stagnation is not None:
            bound = frozen_reference(problem, history) if reference is None else reference
            if bound is not None and stagnated(problem, history, self.stagnation, bound):
                return STAGNATION
        return None


def usable(problem: SearchProblem, history: History) -> NDArray[np.bool_]:
    """Which evaluations ``(n,)`` succeeded and lie within every limit."""
    return np.asarray(~history.failed & (problem.violations(history.values) <= 0).all(axis=1))


def frozen_reference(problem: SearchProblem, history: History) -> NDArray[np.float64] | None:
    """A hypervolume reference ``(m,)``, to be minimised against, that later rounds do not move.

    The worst values and a margin of a tenth of the evaluations up to the end of the first round
    that brought two usable ones; ``None`` before. Volumes with different references cannot be
    compared, and one that moved with the search would hide that it stands still.
    """
    kept = usable(problem, history)
    second = np.flatnonzero(kept)[1:2]
    if not len(second):
        return None
    early = kept & (history.batches <= history.batches[second[0]])
    return reference_point(problem.minimised(history.values[early]))


def stagnated(
    problem: SearchProblem,
    history: History,
    window: int,
    reference: NDArray[np.floating],
    growth: float = GROWTH,
) -> bool:
    """Whether the hypervolume grew by less than a share of itself in the last evaluations.

    Args:
        problem: Objectives and limits.
        history: What was evaluated.
        window: How many evaluations to look back; with fewer the answer is no.
        reference: To be minimised against, ``(m,)``.
        growth: The share, 0.001 for 0.1 %.
    """
    if len(history) <= window:
        return False
    kept = usable(problem, history)
    points = problem.minimised(history.values)
    before = kept.copy()
    before[len(history) - window :] = False
    old = hypervolume(points[before], reference)
    # Without a volume there is no front yet that could have stopped growing.
    return old > 0 and hypervolume(points[kept], reference) - old < growth * old


def hypervolume_trace(
    problem: SearchProblem, history: History, reference: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Hypervolume of the front after 1, 2, ... evaluations, ``(n,)``.

    Args:
        problem: Objectives and limits; failures and points beyond a limit add nothing.
        history: What was evaluated, in order.
        reference: In the objectives' own directions, ``(m,)``; NaN where nothing is usable.
    """
    bound = problem.minimised(np.asarray(reference, dtype=np.float64)[None])[0]
    kept = usable(problem, history)
    points = problem.minimised(history.values)
    trace = np.zeros(len(history))
    best = points[:0]
    volume = 0.0
    for i, point in enumerate(points):
        if kept[i] and not (best <= point).all(axis=1).any():
            best = np.concatenate((best[~(best >= point).all(axis=1)], point[None]))
            volume = hypervolume(best, bound)
        trace[i] = volume
    return trace

"""A race: each candidate against the best that was evaluated before it and costs no more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.evaluation.race_bounds import (
    Bound,
    RaceRule,
    Scores,
    compute_saved_share,
    find_best_rival,
    find_stop,
    is_dominated,
)
from app.records.evaluation import EvaluationRecord
from app.records.quantities import QUALITIES
from search import History, SearchProblem
from supernet.errors import InputError
from supernet.space import Architecture


@dataclass(frozen=True)
class Candidate:
    """An architecture that a search asks for.

    Args:
        place: Its place in the order of the whole search.
        architecture: The architecture.
        row: The same as a canonical row ``(len(space),)``.
        cheap: Values of the cheap objectives ``(m,)``, NaN for the expensive ones.
    """

    place: int
    architecture: Architecture
    row: NDArray[np.int16]
    cheap: NDArray[np.float64]


@dataclass(frozen=True)
class _Rival:
    """A candidate that was evaluated on the whole split and is within the limits.

    Args:
        place: The candidate's place in the order of the search.
        others: Its objectives but for the raced one, to be minimised.
        quality: The raced one, to be minimised.
        record: The record of its evaluation.
    """

    place: int
    others: NDArray[np.float64]
    quality: float
    record: EvaluationRecord


class Race:
    """Who races against whom in one search, and who was stopped.

    A candidate's rival lies at least ``rule.lag`` places before it, so who is stopped depends on
    the order of the search alone.

    Args:
        problem: Objectives and limits; exactly one objective is expensive, the raced one.
        rule: When to stop.
        total: Samples of the validation split.
        maximize: Whether the raced objective is better when higher.

    Raises:
        InputError: Another objective is expensive, too: whether a candidate is dominated cannot
            be known then before it is evaluated.
    """

    def __init__(
        self, problem: SearchProblem, rule: RaceRule, total: int, *, maximize: bool
    ) -> None:
        names = [o.name for o in problem.objectives if o.expensive]
        others = [name for name in names if name not in QUALITIES]
        if others or not names:
            raise InputError(
                "a race compares candidates by one evaluated objective and the known others; "
                + (f"{others[0]!r} is evaluated, too" if others else "nothing is evaluated here")
            )
        self.problem, self.rule, self.total, self.maximize = problem, rule, total, maximize
        # Stopped candidates by their rows, with the bound that stopped them.
        self.stopped: dict[bytes, Bound] = {}
        self._samples: list[int] = []
        self._rivals: list[_Rival] = []
        self._column = problem.column(names[0])

    @property
    def saved_share(self) -> float:
        """Share of the validation samples that were not looked at, of all candidates so far."""
        return compute_saved_share(self._samples, self.total)

    def find_rival(self, candidate: Candidate) -> EvaluationRecord | None:
        """Find the record that a candidate is raced against: one ``lag`` places before it."""
        last = candidate.place - self.rule.lag
        able = [rival for rival in self._rivals if rival.place <= last]
        if not able:
            return None
        # Among equals the first of the search, whoever finished first.
        able.sort(key=lambda rival: rival.place)
        others = np.delete(self.problem.minimised(candidate.cheap[None])[0], self._column)
        found = find_best_rival(
            np.array([rival.others for rival in able]),
            np.array([rival.quality for rival in able]),
            others,
        )
        return None if found is None else able[found].record

    def find_bound(self, record: EvaluationRecord, rival: EvaluationRecord | None) -> Bound | None:
        """Find where the candidate of a record stops against a rival; ``None`` if nowhere."""
        seen, against = record.unpack_scores(), read_scores(rival)
        if seen is None or against is None:
            return None
        return find_stop(seen, self.total, against, self.rule, maximize=self.maximize)

    def judge(self, candidate: Candidate, record: EvaluationRecord) -> float:
        """Decide the value the search sees, and remember the candidate.

        Returns:
            The estimate of a stopped candidate, else the value on the whole split; such a
            candidate is a rival for later ones when it is within the limits.
        """
        bound = self.find_bound(record, self.find_rival(candidate))
        if bound is not None:
            self.stopped[candidate.row.tobytes()] = bound
            self._samples.append(bound.samples)
            return bound.estimate
        self._samples.append(self.total)
        value = record.value_or_nan
        values = candidate.cheap.copy()
        values[self._column] = value
        if np.isfinite(values).all() and (self.problem.violations(values[None]) <= 0).all():
            point = self.problem.minimised(values[None])[0]
            others = np.delete(point, self._column)
            quality = float(point[self._column])
            self._rivals.append(_Rival(candidate.place, others, quality, record))
        return value

    def find_unsettled(self, history: History) -> int | None:
        """Find a stopped candidate whose bound reaches the front, by its place in a history."""
        if not self.stopped:
            return None
        whole = np.array([row.tobytes() not in self.stopped for row in history.positions])
        kept = ~history.failed & (self.problem.violations(history.values) <= 0).all(axis=1)
        front = self.problem.minimised(history.values)[kept & whole]
        for index in np.flatnonzero(~whole):
            bound = self.stopped[history.positions[index].tobytes()]
            best = history.values[index : index + 1].copy()
            best[0, self._column] = bound.high if self.maximize else bound.low
            if not is_dominated(self.problem.minimised(best)[0], front):
                return int(index)
        return None

    def settle(self, history: History, index: int, value: float) -> History:
        """Put the value on the whole split in the place of a stopped candidate's estimate."""
        values = history.values.copy()
        values[index, self._column] = value
        del self.stopped[history.positions[index].tobytes()]
        return History(history.names, history.positions, values, history.batches)


def read_scores(rival: EvaluationRecord | None) -> Scores | float | None:
    """Read the scores of a rival's record, or its value where they were not kept."""
    if rival is None:
        return None
    found = rival.unpack_scores()
    return rival.value_or_nan if found is None else found

"""Evaluating a search's proposals: several in flight, hopeless ones stopped, results in order."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from app.evaluation.log import EvaluationLog
from app.evaluation.pools import InlinePool, WorkerPool
from app.evaluation.race import Candidate, Race, read_scores
from app.evaluation.race_bounds import Bound, RaceRule
from app.evaluation.round_work import work_through
from app.evaluation.worker import Finding, Task
from app.records.evaluation import EvaluationRecord
from app.records.quantities import QUALITIES
from search import SearchProblem, SearchResult, pareto_front
from search.stops import hypervolume_trace
from supernet.data import IMAGES

SPLIT = "val"
# A round is handed over whole: what is in flight is decided here.
WHOLE_ROUND = 1 << 30


class Evaluator(AbstractContextManager["Evaluator"]):
    """Gives a search the values it asks for; a context manager that ends its workers.

    In ``search_job``, inside ``run.writing()``::

        with Evaluator(problem, log, pool=open_pool(log, workers=request.workers)) as evaluator:
            result = search(..., evaluate_batch=evaluator.evaluate_batch, chunk=WHOLE_ROUND,
                            known=evaluator.list_known())
            result = evaluator.settle(result)

    Every record is appended to the log by this process as soon as it is there, so a killed search
    loses only what was in flight. Values come back in the order of the rows whoever finishes
    first, and who is stopped depends on that order alone: the result is the same for any number
    of workers.

    Args:
        problem: Which quantities; the quality is evaluated here, others by their own functions.
        log: Where records are kept and found.
        pool: Who evaluates; by default this process.
        rule: Race candidates and stop those that are surely dominated; ``None`` evaluates all on
            the whole split. A stopped candidate enters the history with its estimate, held within
            its bound so that its rival still dominates it: predictors learn from it, no front
            ever holds it.

    Raises:
        InputError: A race is asked for where another objective is expensive, too.
    """

    def __init__(
        self,
        problem: SearchProblem,
        log: EvaluationLog,
        *,
        pool: WorkerPool | None = None,
        rule: RaceRule | None = None,
    ) -> None:
        self.problem, self.log = problem, log
        trained = log.trained
        self.pool = pool or InlinePool(trained, log.caches, log.calibration_samples)
        self.reused = 0
        self._place = 0
        self._race: Race | None = None
        if rule is not None:
            total = len(trained.data.split(SPLIT))
            self._race = Race(problem, rule, total, maximize=trained.data.shape.task == IMAGES)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.close()

    @property
    def stopped(self) -> Mapping[bytes, Bound]:
        """Stopped candidates of this search by their rows, with the bound that stopped them."""
        return {} if self._race is None else self._race.stopped

    @property
    def saved_share(self) -> float:
        """Share of the validation samples that need not be looked at, of all candidates so far."""
        return 0.0 if self._race is None else self._race.saved_share

    def list_known(self) -> dict[bytes, dict[str, float]]:
        """List what to hand to :func:`search.search` as ``known``.

        With a race nothing: stored records come through :meth:`evaluate_batch`, which stops the
        same candidates as if they were evaluated for the first time.
        """
        return {} if self._race is not None else self.log.known(SPLIT)

    def evaluate_batch(self, rows: NDArray[np.int16]) -> Mapping[str, NDArray[np.float64]]:
        """Evaluate rows ``(k, len(space))``.

        Returns:
            Values ``(k,)`` of each expensive quantity, NaN where an evaluation failed.

        Raises:
            InputError: A worker died twice, or cannot open the run.
            OSError: The log could not be written; what it holds is kept.
        """
        columns: dict[str, NDArray[np.float64]] = {}
        for quantity in self.problem.expensive:
            if quantity.name in QUALITIES:
                columns[quantity.name] = self._evaluate_quality(rows)
            else:
                columns[quantity.name] = np.asarray(quantity.evaluate(rows), np.float64)
        return columns

    def settle(self, result: SearchResult) -> SearchResult:
        """Finish every stopped candidate whose bound reaches the front.

        By construction there is none: the rival of each is in the same history. Should one be
        there all the same, it is evaluated on the whole split before anything is verified.
        """
        race, history = self._race, result.history
        if race is None:
            return result
        while (index := race.find_unsettled(history)) is not None:
            architecture = self.problem.space.decode(history.positions[index][None])[0]
            record = self.log.evaluate(architecture, SPLIT)
            history = race.settle(history, index, record.value_or_nan)
        if history is result.history:
            return result
        return replace(
            result,
            history=history,
            front=pareto_front(self.problem, history),
            trace=hypervolume_trace(self.problem, history, result.reference),
        )

    def _evaluate_quality(self, rows: NDArray[np.int16]) -> NDArray[np.float64]:
        candidates = self._list_candidates(rows)
        values = np.full(len(rows), np.nan)

        def begin(index: int) -> tuple[str, Task] | None:
            candidate = candidates[index]
            rival = None if self._race is None else self._race.find_rival(candidate)
            record = self._find_record(candidate, rival)
            if record is None:
                return candidate.architecture.digest, self._make_task(candidate, rival)
            self.reused += 1
            values[index] = self._judge(candidate, record)
            return None

        def finish(index: int, finding: Finding) -> None:
            record = self.log.store(candidates[index].architecture, SPLIT, finding)
            values[index] = self._judge(candidates[index], record)

        lag = None if self._race is None else self._race.rule.lag
        work_through(self.pool, len(rows), begin, finish, lag=lag)
        return values

    def _list_candidates(self, rows: NDArray[np.int16]) -> list[Candidate]:
        first, self._place = self._place, self._place + len(rows)
        found = zip(
            self.problem.space.decode(rows), rows, self.problem.cheap_values(rows), strict=True
        )
        return [Candidate(place, *parts) for place, parts in enumerate(found, start=first)]

    def _find_record(
        self, candidate: Candidate, rival: EvaluationRecord | None
    ) -> EvaluationRecord | None:
        """Find a record that makes an evaluation needless."""
        record = self.log.find(candidate.architecture, SPLIT)
        if record is not None or self._race is None:
            return record
        partial = self.log.find(candidate.architecture, SPLIT, stopped=True)
        if partial is not None and self._race.find_bound(partial, rival) is not None:
            return partial
        return None

    def _make_task(self, candidate: Candidate, rival: EvaluationRecord | None) -> Task:
        rule = None if self._race is None else self._race.rule
        return Task(candidate.architecture.to_dict(), SPLIT, rule, read_scores(rival))

    def _judge(self, candidate: Candidate, record: EvaluationRecord) -> float:
        return record.value_or_nan if self._race is None else self._race.judge(candidate, record)

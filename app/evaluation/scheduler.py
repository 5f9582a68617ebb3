"""Evaluating a search's proposals: several in flight, hopeless ones stopped, results in order."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from app.evaluation.early_stop import Bound, Racing, best_rival, dominated, race, saved
from app.evaluation.log import EvaluationLog
from app.evaluation.ray_pool import RayPool
from app.evaluation.workers import Finding, InlinePool, Pool, ProcessPool, Setup, Task
from app.records.evaluation import EvaluationRecord
from app.records.quantities import QUALITIES
from search import History, SearchProblem, SearchResult, pareto_front
from search.stops import hypervolume_trace
from supernet.data import IMAGES
from supernet.space import Architecture

SPLIT = "val"
# A round is handed over whole: what is in flight is decided here.
WHOLE_ROUND = 1 << 30


@dataclass
class _Known:
    """What a search has evaluated on the whole split so far: the rivals there are to choose from.

    Args:
        places: Of each in the order of the search.
        others: Their other objectives, to be minimised.
        quality: Their values, to be minimised.
        records: Their records.
    """

    places: list[int] = field(default_factory=list)
    others: list[NDArray[np.float64]] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)
    records: list[EvaluationRecord] = field(default_factory=list)


class Evaluator(AbstractContextManager["Evaluator"]):
    """Gives a search the values it asks for; a context manager that ends its workers.

    In ``search_job``, inside ``run.writing()``::

        with Evaluator(problem, log, pool=open_pool(log, workers=request.workers)) as evaluator:
            result = search(..., evaluate_batch=evaluator.evaluate_batch, chunk=WHOLE_ROUND,
                            known=evaluator.known())
            result = evaluator.settled(result)

    Every record is appended to the log by this process as soon as it is there, so a killed search
    loses only what was in flight. Values come back in the order of the rows whoever finishes
    first, and who is stopped depends on that order alone: the result is the same for any number
    of workers.

    Args:
        problem: Which quantities; the quality is evaluated here, others by their own functions.
        log: Where records are kept and found.
        pool: Who evaluates; by default this process.
        racing: Stop candidates that are surely dominated; ``None`` evaluates all on the whole
            split. A stopped candidate enters the history with its estimate, held within its bound
            so that its rival still dominates it: predictors learn from it, no front ever holds it.

    Raises:
        ValueError: Racing is asked for where another objective is expensive, too: whether a
            candidate is dominated cannot be known then before it is evaluated.
    """

    def __init__(
        self,
        problem: SearchProblem,
        log: EvaluationLog,
        *,
        pool: Pool | None = None,
        racing: Racing | None = None,
    ) -> None:
        self.problem, self.log, self.racing = problem, log, racing
        trained = log.trained
        self.pool = pool or InlinePool(trained, log.caches, log.calibration_samples)
        # One more for each worker, so that none waits while this process writes to disk.
        self._depth = 1 if self.pool.width == 1 else 2 * self.pool.width
        self.total = len(trained.data.split(SPLIT))
        self.maximize = trained.data.shape.task == IMAGES
        self.reused = 0
        self.samples: list[int] = []
        self._place = 0
        self._known = _Known()
        # Stopped candidates of this search by their rows, with the bound that stopped them.
        self.stopped: dict[bytes, Bound] = {}
        names = [o.name for o in problem.objectives if o.expensive]
        others = [n for n in names if n not in QUALITIES]
        if racing is not None and (others or not names):
            raise ValueError(
                "racing compares candidates by one evaluated objective and the known others; "
                + (f"{others[0]!r} is evaluated, too" if others else "nothing is evaluated here")
            )
        self._column = problem.column(names[0]) if names and racing is not None else -1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.close()

    def known(self) -> dict[bytes, dict[str, float]]:
        """What to hand to :func:`search.search` as ``known``.

        With racing nothing: stored records come through :meth:`evaluate_batch`, which stops the
        same candidates as if they were evaluated for the first time.
        """
        return {} if self.racing is not None else self.log.known(SPLIT)

    def evaluate_batch(self, rows: NDArray[np.int16]) -> Mapping[str, NDArray[np.float64]]:
        """Values ``(k,)`` of each expensive quantity of rows ``(k, len(space))``, NaN on failure.

        Raises:
            ValueError: A worker died twice, or cannot open the run.
            OSError: The log could not be written; what it holds is kept.
        """
        columns: dict[str, NDArray[np.float64]] = {}
        for quantity in self.problem.expensive:
            if quantity.name in QUALITIES:
                columns[quantity.name] = self._qualities(rows)
            else:
                columns[quantity.name] = np.asarray(quantity.evaluate(rows), np.float64)
        return columns

    def settled(self, result: SearchResult) -> SearchResult:
        """The result with every stopped candidate finished whose bound reaches the front.

        By construction there is none: the rival of each is in the same history. Should one be
        there all the same, it is evaluated on the whole split before anything is verified.
        """
        history = result.history
        while (index := self._unsettled(history)) is not None:
            row = history.positions[index]
            architecture = self.problem.space.decode(row[None])[0]
            record = self.log.evaluate(architecture, SPLIT)
            values = history.values.copy()
            values[index, self._column] = record.value_or_nan
            history = History(history.names, history.positions, values, history.batches)
            del self.stopped[row.tobytes()]
        if history is result.history:
            return result
        return replace(
            result,
            history=history,
            front=pareto_front(self.problem, history),
            trace=hypervolume_trace(self.problem, history, result.reference),
        )

    @property
    def saved(self) -> float:
        """Share of the validation samples that need not be looked at, of all candidates so far."""
        return saved(self.samples, self.total)

    def _unsettled(self, history: History) -> int | None:
        if not self.stopped:
            return None
        whole = [row.tobytes() not in self.stopped for row in history.positions]
        kept = ~history.failed & (self.problem.violations(history.values) <= 0).all(axis=1)
        points = self.problem.minimised(history.values)
        front = points[kept & np.array(whole)]
        for index in np.flatnonzero(~np.array(whole)):
            bound = self.stopped[history.positions[index].tobytes()]
            best = history.values[index : index + 1].copy()
            best[0, self._column] = bound.high if self.maximize else bound.low
            if not dominated(self.problem.minimised(best)[0], front):
                return int(index)
        return None

    def _qualities(self, rows: NDArray[np.int16]) -> NDArray[np.float64]:
        architectures = self.problem.space.decode(rows)
        cheap = self.problem.cheap_values(rows)
        first, self._place = self._place, self._place + len(rows)
        values = np.full(len(rows), np.nan)
        done = np.zeros(len(rows), dtype=bool)
        flying: dict[Future[Finding], int] = {}
        again: list[int] = []
        started, restarted = 0, False
        while not done.all():
            while len(flying) < self._depth and (again or started < len(rows)):
                index = again[0] if again else started
                if (
                    self.racing is not None
                    and not done[: max(0, index - self.racing.lag + 1)].all()
                ):
                    break
                if again:
                    again.pop(0)
                else:
                    started += 1
                rival = self._rival(first + index, rows[index], cheap[index])
                record = self._stored(architectures[index], rival)
                if record is None:
                    task = self._task(architectures[index], rival)
                    flying[self.pool.submit(task)] = index
                    continue
                self.reused += 1
                values[index] = self._take(first + index, rows[index], cheap[index], record, rival)
                done[index] = True
            finished = wait(flying, return_when=FIRST_COMPLETED).done if flying else set()
            for future in finished:
                index = flying.pop(future)
                try:
                    finding = future.result()
                except ValueError as error:
                    # From a worker: with a trace of another process, but for the user all the same.
                    raise ValueError(str(error)) from error
                except Exception as error:
                    if not _died(error):
                        raise
                    lost = sorted([index, *flying.values()])
                    self._restart([architectures[i] for i in lost], restarted, error)
                    restarted, again, flying = True, [*lost, *again], {}
                    break
                record = self.log.store(architectures[index], SPLIT, finding)
                rival = self._rival(first + index, rows[index], cheap[index])
                values[index] = self._take(first + index, rows[index], cheap[index], record, rival)
                done[index] = True
        return values

    def _restart(self, lost: Sequence[Architecture], restarted: bool, error: Exception) -> None:
        """Begin again once; say what was in flight the second time."""
        if restarted:
            raise ValueError(
                "a worker died twice in one round, probably for lack of memory, while "
                f"{', '.join(a.digest for a in lost)} were evaluated; all that is finished is "
                "kept: run the same command again with fewer workers"
            ) from error
        self.pool.restart()

    def _task(self, architecture: Architecture, rival: EvaluationRecord | None) -> Task:
        return Task(architecture.to_dict(), SPLIT, self.racing, _scores_of(rival))

    def _rival(
        self, place: int, row: NDArray[np.int16], cheap: NDArray[np.float64]
    ) -> EvaluationRecord | None:
        """The record a candidate is raced against: one of the search, ``lag`` places before it."""
        if self.racing is None:
            return None
        known = self._known
        able = [i for i, other in enumerate(known.places) if other <= place - self.racing.lag]
        # Among equals the first of the search, whoever finished first.
        able.sort(key=known.places.__getitem__)
        if not able:
            return None
        others = np.delete(self.problem.minimised(cheap[None])[0], self._column)
        found = best_rival(
            np.array([known.others[i] for i in able]),
            np.array([known.quality[i] for i in able]),
            others,
        )
        return None if found is None else known.records[able[found]]

    def _stored(
        self, architecture: Architecture, rival: EvaluationRecord | None
    ) -> EvaluationRecord | None:
        """A record that makes an evaluation needless."""
        record = self.log.find(architecture, SPLIT)
        if record is None and self.racing is not None:
            partial = self.log.find(architecture, SPLIT, stopped=True)
            if partial is not None and self._bound(partial, rival) is not None:
                return partial
        return record

    def _bound(self, record: EvaluationRecord, rival: EvaluationRecord | None) -> Bound | None:
        """Where the candidate of a record stops against a rival."""
        seen, against = record.unpack_scores(), _scores_of(rival)
        if self.racing is None or seen is None or against is None:
            return None
        return race(seen, self.total, against, self.racing, maximize=self.maximize)

    def _take(
        self,
        place: int,
        row: NDArray[np.int16],
        cheap: NDArray[np.float64],
        record: EvaluationRecord,
        rival: EvaluationRecord | None,
    ) -> float:
        """The value the search sees; remembers the record as a rival for later candidates."""
        bound = self._bound(record, rival)
        if bound is not None:
            self.stopped[row.tobytes()] = bound
            self.samples.append(bound.samples)
            return bound.estimate
        value = record.value_or_nan
        self.samples.append(self.total)
        if self.racing is None:
            return value
        values = cheap.copy()
        values[self._column] = value
        if np.isfinite(values).all() and (self.problem.violations(values[None]) <= 0).all():
            point = self.problem.minimised(values[None])[0]
            self._known.places.append(place)
            self._known.others.append(np.delete(point, self._column))
            self._known.quality.append(float(point[self._column]))
            self._known.records.append(record)
        return value


def open_pool(log: EvaluationLog, *, workers: int = 1, ray: str | None = None) -> Pool:
    """Who evaluates.

    Args:
        log: Of the run and the calibration.
        workers: Processes, or actors of Ray; one evaluates in this process.
        ray: Address of a Ray cluster (``"auto"``, ``"local"`` or ``HOST:PORT``), which must see
            the run directory under the same path; ``None`` for this machine alone.

    Raises:
        ValueError: Fewer than one worker, or no cluster at the address.
        ModuleNotFoundError: Ray is not installed.
    """
    if workers < 1:
        raise ValueError(f"workers = {workers} is impossible; use at least 1")
    trained = log.trained
    run = os.path.abspath(trained.run.path)
    setup = Setup(run, trained.checkpoint.digest, log.calibration_samples, workers)
    if ray is not None:
        return RayPool(setup, ray)
    if workers == 1:
        return InlinePool(trained, log.caches, log.calibration_samples)
    return ProcessPool(setup)


def _scores_of(rival: EvaluationRecord | None) -> NDArray[np.float64] | float | None:
    if rival is None:
        return None
    found = rival.unpack_scores()
    return rival.value_or_nan if found is None else found


def _died(error: Exception) -> bool:
    """Whether a worker ended, rather than an evaluation."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ in (
        "RayActorError", "ActorDiedError", "ActorUnavailableError", "WorkerCrashedError",
        "OutOfMemoryError",
    )  # fmt: skip

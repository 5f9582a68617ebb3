"""One round of evaluations by a pool of workers: begun in order, stored as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.evaluation.in_flight import InFlight
from app.evaluation.log import EvaluationLog
from app.evaluation.pools import WorkerPool
from app.evaluation.round_queue import RoundQueue
from app.evaluation.worker import Finding, Task
from app.records.evaluation import EvaluationRecord
from supernet.space import Architecture


def work_through(
    pool: WorkerPool,
    count: int,
    begin: Callable[[int], tuple[str, Task] | None],
    finish: Callable[[int, Finding], None],
    *,
    lag: int | None = None,
) -> None:
    """Let a pool work through the places of a round.

    Args:
        pool: Who evaluates.
        count: Places in the round.
        begin: Says of a place what its architecture is called in a message and what to evaluate;
            ``None`` where nothing is left to do. Asked again for what was lost with a worker.
        finish: Told what came of a place.
        lag: As for :class:`app.evaluation.round_queue.RoundQueue`.

    Raises:
        InputError: A worker died twice, or cannot open the run.
    """
    # One more for each worker, so that none waits while this process writes to disk.
    queue = RoundQueue(count, depth=1 if pool.width == 1 else 2 * pool.width, lag=lag)
    flying = InFlight(pool)
    while not queue.is_done:
        while (index := queue.take()) is not None:
            begun = begin(index)
            if begun is None:
                queue.finish(index)
            else:
                flying.submit(index, *begun)
        for index, finding in flying.collect():
            if finding is None:
                queue.put_back(index)
                continue
            finish(index, finding)
            queue.finish(index)


def evaluate_together(
    log: EvaluationLog,
    pool: WorkerPool,
    wanted: Sequence[tuple[Architecture, str]],
    count: Callable[[], None],
) -> list[EvaluationRecord]:
    """Look architectures up in a log, and evaluate those that are not in it.

    Every record is in the log as soon as its evaluation is done.

    Args:
        log: Where records are kept and found.
        pool: Who evaluates.
        wanted: Different pairs of an architecture and a whole split.
        count: Called for each as soon as its record is there.

    Returns:
        A record for each of ``wanted``, whoever finished first.

    Raises:
        InputError: A worker died twice or cannot open the run; or further samples are not those
            that earlier records are of.
        OSError: The log could not be written; what it holds is kept.
    """
    for split in dict.fromkeys(split for _, split in wanted):
        log.require_same_samples(split)
    found: dict[int, EvaluationRecord] = {}

    def keep(index: int, record: EvaluationRecord) -> None:
        found[index] = record
        count()

    def begin(index: int) -> tuple[str, Task] | None:
        architecture, split = wanted[index]
        record = log.find(architecture, split)
        if record is None:
            return architecture.digest, Task(architecture.to_dict(), split)
        keep(index, record)
        return None

    def finish(index: int, finding: Finding) -> None:
        keep(index, log.store(*wanted[index], finding))

    work_through(pool, len(wanted), begin, finish)
    return [found[index] for index in range(len(wanted))]

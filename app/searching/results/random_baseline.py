"""Random search beside a search: what its evaluations would have brought without any method."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from app.evaluation.pools import WorkerPool
from app.evaluation.scheduler import WHOLE_ROUND, Evaluator
from app.progress import Say, Step
from app.records.searches.front import Front
from app.records.searches.front_extras import BaselinePoint, BaselineRecord
from app.records.searches.front_files import write_front
from app.records.searches.trace import TraceDigests, read_trace
from app.searching.objectives import Sources
from app.searching.results.free_values import list_values
from search import SearchProblem, SearchResult, search
from search.strategies import random_search

NAME = "random_search"


def add_baseline(
    problem: SearchProblem,
    sources: Sources,
    folder: Path,
    front: Front,
    say: Say,
    pool: WorkerPool | None = None,
) -> Front:
    """Evaluate as many random architectures as a search did, and store their trace and front.

    The hypervolume reference is that of the search, so that both traces can be compared. Its
    evaluations are stored in the same log and cost nothing again.

    Args:
        problem: What was searched for.
        sources: Where evaluations are kept, and what costs come from.
        folder: Folder of the search.
        front: What it found.
        say: Told about progress.
        pool: Who evaluates; by default this process. Closed at the end.

    Returns:
        The front with its ``baseline``, as written.

    Raises:
        OSError: The disk is full; evaluations made so far are kept.
    """
    say(f"baseline: {front.evaluations} random architectures for search {front.search}")
    bounds, count = front.hypervolume.reference, itertools.count(1)
    with Evaluator(problem, sources.log, pool=pool) as evaluator:
        result = search(
            problem,
            random_search.build(),
            evaluations=front.evaluations,
            seed=front.seed,
            known=evaluator.list_known(),
            evaluate_batch=evaluator.evaluate_batch,
            chunk=WHOLE_ROUND,
            reference=np.array([bounds[objective.name] for objective in problem.objectives]),
            on_evaluated=lambda _: say(
                Step("baseline", next(count), front.evaluations, "evaluation")
            ),
        )
    baseline = BaselineRecord(
        strategy=NAME,
        evaluations=len(result.history),
        failed=int(result.history.failed.sum()),
        hypervolume=float(result.trace[-1]),
        front=_list_front(problem, sources, result),
    )
    whole = front.replace(baseline=baseline)
    write_front(folder, whole, _read_own_trace(folder, front), result.trace)
    return whole


def _list_front(
    problem: SearchProblem, sources: Sources, result: SearchResult
) -> tuple[BaselinePoint, ...]:
    found = result.front
    known = list_values(problem, sources, found.positions, found.values)
    return tuple(
        BaselinePoint(digest=architecture.digest, values=values)
        for architecture, values in zip(problem.space.decode(found.positions), known, strict=True)
    )


def _read_own_trace(folder: Path, front: Front) -> list[float | None]:
    """The hypervolume of a search after each evaluation; ``None`` while there was no front."""
    known = {row.evaluations: row.value for row in read_trace(folder, TraceDigests(front.trace))}
    return [known.get(number) for number in range(1, max(known, default=0) + 1)]

"""Random search beside a search: what its evaluations would have brought without any method."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.evaluation.log import EvaluationLog
from app.evaluation.pools import WorkerPool
from app.evaluation.scheduler import WHOLE_ROUND, Evaluator
from app.runs.trained import Say
from app.searching.front_writer import write_front
from search import SearchProblem, search
from search.strategies import random_search

NAME = "random_search"


def add_baseline(
    problem: SearchProblem,
    log: EvaluationLog,
    folder: Path,
    record: Mapping[str, Any],
    say: Say,
    pool: WorkerPool | None = None,
) -> dict[str, Any]:
    """Evaluate as many random architectures as a search did, and store their trace beside its own.

    The hypervolume reference is that of the search, so that both traces can be compared. Its
    evaluations are stored in the same log and cost nothing again.

    Args:
        problem: What was searched for.
        log: Where evaluations are kept.
        folder: Of the search.
        record: Its ``front.json``.
        say: Told about progress.
        pool: Who evaluates; by default this process. Closed at the end.

    Returns:
        The record with an entry ``baseline``, as written.

    Raises:
        OSError: The disk is full; evaluations made so far are kept.
    """
    say(f"baseline: {record['evaluations']} random architectures for search {record['search']}")
    bounds = record["hypervolume"]["reference"]
    with Evaluator(problem, log, pool=pool) as evaluator:
        result = search(
            problem,
            random_search.build(),
            evaluations=record["evaluations"],
            seed=record["seed"],
            known=evaluator.list_known(),
            evaluate_batch=evaluator.evaluate_batch,
            chunk=WHOLE_ROUND,
            reference=np.array([bounds[objective.name] for objective in problem.objectives]),
            progress=lambda now: say(f"baseline: {now.done}/{now.total} evaluations"),
        )
    failed = int(result.history.failed.sum())
    whole = {
        **record,
        "baseline": {
            "strategy": NAME,
            "evaluations": len(result.history),
            "failed": failed,
            "hypervolume": float(result.trace[-1]),
        },
    }
    write_front(folder, whole, read_trace(folder), result.trace)
    return whole


def read_trace(folder: Path) -> NDArray[np.float64]:
    """The hypervolume of a search after each evaluation, ``(n,)``, from its file.

    Raises:
        ValueError: The file is damaged.
    """
    path = folder / "hypervolume.csv"
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        return np.array([float(row["hypervolume"]) for row in rows])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} was damaged; search again with --replace") from None

"""What is known of networks that are no points of a front: evaluated values, and free ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from app.evaluation.scheduler import SPLIT
from app.records.quantities import name_latency
from app.records.searches.front_extras import FailureRecord
from app.searching.objectives import Sources, count_all
from search import History, SearchProblem


def list_values(
    problem: SearchProblem,
    sources: Sources,
    positions: NDArray[np.int16],
    values: NDArray[np.float64],
) -> list[dict[str, float]]:
    """The value of every quantity that is known of networks, by its name.

    Args:
        problem: What was searched for.
        sources: Cost model and latency tables, which know more than was searched for.
        positions: The networks, ``(n, len(space))``.
        values: What a search knows of them, ``(n, number of quantities)``; NaN for a failure.
    """
    devices = tuple(sources.tables)
    columns = {
        **count_all(sources.trained, positions),
        **{name_latency(d, devices): t.latency_ms(positions) for d, t in sources.tables.items()},
        **dict(zip(problem.names, values.T, strict=True)),
    }
    plain = {name: np.asarray(column, np.float64).tolist() for name, column in columns.items()}
    return [
        {name: column[row] for name, column in plain.items() if math.isfinite(column[row])}
        for row in range(len(positions))
    ]


def list_failures(
    problem: SearchProblem, sources: Sources, history: History
) -> tuple[FailureRecord, ...]:
    """The networks of a history that could not be evaluated, with the reasons of the log."""
    rows = np.flatnonzero(history.failed)
    if not len(rows):
        return ()
    positions = history.positions[rows]
    known = list_values(problem, sources, positions, history.values[rows])
    found = []
    for architecture, values in zip(problem.space.decode(positions), known, strict=True):
        record = sources.log.find(architecture, SPLIT)
        reason = "" if record is None else record.failure or ""
        found.append(FailureRecord(digest=architecture.digest, values=values, reason=reason))
    return tuple(found)

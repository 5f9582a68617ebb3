"""Objectives by name: what a search optimises, where the numbers come from, which way is better."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.evaluations import EvaluationLog, number
from app.latency import DeviceTable
from app.trained import Trained
from search import Constraint, Objective, SearchProblem
from supernet.space import nearest

ALIASES = {"latency": "latency_ms", "size": "size_bytes"}
QUALITIES = ("accuracy", "loss")
NAMES = ("accuracy", "loss", "latency", "size", "macs", "parameters")


def resolve(names: Sequence[str], quality: str) -> tuple[str, ...]:
    """Canonical objective names, at least two, each once.

    Args:
        names: As a user writes them; empty for the quality and the latency.
        quality: What this task is judged by.

    Raises:
        ValueError: Unknown name, a name twice, fewer than two, or a quality of another task.
    """
    if not names:
        return quality, "latency_ms"
    found = []
    for name in names:
        if name not in NAMES and name not in ALIASES.values():
            raise ValueError(
                f"unknown objective {name!r}{nearest(name, NAMES)}; objectives are "
                f"{', '.join(NAMES)}"
            )
        if name in QUALITIES and name != quality:
            raise ValueError(f"objective {name!r} does not fit the task; use {quality!r}")
        found.append(ALIASES.get(name, name))
    for name in found:
        if found.count(name) > 1:
            raise ValueError(f"objective {name!r} is listed twice")
    if len(found) < 2:
        raise ValueError(f"a search needs at least two objectives; {found[0]!r} is only one")
    return tuple(found)


def build_problem(
    names: Sequence[str],
    latency_ms: float | None,
    trained: Trained,
    log: EvaluationLog,
    table: DeviceTable | None,
) -> SearchProblem:
    """The search problem of resolved objective names and an optional latency budget.

    Raises:
        ValueError: Latency is asked for without a table, or the budget is not a latency.
    """
    if latency_ms is not None and not (math.isfinite(latency_ms) and latency_ms > 0):
        raise ValueError(f"a latency budget of {latency_ms:g} ms cannot work; it must be above 0")
    objectives = tuple(_objective(name, trained, log, table) for name in names)
    constraints: tuple[Constraint, ...] = ()
    limited: tuple[Objective, ...] = ()
    if latency_ms is not None:
        constraints = (Constraint("latency_ms", at_most=latency_ms),)
        if "latency_ms" not in names:
            limited = (_objective("latency_ms", trained, log, table),)
    return SearchProblem(trained.supernet.space, objectives, constraints, limited)


def _objective(
    name: str, trained: Trained, log: EvaluationLog, table: DeviceTable | None
) -> Objective:
    if name in QUALITIES:
        space = trained.supernet.space

        def evaluate(rows: NDArray[np.int16]) -> NDArray[np.float64]:
            return np.array([number(log.evaluate(a, "val")) for a in space.decode(rows)])

        better = "maximize" if name == "accuracy" else "minimize"
        unit = "fraction" if name == "accuracy" else "nats/token"
        return Objective(name, unit, better, evaluate, "evaluated")
    if name == "latency_ms":
        if table is None:
            raise ValueError("latency needs a profiled device; run the profile command first")
        return Objective(name, "ms", "minimize", table.latency_ms, "table")
    count = {
        "size_bytes": trained.cost_model.size_bytes,
        "macs": trained.cost_model.macs,
        "parameters": trained.cost_model.parameters,
    }[name]
    unit = {"size_bytes": "bytes", "macs": "macs", "parameters": "weights"}[name]
    return Objective(name, unit, "minimize", count, "analytic")

"""Small problems with known fronts, shared by the search tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search import Constraint, Objective, SearchProblem, Strategy, search
from search.arrays.pareto import hypervolume
from supernet.space import Choice, SearchSpace


def line_space(choices: int = 12, values: int = 3) -> SearchSpace:
    """Independent choices of one kind."""
    return SearchSpace(
        tuple(Choice(f"c{i}", tuple(range(values)), "width") for i in range(choices))
    )


def nested_space() -> SearchSpace:
    """Two stages of elastic depth whose later blocks have a width only when they are there."""
    choices = [Choice(f"s{s}.depth", (1, 2, 3), "depth") for s in range(2)]
    for s in range(2):
        for b in range(3):
            needs = None if b == 0 else (f"s{s}.depth", b + 1)
            choices.append(Choice(f"s{s}.b{b}.width", (8, 16, 24), "width", needs))
    return SearchSpace(tuple(choices))


def tradeoff(
    *,
    choices: int = 12,
    cheap: bool = True,
    constraints: tuple[Constraint, ...] = (),
    fail_every: int = 0,
    third: bool = False,
) -> SearchProblem:
    """Gain against cost, both additive: item i costs (i + 1) and gains (i + 1) ** 0.5 a step.

    With additive values the whole front can be computed by :func:`true_front`.
    """
    space = line_space(choices)
    cost_of = 1.0 + np.arange(choices)
    gain_of = np.sqrt(cost_of)

    def cost(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        return 5.0 + rows @ cost_of

    def gain(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        values = rows @ gain_of
        if fail_every:
            values = np.where(rows.sum(1) % fail_every == 0, np.nan, values)
        return values

    objectives = [
        Objective("accuracy", "fraction", "maximize", gain, "evaluated"),
        Objective("latency_ms", "ms", "minimize", cost, "table" if cheap else "measured"),
    ]
    if third:
        objectives.append(
            Objective("size_bytes", "bytes", "minimize", lambda x: 1.0 + (x > 0).sum(1), "analytic")
        )
    return SearchProblem(space, tuple(objectives), constraints)


def true_front(problem: SearchProblem) -> NDArray[np.float64]:
    """All Pareto-optimal (accuracy, latency) pairs of :func:`tradeoff`, by dynamic programming."""
    best: dict[float, float] = {5.0: 0.0}
    for i in range(len(problem.space)):
        cost, gain = 1.0 + i, np.sqrt(1.0 + i)
        grown: dict[float, float] = {}
        for spent, value in best.items():
            for step in range(3):
                key = spent + step * cost
                grown[key] = max(grown.get(key, -np.inf), value + step * gain)
        best = grown
    pairs, top = [], -np.inf
    for spent in sorted(best):
        if best[spent] > top + 1e-12:
            top = best[spent]
            pairs.append((top, spent))
    return np.array(pairs)


def measure_volume(problem: SearchProblem, values: NDArray[np.float64]) -> float:
    """Hypervolume of values ``(n, 2)`` of a trade-off up to no gain at a cost of 300."""
    bound = problem.minimised(np.array([[0.0, 300.0]]))[0]
    return hypervolume(problem.minimised(values), bound)


def measure_volumes(
    problem: SearchProblem, strategy: Strategy, *, evaluations: int, seeds: int
) -> list[float]:
    """Hypervolume that a strategy finds in so many evaluations, for each seed."""
    runs = (search(problem, strategy, evaluations=evaluations, seed=seed) for seed in range(seeds))
    return [measure_volume(problem, run.history.values) for run in runs]


def assert_processes_agree(code: str, names: Sequence[str]) -> None:
    """Fail unless two new processes print the same line for each name that they are given."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == len(names)

"""Children that a search may evaluate: canonical, within the cheap limits and new."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import fresh_rows

_ATTEMPTS = 12


def breed(
    problem: SearchProblem,
    history: History,
    make_children: Callable[[int], NDArray[np.int16]],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """Up to ``count`` distinct admissible children ``(k, len(space))`` that are not in the history.

    Random rows take their place where the surroundings of the parents are used up.

    Args:
        problem: The problem.
        history: What was evaluated.
        make_children: Makes so many children, of which only those that will do are kept.
        count: How many to return.
        rng: Source of randomness.
    """
    rows = np.zeros((0, len(problem.space)), dtype=np.int16)
    for _ in range(_ATTEMPTS):
        made = problem.project(make_children(2 * count))
        rows = history.new(np.concatenate((rows, made[problem.admits(made)])))
        if len(rows) >= count:
            return rows[:count]
    return history.new(np.concatenate((rows, fresh_rows(problem, history, count, rng))))[:count]

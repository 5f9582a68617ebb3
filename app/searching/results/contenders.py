"""Which of many evaluated networks get a posterior: those that may be chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search import History, SearchProblem
from search.arrays.pareto import nondominated

# Covariances of more rows would take too long; those farthest behind are left with their values.
MOST_ROWS = 2000
_BLOCK = 1000


def choose_rows(
    problem: SearchProblem, history: History, name: str, rows: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Choose the rows that are least behind what others reach at no higher costs, ascending.

    Rows beyond a limit on something else than the quality cannot be chosen, and come last.

    Args:
        problem: Of the search.
        history: What it evaluated.
        name: Of the quality.
        rows: Ascending rows of the history; all of them are kept up to :data:`MOST_ROWS`.
    """
    if len(rows) <= MOST_ROWS:
        return rows
    exact = [c.objective != name for c in problem.constraints]
    beyond = (problem.violations(history.values[rows])[:, exact] > 0).any(axis=1)
    values = problem.minimised(history.values[rows])
    within = values if beyond.all() else values[~beyond]
    # Whatever is best at no higher costs is on the front.
    front = within[nondominated(within)]
    column = problem.column(name)
    quality, costs = values[:, column], np.delete(values, column, axis=1)
    reached, spent = front[:, column], np.delete(front, column, axis=1)
    behind = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        affordable = (spent <= costs[part, None]).all(axis=2)
        best = np.where(affordable, reached, np.inf).min(axis=1)
        behind[part] = quality[part] - best
    return np.sort(rows[np.lexsort((behind, beyond))[:MOST_ROWS]])

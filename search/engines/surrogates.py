"""What strategies with predictors share: fitting models, scoring rows, ranking, filling a round."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from search.arrays.neighbourhood import neighbourhood
from search.arrays.pareto import best_first, nondominated
from search.engines.contract import Score
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import fresh_rows
from search.strategy import FitPredictor, Model

Rows = NDArray[np.int16]
LEAST_ROWS = 5
_MOST_EXPANDED, _FEW_EXPANDED = 100, 10


def fit_expensive(
    fit: FitPredictor | None, problem: SearchProblem, history: History, seed: int
) -> dict[str, Model]:
    """A model of every expensive quantity with at least five successful evaluations.

    None at all without ``fit``.
    """
    found: dict[str, Model] = {}
    if fit is None:
        return found
    for quantity in problem.expensive:
        values = history.values[:, problem.column(quantity.name)]
        known = np.isfinite(values)
        if known.sum() >= LEAST_ROWS:
            found[quantity.name] = fit(
                problem.space, history.positions[known], values[known], seed=seed
            )
    return found


def predict_values(
    problem: SearchProblem, models: Mapping[str, Model], rows: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Values ``(n, number of quantities)``: exact where cheap, else the models' means."""
    values = problem.cheap_values(rows)
    for name, model in models.items():
        values[:, problem.column(name)] = model.mean(rows)
    return values


def make_score(problem: SearchProblem, models: Mapping[str, Model]) -> Score:
    """Predicted objectives to minimise and violations, for whole populations."""

    def score(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        values = predict_values(problem, models, rows)
        return problem.minimised(values), problem.violations(values)

    return score


def fill_round(
    problem: SearchProblem,
    history: History,
    rows: NDArray[np.integer],
    count: int,
    rng: np.random.Generator,
) -> Rows:
    """At most ``count`` rows: the new ones of ``rows`` in order, then fresh ones."""
    found = history.new(np.asarray(rows, dtype=np.int16))
    if len(found) < count:
        found = history.new(np.concatenate((found, fresh_rows(problem, history, count, rng))))
    return found[:count]


def front_neighbours(problem: SearchProblem, history: History, rng: np.random.Generator) -> Rows:
    """New admissible rows one change away from the evaluated front, in random order.

    Where nothing lies within the limits yet, the rows that exceed them least stand for the front.
    """
    points, violations = problem.minimised(history.values), problem.violations(history.values)
    order = best_first(points, violations, _MOST_EXPANDED)
    order = order[~history.failed[order]]
    inside = order[(violations[order] <= 0).all(axis=1)]
    front = inside[nondominated(points[inside])] if len(inside) else order[:_FEW_EXPANDED]
    near = history.new(problem.project(neighbourhood(problem.space, history.positions[front])))
    return rng.permutation(near[problem.admits(near)])


def cost_column(problem: SearchProblem) -> int | None:
    """Column of the objective that stands for cost: the first cheap one to be minimised, else the
    last that is minimised; ``None`` where all are maximised."""
    smaller = [i for i, o in enumerate(problem.objectives) if o.direction == "minimize"]
    cheap = [i for i in smaller if not problem.objectives[i].expensive]
    return cheap[0] if cheap else (smaller[-1] if smaller else None)


def relative_size(problem: SearchProblem, rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """A stand-in for cost where none is known: mean relative position of the choices, 0 to 1.

    Inert choices count as absent, so that a deeper network is larger than a shallower one.
    """
    active = problem.space.active(np.asarray(rows))
    share = (np.asarray(rows) + 1.0) / problem.space.cardinalities
    result: NDArray[np.float64] = (share * active).mean(1)
    return result

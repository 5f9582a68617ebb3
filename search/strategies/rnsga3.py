"""R-NSGA-III on real evaluations: survivors gather around the points that a user aspires to."""

from __future__ import annotations

from functools import partial

import numpy as np

from search.engines.algorithms.rnsga3 import build_algorithm
from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Selection,
    replay,
    tournament,
)
from search.engines.tournaments import (
    Points,
    win_by_chance,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy
from supernet.errors import InputError

SUMMARY = "evolution towards preferred values of the objectives (Vesikar, Deb, Blank 2018)"

Aspirations = tuple[tuple[float, ...], ...]


def rebuild(
    problem: SearchProblem,
    seen: Evaluated,
    population: int,
    *,
    aspirations: Aspirations,
    width: float,
) -> Selection:
    """Parents drawn at random from the survivors, feasible ones first."""
    algorithm = build_algorithm(
        population,
        len(problem.objectives),
        aspirations=scale_aspirations(problem, seen, aspirations),
        width=width,
    )
    survivors = replay(algorithm, seen, population).pop
    return tournament(survivors, seen, win_by_chance(survivors))


def scale_aspirations(
    problem: SearchProblem, seen: Evaluated, aspirations: Aspirations
) -> Points | None:
    """The aspiration points on the scale of the evaluated rows, ``(k, m)``; ``None`` for none.

    Raises:
        InputError: A point has not one value for every objective.
    """
    m = len(problem.objectives)
    if not aspirations:
        return None
    for point in aspirations:
        if len(point) != m:
            names = ", ".join(objective.name for objective in problem.objectives)
            raise InputError(
                f"aspiration {point} has {len(point)} values; it needs one each for {names}"
            )
    return (problem.minimised(np.array(aspirations)) - seen.low) / seen.span


def preferring(*aspirations: tuple[float, ...], width: float = 0.1) -> Strategy:
    """A search around preferred values.

    A module of your own with ``def build(fit=None): return preferring((0.76, 20.0))`` is a
    strategy by its dotted path.

    Args:
        aspirations: Points with one value per objective, in the order, units and directions of the
            problem: ``preferring((0.76, 20.0), (0.70, 8.0))``. They need not be attainable.
        width: Size of the neighbourhood of each on the front, as a share of the whole front.

    Raises:
        InputError: ``width`` is not within (0, 1].
    """
    if not 0 < width <= 1:
        raise InputError(f"width is {width}; it must be above 0 and at most 1")
    return Evolution(partial(rebuild, aspirations=aspirations, width=width))


def build(fit: FitPredictor | None = None) -> Strategy:
    """Without a preference, around points spread over the front; ``fit`` is not used."""
    return preferring(width=0.5)

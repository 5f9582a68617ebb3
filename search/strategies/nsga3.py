"""NSGA-III on real evaluations: survivors spread along reference directions."""

from __future__ import annotations

from pymoo.algorithms.moo.nsga3 import NSGA3

from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Selection,
    by_chance,
    directions,
    replay,
    tournament,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution along reference directions, for three and more objectives (Deb, Jain 2014)"


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """Parents drawn at random from the survivors, feasible ones first (Deb and Jain 2014, IV-F)."""
    weights = directions(len(problem.objectives), population)
    algorithm = NSGA3(weights, pop_size=max(population, len(weights)), output=None)
    survivors = replay(algorithm, seen, population).pop
    return tournament(survivors, seen, by_chance)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)

"""NSGA-III on real evaluations: survivors spread along reference directions."""

from __future__ import annotations

from search.engines.algorithms.nsga3 import build_algorithm
from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Selection,
    replay,
    tournament,
)
from search.engines.tournaments import (
    win_by_chance,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution along reference directions, for three and more objectives (Deb, Jain 2014)"


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """Parents drawn at random from the survivors, feasible ones first (Deb and Jain 2014, IV-F)."""
    survivors = replay(build_algorithm(population, len(problem.objectives)), seen, population).pop
    return tournament(survivors, seen, win_by_chance)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)

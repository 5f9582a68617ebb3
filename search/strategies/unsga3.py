"""U-NSGA-III on real evaluations: NSGA-III whose parents compete within their niche."""

from __future__ import annotations

from search.engines.algorithms.unsga3 import build_algorithm
from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Selection,
    replay,
    tournament,
)
from search.engines.tournaments import (
    win_within_niches,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "NSGA-III with parents that compete within a niche, for any number of objectives"


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """Parents compete within their niche."""
    survivors = replay(build_algorithm(population, len(problem.objectives)), seen, population).pop
    return tournament(survivors, seen, win_within_niches(survivors))


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)

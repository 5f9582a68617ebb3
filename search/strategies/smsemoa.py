"""SMS-EMOA on real evaluations: survivors are those that contribute hypervolume."""

from __future__ import annotations

from search.engines.algorithms.smsemoa import build_algorithm
from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Selection,
    replay,
    tournament,
)
from search.engines.tournaments import (
    win_by_dominance,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution that keeps what adds most hypervolume (Beume, Naujoks, Emmerich 2007)"


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """Parents that dominate win, otherwise chance; survival drops the least contribution."""
    survivors = replay(build_algorithm(population, len(problem.objectives)), seen, population).pop
    return tournament(survivors, seen, win_by_dominance(survivors.get("F")))


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)

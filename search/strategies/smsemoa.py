"""SMS-EMOA on real evaluations: survivors are those that contribute hypervolume."""

from __future__ import annotations

from pymoo.algorithms.moo.sms import SMSEMOA

from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Selection,
    dominance,
    replay,
    tournament,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution that keeps what adds most hypervolume (Beume, Naujoks, Emmerich 2007)"


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """Parents that dominate win, otherwise chance; survival drops the least contribution."""
    survivors = replay(SMSEMOA(pop_size=population, output=None), seen, population).pop
    return tournament(survivors, seen, dominance(survivors.get("F")))


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)

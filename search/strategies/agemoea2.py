"""AGE-MOEA-II on real evaluations: survivors follow the estimated shape of the front."""

from __future__ import annotations

from search.engines.algorithms.agemoea2 import build_algorithm
from search.engines.pymoo_replay import replay_evolution
from search.engines.tournaments import win_by_survival_score
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution that models the shape of the front (Panichella 2022); needs numba"


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return replay_evolution(build_algorithm, win_by_survival_score)

"""NSGA-III on real evaluations: survivors spread along reference directions.

Parents are drawn at random from the survivors, feasible ones first (Deb and Jain 2014, IV-F).
"""

from __future__ import annotations

from search.engines.algorithms.nsga3 import build_algorithm
from search.engines.pymoo_replay import replay_evolution
from search.engines.tournaments import win_by_chance
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution along reference directions, for three and more objectives (Deb, Jain 2014)"


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return replay_evolution(build_algorithm, win_by_chance)

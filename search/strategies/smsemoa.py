"""SMS-EMOA on real evaluations: survivors are those that contribute hypervolume.

Parents that dominate win, otherwise chance; survival drops the least contribution.
"""

from __future__ import annotations

from search.engines.algorithms.smsemoa import build_algorithm
from search.engines.pymoo_replay import replay_evolution
from search.engines.tournaments import win_by_dominance
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution that keeps what adds most hypervolume (Beume, Naujoks, Emmerich 2007)"


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return replay_evolution(build_algorithm, win_by_dominance)

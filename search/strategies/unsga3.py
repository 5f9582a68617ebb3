"""U-NSGA-III on real evaluations: NSGA-III whose parents compete within their niche."""

from __future__ import annotations

from search.engines.algorithms.unsga3 import build_algorithm
from search.engines.pymoo_replay import replay_evolution
from search.engines.tournaments import win_within_niches
from search.strategy import FitPredictor, Strategy

SUMMARY = "NSGA-III with parents that compete within a niche, for any number of objectives"


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return replay_evolution(build_algorithm, win_within_niches)

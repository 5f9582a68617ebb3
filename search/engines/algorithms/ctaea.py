"""C-TAEA (Li et al. 2019): an archive that converges and one that explores beyond limits."""

from __future__ import annotations

from pymoo.algorithms.moo.ctaea import CTAEA

from search.engines.reference_directions import spread_directions


def build_algorithm(population: int, objectives: int, **operators: object) -> CTAEA:
    """A new C-TAEA with one survivor for each reference direction, at most ``population``."""
    return CTAEA(spread_directions(objectives, population), output=None, **operators)

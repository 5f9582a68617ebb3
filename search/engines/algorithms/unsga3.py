"""U-NSGA-III (Seada and Deb 2016): NSGA-III whose parents compete within their niche."""

from __future__ import annotations

from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.unsga3 import UNSGA3

from search.engines.reference_directions import build_directed
from search.engines.tournaments import select_parents, win_within_niches


def build_algorithm(population: int, objectives: int, **operators: object) -> NSGA3:
    """A new U-NSGA-III with as many directions as survivors, or the next lower number there is."""
    selection = select_parents(win_within_niches)
    return build_directed(UNSGA3, population, objectives, selection=selection, **operators)

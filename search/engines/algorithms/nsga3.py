"""NSGA-III (Deb and Jain 2014): survivors spread along reference directions."""

from __future__ import annotations

from pymoo.algorithms.moo.nsga3 import NSGA3

from search.engines.reference_directions import build_directed
from search.engines.tournaments import select_parents, win_by_chance


def build_algorithm(population: int, objectives: int, **operators: object) -> NSGA3:
    """A new NSGA-III with as many directions as survivors, or the next lower number there is."""
    selection = select_parents(win_by_chance)
    return build_directed(NSGA3, population, objectives, selection=selection, **operators)

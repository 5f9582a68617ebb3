"""NSGA-III (Deb and Jain 2014): survivors spread along reference directions."""

from __future__ import annotations

from pymoo.algorithms.moo.nsga3 import NSGA3

from search.engines.reference_directions import spread_directions
from search.engines.tournaments import select_parents, win_by_chance


def build_algorithm(population: int, objectives: int, **operators: object) -> NSGA3:
    """A new NSGA-III with as many directions as survivors, or the next lower number there is."""
    weights = spread_directions(objectives, population)
    return NSGA3(
        weights,
        pop_size=max(population, len(weights)),
        selection=select_parents(lambda survivors: win_by_chance),
        output=None,
        **operators,
    )

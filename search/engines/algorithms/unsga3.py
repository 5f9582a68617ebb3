"""U-NSGA-III (Seada and Deb 2016): NSGA-III whose parents compete within their niche."""

from __future__ import annotations

from pymoo.algorithms.moo.unsga3 import UNSGA3

from search.engines.reference_directions import spread_directions
from search.engines.tournaments import select_parents, win_within_niches


def build_algorithm(
    population: int, objectives: int, *, most_directions: int | None = None, **operators: object
) -> UNSGA3:
    """A new U-NSGA-III; by default it has as many directions as survivors, at most."""
    weights = spread_directions(objectives, most_directions or population)
    return UNSGA3(
        weights,
        pop_size=max(population, len(weights)),
        selection=select_parents(win_within_niches),
        output=None,
        **operators,
    )

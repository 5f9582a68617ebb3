"""MOEA/D (Zhang and Li 2007): one scalar problem per weight, neighbours help each other."""

from __future__ import annotations

from pymoo.algorithms.moo.moead import ParallelMOEAD

from search.engines.reference_directions import spread_directions


def build_algorithm(
    population: int, objectives: int, *, eliminate_duplicates: object = None, **operators: object
) -> ParallelMOEAD:
    """A new MOEA/D with one holder for each weight, at most ``population``.

    A generation is made at once. Its children belong to their weights, so that repeats stay.
    """
    weights = spread_directions(objectives, population)
    near = max(3, len(weights) // 4)
    return ParallelMOEAD(weights, n_neighbors=near, output=None, **operators)

"""NSGA-II (Deb et al. 2002): fronts first, then what stands alone within a front."""

from __future__ import annotations

from pymoo.algorithms.moo.nsga2 import NSGA2


def build_algorithm(population: int, objectives: int, **operators: object) -> NSGA2:
    """A new NSGA-II with so many survivors."""
    return NSGA2(pop_size=population, output=None, **operators)

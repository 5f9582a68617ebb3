"""One file per algorithm of pymoo that an engine can be; each offers ``build_algorithm``.

``build_algorithm(population, objectives, **operators)`` returns a new, unused pymoo ``Algorithm``.
The operators are ``sampling``, ``crossover``, ``mutation`` and ``eliminate_duplicates``; a search
on real evaluations, which only replays what happened, leaves them out.
"""

from __future__ import annotations

from typing import Protocol

from pymoo.core.algorithm import Algorithm


class BuildAlgorithm(Protocol):
    """Makes a new algorithm of pymoo."""

    def __call__(self, population: int, objectives: int, **operators: object) -> Algorithm:
        """An unused algorithm with so many survivors and children, for so many objectives."""
        ...

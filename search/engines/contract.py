"""What an evolution on predictions is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from supernet.space import SearchSpace

Rows = NDArray[np.int16]
Score = Callable[[Rows], tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Visited:
    """Every distinct row that an evolution looked at.

    Args:
        positions: ``(n, len(space))``.
        objectives: Predicted values, less is better, ``(n, m)``.
        violations: Relative excess over the limits, ``(n, c)``; at most 0 is feasible.
    """

    positions: Rows
    objectives: NDArray[np.float64]
    violations: NDArray[np.float64]

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Rows that meet all limits, ``(n,)``."""
        return np.asarray((self.violations <= 0).all(axis=1))


class Engine(Protocol):
    """Evolves architectures on predictions, for strategies such as ``predictor_guided``."""

    def __call__(
        self,
        space: SearchSpace,
        score: Score,
        seeds: Rows,
        *,
        population: int,
        generations: int,
        rng: np.random.Generator,
    ) -> Visited:
        """Look for the front of what ``score`` says.

        Args:
            space: Where to search.
            score: Canonical rows ``(n, len(space))`` in; objectives to minimise ``(n, m)`` and
                relative excess over the limits ``(n, c)`` out.
            seeds: Distinct canonical rows to start from, at least one; ``population`` of them at
                most are used.
            population: Survivors of a generation.
            generations: Generations after the first: ``population * (generations + 1)`` rows are
                scored at most.
            rng: The only source of randomness, so that equal generators give equal results.

        Returns:
            Every distinct canonical row that was scored, and its scores.
        """
        ...

"""MatFormer's joint training: the networks of one granularity everywhere, all in every step."""

from __future__ import annotations

from dataclasses import dataclass

from supernet.space import Architecture, SearchSpace
from supernet.supernet import Supernet
from supernet.training.method import Score
from supernet.training.recipe import Recipe

SUMMARY = "Evenly spread granularities, each in all choices at once (MatFormer, joint)"
LARGEST_FIRST = True


@dataclass(frozen=True)
class Granularities:
    """``count`` architectures from the largest to the smallest (Devvrit 2023, section 3.2).

    The granularity of an architecture is the share of the way from the first option of each choice
    to the last one that it has gone.
    """

    space: SearchSpace
    count: int

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """The same in every step; fewer than ``count`` where there are fewer."""
        levels = [i / (self.count - 1) for i in range(self.count)] if self.count > 1 else [1.0]
        return tuple(dict.fromkeys(self._make(level) for level in reversed(levels)))

    def _make(self, level: float) -> Architecture:
        return self.space.architecture(
            {c.name: c.values[round(level * (len(c.values) - 1))] for c in self.space.choices}
        )


def build(supernet: Supernet, recipe: Recipe, steps: int) -> Granularities:
    """Build the sampler of a recipe."""
    return Granularities(supernet.space, recipe.random_architectures)


def count(recipe: Recipe) -> int:
    """Count the architectures of a step."""
    return recipe.random_architectures

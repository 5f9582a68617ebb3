"""The sandwich rule: largest, smallest and random architectures in every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supernet.space import Architecture, SearchSpace
from supernet.supernet import Supernet
from supernet.training.method import Score
from supernet.training.recipe import Recipe
from supernet.training.samplers._order import add_ends

SUMMARY = "Largest, smallest and random architectures in every step"
# Whether every draw begins with the largest architecture, which in-place distillation needs.
LARGEST_FIRST = True


@dataclass(frozen=True)
class Sandwich:
    """The largest, the smallest and ``random`` others, without repeats, largest first.

    The bounds of the space are trained in every step, which lifts everything between them
    (Yu and Huang, "Universally Slimmable Networks", section 3.2).

    Args:
        space: The space to draw from.
        seed: Seed of the random ones.
        random: Number of random architectures.
        smallest_last: The smallest comes after the others, so that it learns from one of them
            where each learns from the one before it.
    """

    space: SearchSpace
    seed: int = 0
    random: int = 2
    smallest_last: bool = False

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """A function of seed and step."""
        rng = np.random.default_rng([self.seed, step])
        others = self.space.decode(self.space.sample(rng, self.random))
        return add_ends(self.space, others, self.smallest_last)


def build(supernet: Supernet, recipe: Recipe, steps: int) -> Sandwich:
    """Build the sampler of a recipe."""
    smallest_last = recipe.distill == "previous"
    return Sandwich(supernet.space, recipe.seed, recipe.random_architectures, smallest_last)


def count(recipe: Recipe) -> int:
    """Count the architectures of a step: both ends and the random ones."""
    return recipe.random_architectures + 2

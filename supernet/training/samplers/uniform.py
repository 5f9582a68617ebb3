"""Uniform sampling: every choice of every architecture at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supernet.space import Architecture, SearchSpace
from supernet.supernet import Supernet
from supernet.training.method import Score
from supernet.training.recipe import Recipe

SUMMARY = "Random architectures, every choice uniform"
LARGEST_FIRST = False


@dataclass(frozen=True)
class Uniform:
    """``count`` random architectures, without repeats (SPOS, section 3.3, with one)."""

    space: SearchSpace
    seed: int = 0
    count: int = 1

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """A function of seed and step."""
        rng = np.random.default_rng([self.seed, step])
        return tuple(dict.fromkeys(self.space.decode(self.space.sample(rng, self.count))))


def build(supernet: Supernet, recipe: Recipe, steps: int) -> Uniform:
    """Build the sampler of a recipe."""
    return Uniform(supernet.space, recipe.seed, recipe.random_architectures)


def count(recipe: Recipe) -> int:
    """Count the architectures of a step."""
    return recipe.random_architectures

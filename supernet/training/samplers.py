"""Which architectures train in a step: plain functions of the space and a generator."""

from __future__ import annotations

import numpy as np

from supernet.space import Architecture, SearchSpace

from .recipe import Recipe


def sandwich(space: SearchSpace, rng: np.random.Generator, random: int) -> tuple[Architecture, ...]:
    """The largest, the smallest and ``random`` others, without repeats, largest first.

    The bounds of the space are trained in every step, which lifts everything between them
    (Yu and Huang, "Universally Slimmable Networks", section 3.2).
    """
    others = space.decode(space.sample(rng, random))
    return tuple(dict.fromkeys((space.largest, space.smallest, *others)))


def uniform(space: SearchSpace, rng: np.random.Generator, random: int) -> tuple[Architecture, ...]:
    """``random`` architectures, every choice uniform, without repeats."""
    return tuple(dict.fromkeys(space.decode(space.sample(rng, random))))


def sample(space: SearchSpace, recipe: Recipe, step: int) -> tuple[Architecture, ...]:
    """The architectures of a step; a pure function of recipe and step, the same on all ranks."""
    rng = np.random.default_rng([recipe.seed, step])
    draw = sandwich if recipe.sampler == "sandwich" else uniform
    return draw(space, rng, recipe.random_architectures)

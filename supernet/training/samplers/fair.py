"""Strict fairness: in every step each option of each choice trains equally often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.space import Architecture, SearchSpace
from supernet.supernet import Supernet
from supernet.training.method import Score
from supernet.training.recipe import Recipe
from supernet.training.samplers._order import list_distinct

SUMMARY = "As many architectures per step as there are options, each option in one of them"
LARGEST_FIRST = False


@dataclass(frozen=True)
class Fair:
    """``m`` architectures per step that together use each of ``m`` options exactly once.

    ``m`` is the largest number of options among the choices that always matter. Every choice goes
    through its options in rounds, each round in an order of its own (FairNAS, section 3.2,
    algorithm 1):

    * a choice with ``m`` options, or a divisor of ``m``, is strictly fair in every step;
    * one with ``c`` other options carries its round on into the next step, so its counts differ by
      one at most and are equal again after ``lcm(c, m) / m`` steps;
    * one that needs another counts whether it matters or not: an option of a block that is absent
      has had its turn, though it does not train. Which architectures lack the block is
      independent of its options.

    The ``m`` architectures always differ: no two share the option of the choice with most.
    """

    space: SearchSpace
    seed: int = 0

    @property
    def paths(self) -> int:
        """Architectures per step, ``m``."""
        return max(len(c.values) for c in self.space.choices if c.needs is None)

    def list_positions(self, step: int) -> NDArray[np.int16]:
        """List options of all choices before inert ones become 0, shape ``(m, len(space))``."""
        result = np.empty((self.paths, len(self.space)), dtype=np.int16)
        for column, choice in enumerate(self.space.choices):
            turns = step * self.paths + np.arange(self.paths)
            rounds, places = np.divmod(turns, len(choice.values))
            orders = {r: self._draw_order(column, r) for r in np.unique(rounds).tolist()}
            pairs = zip(rounds.tolist(), places.tolist(), strict=True)
            result[:, column] = [orders[r][p] for r, p in pairs]
        return result

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """A function of seed and step."""
        return list_distinct(self.space, self.list_positions(step))

    def _draw_order(self, column: int, round: int) -> list[int]:
        options = len(self.space.choices[column].values)
        order: list[int] = (
            np.random.default_rng([self.seed, round, column]).permutation(options).tolist()
        )
        return order


def build(supernet: Supernet, recipe: Recipe, steps: int) -> Fair:
    """Build the sampler of a recipe; ``random_architectures`` plays no part."""
    return Fair(supernet.space, recipe.seed)


def count(recipe: Recipe) -> int:
    """Count the architectures of a step: as many as most choices have options, which is three."""
    return 3

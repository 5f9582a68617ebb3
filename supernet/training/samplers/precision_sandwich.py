"""The sandwich rule over architecture and precision, from many bits to few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supernet.precision.elastic import list_precision_choices
from supernet.space import Architecture, Positions, SearchSpace
from supernet.supernet import Supernet
from supernet.training.method import Score
from supernet.training.recipe import Recipe
from supernet.training.samplers._order import add_ends

SUMMARY = "Largest at the most bits, random ones at random bits, smallest at the fewest"
LARGEST_FIRST = True


@dataclass(frozen=True)
class PrecisionSandwich:
    """The largest at the most bits, ``random`` others by falling bits, the smallest at the fewest.

    Each has as many bits as the one before it or fewer, so that each can learn from that one
    (Xu et al. 2023, "EQ-Net", section 3.3, whose network has one architecture).

    Args:
        space: The space to draw from; without choices of precision it is a plain sandwich.
        seed: Seed of the random ones.
        random: Number of random architectures.
        even: Share of these in which all units have the same precision. Independent units almost
            never agree, and networks of one format are asked for most often.
    """

    space: SearchSpace
    seed: int = 0
    random: int = 1
    even: float = 0.5

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """A function of seed and step."""
        rng = np.random.default_rng([self.seed, step])
        positions = self.space.sample(rng, self.random)
        even = rng.random(self.random) < self.even
        for row, alike in enumerate(even.tolist()):
            # Drawn for every row, so that one row's luck does not move the others'.
            shares = {
                kind: rng.random() for kind in ("precision", "weight_bits", "activation_bits")
            }
            if alike:
                self._make_even(positions[row], shares)
        positions = self.space.canonical(positions)
        order = np.argsort(-self._measure_bits(positions), kind="stable")
        return add_ends(self.space, self.space.decode(positions[order]), smallest_last=True)

    def _make_even(self, positions: Positions, shares: dict[str, float]) -> None:
        for choice in list_precision_choices(self.space):
            share = shares[choice.name.rpartition(".")[2]]
            positions[self.space.index(choice.name)] = int(share * len(choice.values))

    def _measure_bits(self, positions: Positions) -> np.ndarray:
        """How far up the precisions of architectures ``(n, len(space))`` are, 0 to 1, ``(n,)``."""
        columns = [self.space.index(c.name) for c in list_precision_choices(self.space)]
        if not columns:
            return np.zeros(len(positions))
        active = self.space.active(positions)[:, columns]
        highest = np.maximum(self.space.cardinalities[columns] - 1, 1)
        relative = positions[:, columns] / highest
        result: np.ndarray = (relative * active).sum(1) / np.maximum(active.sum(1), 1)
        return result


def build(supernet: Supernet, recipe: Recipe, steps: int) -> PrecisionSandwich:
    """Build the sampler of a recipe."""
    return PrecisionSandwich(supernet.space, recipe.seed, recipe.random_architectures)


def count(recipe: Recipe) -> int:
    """Count the architectures of a step: both ends and the random ones."""
    return recipe.random_architectures + 2

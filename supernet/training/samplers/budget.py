"""Random architectures that are spread evenly over the range of multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supernet.costs.mac_bins import MacBins, cut_into_mac_bins
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training.method import Score
from supernet.training.recipe import Recipe
from supernet.training.samplers._order import list_distinct

SUMMARY = "Random architectures, every bin of multiply-accumulates equally often"
LARGEST_FIRST = False


@dataclass(frozen=True)
class Budget:
    """A bin of MACs at random, then a random architecture inside it, ``count`` times.

    Uniform sampling concentrates on middling costs; this trains cheap and expensive networks as
    often (the released training of SPOS: bins of 10 MFLOPs from 290 to 360). Give
    :func:`cut_into_mac_bins` bounds to train but the range a device can run.
    """

    bins: MacBins
    seed: int = 0
    count: int = 1

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """A function of seed and step; fewer than ``count`` when one is drawn twice."""
        rng = np.random.default_rng([self.seed, step])
        targets = rng.integers(len(self.bins), size=self.count)
        drawn = [self.bins.draw_uniform(rng, int(target), 1) for target in targets]
        return list_distinct(self.bins.space, np.concatenate(drawn))


def build(supernet: Supernet, recipe: Recipe, steps: int) -> Budget:
    """Build the sampler of a recipe; InputError when all architectures cost the same."""
    count = max(1, recipe.random_architectures)
    return Budget(cut_into_mac_bins(supernet.cost_model(), seed=recipe.seed), recipe.seed, count)


def count(recipe: Recipe) -> int:
    """Count the architectures of a step."""
    return recipe.random_architectures

"""Best-up: the sandwich whose random architectures are the best of their cost."""

from __future__ import annotations

from supernet.supernet import Supernet
from supernet.training.mac_bins import mac_bins
from supernet.training.recipe import Recipe

from ._attentive import Attentive

SUMMARY = "Largest, smallest and the best of several random architectures of equal cost"
LARGEST_FIRST = True


def build(supernet: Supernet, recipe: Recipe, steps: int) -> Attentive:
    """The sampler of a recipe; ValueError when all architectures cost the same."""
    return Attentive(
        mac_bins(supernet, bins=20, seed=recipe.seed),
        recipe.seed,
        recipe.random_architectures,
        recipe.candidates,
        best=True,
        smallest_last=recipe.distill == "previous",
    )

"""Best-up: the sandwich whose random architectures are the best of their cost."""

from __future__ import annotations

from supernet.supernet import Supernet
from supernet.training.recipe import Recipe
from supernet.training.samplers._attentive import Attentive, make_attentive

SUMMARY = "Largest, smallest and the best of several random architectures of equal cost"
LARGEST_FIRST = True


def build(supernet: Supernet, recipe: Recipe, steps: int) -> Attentive:
    """Build the sampler of a recipe; InputError when all architectures cost the same."""
    return make_attentive(supernet, recipe, best=True)


def count(recipe: Recipe) -> int:
    """Count the architectures of a step: both ends and the random ones."""
    return recipe.random_architectures + 2

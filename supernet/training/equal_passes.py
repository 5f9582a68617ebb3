"""Recipes whose trainings run equally many forward and backward passes, whatever a step is.

A step that runs four networks on a batch counts as four passes; one that gives each of them its own
part of the batch counts as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import nn

from supernet.data import DataSource
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training.compose import compose
from supernet.training.recipe import Recipe

# Steps at which a sampler is asked how many networks it draws.
_ASKED = 60
_WARMUP_SHARE = 10
# A network alone trains for the passes that it would have in every step of a sandwich of four.
_ALONE_SHARE = 4


def fit_to_passes(recipe: Recipe, supernet: Supernet, data: DataSource, passes: int) -> Recipe:
    """Give a recipe as many steps as a number of passes allows, a tenth of them warm-up.

    Args:
        recipe: Its own steps and warm-up do not matter.
        supernet: What it will train, which decides how many networks a step runs.
        data: What it will be trained on.
        passes: Forward and backward passes of single networks over a batch, at least 1.

    Returns:
        The recipe with a single checkpoint, at its end.

    Raises:
        InputError: The recipe does not suit the supernet.
    """
    base = recipe.replace({"epochs": None, "steps": passes, "warmup_steps": 0})
    # A schedule in phases has other step lengths in each: find the length that uses all passes.
    steps = passes
    for _ in range(4):
        steps = max(1, round(passes / _count_per_step(base, supernet, data, steps)))
    warmup = max(1, steps // _WARMUP_SHARE)
    return base.replace({"steps": steps, "warmup_steps": warmup, "checkpoint_every": steps})


def count_passes(recipe: Recipe, supernet: Supernet, data: DataSource) -> int:
    """Count the forward and backward passes of single networks that a whole training runs.

    Args:
        recipe: How it trains.
        supernet: What it trains.
        data: What it is trained on.

    Raises:
        InputError: The recipe does not suit the supernet.
    """
    steps = recipe.total_steps(data.epoch)
    return max(1, round(steps * _count_per_step(recipe, supernet, data, steps)))


def count_alone_steps(recipe: Recipe, supernet: Supernet, data: DataSource) -> int:
    """Count the steps that a network alone trains for beside its supernet.

    A quarter of the passes of the supernet's training, whatever its steps are: as many as steps of
    a sandwich of four. So the truth about a network is the same for all recipes at equal passes.

    Args:
        recipe: How the supernet trains. A sampler of one's own is not asked, and counts as one that
            draws four.
        supernet: What it trains.
        data: What it is trained on.

    Raises:
        InputError: The recipe does not suit the supernet.
    """
    steps = recipe.total_steps(data.epoch)
    if "." in recipe.sampler:
        return steps
    # Draws that happen to repeat an architecture are meant as full ones.
    full = math.ceil(_count_per_step(recipe, supernet, data, steps))
    return math.ceil(steps * full / _ALONE_SHARE)


def needs_teacher(recipe: Recipe) -> bool:
    """Whether a network from outside teaches; progressive shrinking makes its own."""
    return recipe.distill == "teacher" and recipe.phases == "none"


def _count_per_step(recipe: Recipe, supernet: Supernet, data: DataSource, steps: int) -> float:
    """Mean passes of a step over a training of so many steps."""
    stand_in = nn.Identity() if needs_teacher(recipe) else None
    whole = recipe.replace({"epochs": None, "steps": steps})
    sampler = compose(supernet, data, whole, steps, stand_in).sampler
    if recipe.split:
        return 1.0
    asked = np.linspace(0, steps - 1, _ASKED, dtype=int)
    return float(np.mean([len(sampler.draw(int(step), _no_difference)) for step in asked]))


def _no_difference(architectures: Sequence[Architecture]) -> list[float]:
    return [0.0] * len(architectures)

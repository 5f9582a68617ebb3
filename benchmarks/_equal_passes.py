"""Recipes whose trainings run equally many forward and backward passes, whatever a step is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from supernet.data import DataSource
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import Recipe, compose


def fit_to_passes(recipe: Recipe, supernet: Supernet, data: DataSource, passes: int) -> Recipe:
    """Give a recipe as many steps as a number of passes allows, a tenth of them warm-up.

    A step that runs four networks on a batch counts as four passes; one that gives each of them its
    own part of the batch counts as one.

    Args:
        recipe: Its own steps and warm-up do not matter.
        supernet: What it will train, which decides how many networks a step runs.
        data: What it will be trained on.
        passes: Forward and backward passes of single networks over a batch, at least 1.

    Raises:
        InputError: The recipe does not suit the supernet.
    """
    stand_in = nn.Identity() if needs_teacher(recipe) else None
    base = recipe.replace({"epochs": None, "steps": passes, "warmup_steps": 0})
    # A schedule in phases has other step lengths in each: find the length that uses all passes.
    steps = passes
    for _ in range(4):
        sampler = compose(supernet, data, base.replace({"steps": steps}), steps, stand_in).sampler
        drawn = [
            len(sampler.draw(i, _no_difference)) for i in np.linspace(0, steps - 1, 60, dtype=int)
        ]
        each = 1.0 if base.split else float(np.mean(drawn))
        steps = max(1, round(passes / each))
    warmup = max(1, steps // 10)
    return base.replace({"steps": steps, "warmup_steps": warmup, "checkpoint_every": steps})


def needs_teacher(recipe: Recipe) -> bool:
    """Whether a network from outside teaches; progressive shrinking makes its own."""
    return recipe.distill == "teacher" and recipe.phases == "none"


def _no_difference(architectures: Sequence[Architecture]) -> list[float]:
    return [0.0] * len(architectures)

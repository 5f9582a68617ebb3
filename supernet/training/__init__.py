"""Training supernets: methods, the recipes that compose them, and the loop."""

from __future__ import annotations

from supernet.losses import cross_entropy, kl_divergence
from supernet.training.compose import compose
from supernet.training.guides import Guide, InPlace, Labels, Teacher
from supernet.training.log import Progress
from supernet.training.loop import TrainResult, train
from supernet.training.method import (
    Learns,
    Phases,
    Remembers,
    Rows,
    Sampler,
    Score,
    TrainingMethod,
)
from supernet.training.presets import METHODS, PRESETS, find_recipe
from supernet.training.recipe import Recipe
from supernet.training.samplers.sandwich import Sandwich
from supernet.training.samplers.uniform import Uniform

__all__ = [
    "METHODS",
    "PRESETS",
    "Guide",
    "InPlace",
    "Labels",
    "Learns",
    "Phases",
    "Progress",
    "Recipe",
    "Remembers",
    "Rows",
    "Sampler",
    "Sandwich",
    "Score",
    "Teacher",
    "TrainResult",
    "TrainingMethod",
    "Uniform",
    "compose",
    "cross_entropy",
    "find_recipe",
    "kl_divergence",
    "train",
]

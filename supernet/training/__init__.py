"""Training supernets: methods, the recipes that compose them, and the loop."""

from __future__ import annotations

from supernet.losses import cross_entropy, kl_divergence
from supernet.training.compose import compose
from supernet.training.guides import Guidance, Guide, InPlace, Labels, Teacher
from supernet.training.log import Progress
from supernet.training.loop import TrainResult, train
from supernet.training.method import (
    Learns,
    Penalty,
    Phases,
    Remembers,
    Rows,
    Sampler,
    Score,
    TrainingMethod,
)
from supernet.training.presets import METHODS, PRESETS, find_recipe
from supernet.training.recipe import Recipe
from supernet.training.samplers.precision_sandwich import PrecisionSandwich
from supernet.training.samplers.sandwich import Sandwich
from supernet.training.samplers.uniform import Uniform
from supernet.training.weight_distribution import WeightDistribution

__all__ = [
    "METHODS",
    "PRESETS",
    "Guidance",
    "Guide",
    "InPlace",
    "Labels",
    "Learns",
    "Penalty",
    "Phases",
    "PrecisionSandwich",
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
    "WeightDistribution",
    "compose",
    "cross_entropy",
    "find_recipe",
    "kl_divergence",
    "train",
]

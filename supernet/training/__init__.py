"""Training supernets: strategies, the recipes that compose them, and the loop."""

from __future__ import annotations

from supernet.losses import cross_entropy, kl_divergence
from supernet.training.compose import compose
from supernet.training.guides import Guide, InPlace, Labels, Teacher
from supernet.training.log import Progress
from supernet.training.loop import TrainResult, train
from supernet.training.presets import PRESETS, STRATEGIES, preset
from supernet.training.recipe import Recipe
from supernet.training.samplers.sandwich import Sandwich
from supernet.training.samplers.uniform import Uniform
from supernet.training.strategy import Learns, Phases, Remembers, Rows, Sampler, Score, Strategy

__all__ = [
    "PRESETS",
    "STRATEGIES",
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
    "Strategy",
    "Teacher",
    "TrainResult",
    "Uniform",
    "compose",
    "cross_entropy",
    "kl_divergence",
    "preset",
    "train",
]

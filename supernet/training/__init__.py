"""Training supernets: strategies, the recipes that compose them, and the loop."""

from __future__ import annotations

from .compose import compose
from .guides import Guide, InPlace, Labels, Teacher
from .log import Progress
from .loop import TrainResult, train
from .losses import cross_entropy, kl_divergence
from .presets import PRESETS, STRATEGIES, preset
from .recipe import Recipe
from .samplers.sandwich import Sandwich
from .samplers.uniform import Uniform
from .strategy import Learns, Phases, Remembers, Rows, Sampler, Score, Strategy

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

"""Training supernets: recipes, which architectures train together, losses and the loop."""

from __future__ import annotations

from .log import Progress
from .loop import TrainResult, accumulate, train
from .losses import cross_entropy, distillation, soft_targets
from .recipe import PRESETS, Recipe, preset
from .samplers import sample, sandwich, uniform

__all__ = [
    "PRESETS",
    "Progress",
    "Recipe",
    "TrainResult",
    "accumulate",
    "cross_entropy",
    "distillation",
    "preset",
    "sample",
    "sandwich",
    "soft_targets",
    "train",
    "uniform",
]

"""Synthetic values over a space with inert choices, shared by the predictor tests."""

from __future__ import annotations

import numpy as np

from predictors.features.encoding import one_hot
from supernet.space import Choice, SearchSpace


def space() -> SearchSpace:
    """Four stages of up to three blocks, each with a width; 16 choices."""
    choices = [Choice(f"s{s}.depth", (1, 2, 3), "depth") for s in range(4)]
    for s in range(4):
        for b in range(3):
            needs = None if b == 0 else (f"s{s}.depth", b + 1)
            choices.append(Choice(f"s{s}.b{b}.width", (8, 16, 24, 32), "width", needs))
    return SearchSpace(tuple(choices))


def accuracy(world: SearchSpace, rows: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Saturating, with interactions, as fractions of 1."""
    rng = np.random.default_rng(11)
    features = one_hot(world, rows)
    width = features.shape[1]
    gain = rng.gamma(2.0, 0.5, width)
    pairs = rng.integers(0, width, (40, 2))
    twist = rng.normal(0, 0.4, 40)
    score = features @ gain + (features[:, pairs[:, 0]] * features[:, pairs[:, 1]]) @ twist
    jitter = np.random.default_rng(seed).normal(0, noise, len(rows)) if noise else 0.0
    return 0.95 - 0.3 * np.exp(-score / 8) + jitter


def latency(world: SearchSpace, rows: np.ndarray) -> np.ndarray:
    """Exactly additive, in milliseconds."""
    features = one_hot(world, rows)
    return 1.0 + features @ np.random.default_rng(12).gamma(2.0, 0.1, features.shape[1])

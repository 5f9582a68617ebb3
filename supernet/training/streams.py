"""Streams of randomness that share a recipe's seed and must not share numbers."""

from __future__ import annotations

import numpy as np
import torch

# Architectures are drawn from [seed, step]; these streams have a third entry.
SHUFFLE, AUGMENTATION, DROPOUT, IMPORTANCE = 1, 2, 3, 4


def derive_seed(seed: int, step: int, stream: int, chunk: int = 0) -> int:
    """Derive a 63-bit seed for torch, different for every seed, step, stream and batch part."""
    entries = [seed, step, stream, chunk] if chunk else [seed, step, stream]
    state = np.random.SeedSequence(entries).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def make_generator(seed: int, step: int, stream: int) -> torch.Generator:
    """Make a CPU generator, different for every seed, step and stream."""
    return torch.Generator().manual_seed(derive_seed(seed, step, stream))

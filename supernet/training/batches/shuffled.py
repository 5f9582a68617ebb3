"""Which samples a step sees, and how they are changed: pure functions of seed and step."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from supernet.data import DataSource, augment, lay_channels_last
from supernet.training.recipe import Recipe
from supernet.training.streams import AUGMENTATION, SHUFFLE, make_generator


def prepare_batch(
    data: DataSource,
    recipe: Recipe,
    step: int,
    rows: np.ndarray,
    device: torch.device,
    part: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """Prepare augmented inputs and targets of a step, for given rows of the training split.

    With ``part``, those entries of the batch, as they are in the whole one.
    """
    inputs, targets = data.train.batch(torch.from_numpy(rows[part]), device)
    kind = data.augmentation if recipe.augment == "auto" else recipe.augment
    if kind != "none":
        generator = make_generator(recipe.seed, step, AUGMENTATION)
        inputs = augment(inputs, kind, generator, len(rows), part)
    return lay_channels_last(inputs), targets


def draw_shuffled_rows(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Draw a batch of the endless sequence of shuffled epochs; batches may span two of them.

    Every sample is seen once before any is again.
    """
    rows: list[np.ndarray] = []
    start, end = step * batch_size, (step + 1) * batch_size
    while start < end:
        epoch, offset = divmod(start, count)
        part = _shuffle(count, seed, epoch)[offset : offset + end - start]
        rows.append(part)
        start += len(part)
    return np.concatenate(rows)


@lru_cache(maxsize=2)
def _shuffle(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, SHUFFLE]).permutation(count)

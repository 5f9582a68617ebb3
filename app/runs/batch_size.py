"""Whether the batches that a recipe asks for can be made of some data."""

from __future__ import annotations

from supernet.data import IMAGES, DataSource
from supernet.errors import InputError
from supernet.training import Recipe, distributed


def check_batch(recipe: Recipe, data: DataSource) -> None:
    """ValueError when a step cannot have as many samples, or as few, as the recipe says."""
    if recipe.batch_size > len(data.train):
        raise InputError(
            f"batch_size = {recipe.batch_size} is larger than the training split of {data.spec} "
            f"({len(data.train)} samples); use at most {len(data.train)}"
        )
    if recipe.batch_size < 2 and data.shape.task == IMAGES:
        raise InputError("batch_size = 1 cannot work: batch normalisation needs at least 2 samples")
    ours = recipe.batch_size // distributed.get_world()[1]
    if ours % recipe.micro_batches:
        raise InputError(
            f"{ours} samples cannot be cut into {recipe.micro_batches} equal micro-batches; "
            f"use a batch size that is a multiple of {recipe.micro_batches}"
        )
    if recipe.split and ours < recipe.random_architectures:
        raise InputError(
            f"{ours} samples are too few for {recipe.random_architectures} architectures that each "
            "train on some; use a larger batch"
        )

"""Whether the batches that a recipe asks for can be made of some data."""

from __future__ import annotations

from app.records.numbers import format_items
from supernet.data import DataSource
from supernet.errors import InputError
from supernet.supernet import Supernet
from supernet.training import Recipe, distributed
from supernet.training.division import divide, find_fewest


def check_batch(recipe: Recipe, data: DataSource, supernet: Supernet) -> None:
    """Refuse a recipe whose batch the data cannot fill, or whose parts are too small to train on.

    The parts are those of the processes of ``torchrun``, of micro-batches, and of architectures
    that each train on some samples. All processes say the same.

    Args:
        recipe: How the network will be trained.
        data: What it will be trained on.
        supernet: The network: batch normalisation needs two samples in every part.

    Raises:
        InputError: One sentence with a batch size that works.
    """
    if recipe.batch_size > len(data.train):
        raise InputError(
            f"batch_size = {recipe.batch_size} is larger than the training split of {data.spec} "
            f"({format_items(len(data.train), 'sample')}); use at most {len(data.train)}"
        )
    fewest = find_fewest(supernet)
    most = min(recipe.random_architectures, supernet.space.size)
    architectures = max(1, most) if recipe.split else 1
    parts = max(recipe.micro_batches, architectures)
    share = distributed.take_share(recipe.batch_size, fewest * parts)
    divide(
        share.stop - share.start,
        fewest=fewest,
        micro_batches=recipe.micro_batches,
        architectures=architectures,
    )

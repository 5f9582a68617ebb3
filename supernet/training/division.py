"""How the batch of a step is divided, and whether what is left of it is enough to train on."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.errors import InputError
from supernet.supernet import Supernet
from supernet.training import distributed


def find_fewest(supernet: Supernet) -> int:
    """Find how many samples a network must see at once to train: 2 with batch normalisation.

    The statistics of one image are those of its own pixels, and of no value at all where a layer
    has a single one for each channel, which torch refuses. A window of text has many tokens.
    """
    return 2 if len(supernet.inputs.shape) > 1 and has_batch_statistics(supernet) else 1


def has_batch_statistics(model: nn.Module) -> bool:
    """Say whether some layer normalises by the batch."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def divide(
    samples: int, *, fewest: int = 1, micro_batches: int = 1, architectures: int = 1
) -> list[slice]:
    """Divide the samples of one process into the parts that run one after the other.

    Args:
        samples: What this process has of the batch.
        fewest: Samples a part needs, as :func:`find_fewest` says.
        micro_batches: Equal parts on each of which all architectures train.
        architectures: Architectures each of which trains on a part of its own; parts then differ
            by one sample at most.

    Returns:
        The parts in order, ``micro_batches`` or ``architectures`` of them.

    Raises:
        InputError: The parts cannot be equal, or one would be too small; one sentence with the
            least batch size that works.
    """
    _, processes = distributed.get_world()
    parts = max(micro_batches, architectures)
    smallest = fewest * parts * processes
    if samples % micro_batches:
        raise InputError(
            f"{samples} samples{_name_process(processes)} cannot be cut into {micro_batches} equal "
            f"micro-batches; use a batch size that is a multiple of {parts * processes}, at least "
            f"{smallest}"
        )
    if samples // parts < fewest:
        least = f"use a batch size of at least {smallest}"
        if architectures > 1:
            raise InputError(
                f"{samples} samples{_name_process(processes)} are too few for {architectures} "
                f"architectures that each train on {_name_share(fewest)}; {least}"
            )
        shown = f" in each of {micro_batches} micro-batches" if micro_batches > 1 else ""
        raise InputError(
            f"batch_size = {samples * processes} cannot work: batch normalisation needs at least "
            f"{fewest} samples at once, and here it sees {samples // parts}{shown}"
            f"{_name_process(processes)}; {least}"
        )
    return [
        slice(index * samples // parts, (index + 1) * samples // parts) for index in range(parts)
    ]


def _name_process(processes: int) -> str:
    return f" in each of {processes} processes" if processes > 1 else ""


def _name_share(fewest: int) -> str:
    return "some" if fewest == 1 else f"at least {fewest}"

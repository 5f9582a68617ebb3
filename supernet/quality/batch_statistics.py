"""Normalisation statistics of an extracted subnetwork, estimated anew on training data."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.errors import InputError


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace batch-normalisation statistics by their average over ``batches``; ends in eval mode.

    A supernet's running statistics mix those of all subnetworks and fit none, so every extracted
    network needs this before its accuracy means anything (Yu and Huang, "Universally Slimmable
    Networks", section 3.1). A network without batch normalisation is left as it is.

    Args:
        model: An extracted network, never a supernet; changed in place.
        batches: Training inputs without augmentation, at the network's resolution, each ready for
            ``model(batch)``; best of equal size, since each counts the same.

    Raises:
        InputError: ``batches`` is empty and the network has batch normalisation.
    """
    model.eval()
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        # Without momentum torch keeps the plain average over all batches since the reset.
        layer.momentum = None
        # Only these: dropout and the like stay as in evaluation.
        layer.train()
    count = 0
    with torch.no_grad():
        for batch in batches:
            model(batch)
            count += 1
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    if count == 0:
        raise InputError("recalibration needs at least one batch of training data")

"""Data-free corrections of folded layers: ranges made equal, biases absorbed and corrected.

Nagel et al., "Data-free quantization through weight equalization and bias correction" (2019). Batch
norms must be folded already. What is scaled between two layers passes through their activation
unchanged only if that is positively homogeneous (ReLU, none; not ReLU6, HardSwish or GELU) and
nobody else reads the tensor: which pairs are legal is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.errors import InputError

ROUNDS, TOLERANCE = 100, 1e-3

# Of a range beside the largest of its layer: channels below it are as good as dead.
DEAD = 1e-12


@dataclass(frozen=True)
class FoldedLayer:
    """A convolution or linear layer with its batch norm folded in.

    Attributes:
        weight: ``(out, in / groups, ...)``; the groups follow from the channels it is given.
        bias: ``(out,)``, or none.
    """

    weight: Tensor
    bias: Tensor | None = None


def equalise(
    pairs: Sequence[tuple[FoldedLayer, FoldedLayer]],
    rounds: int = ROUNDS,
    tolerance: float = TOLERANCE,
) -> int:
    """Equalise pairs in turn until no range moves any more, in place.

    Args:
        pairs: Layers that follow one another; one layer may end a pair and begin the next (expand,
            depthwise, project).
        rounds: Most passes over the pairs.
        tolerance: Largest relative change of a channel's scale that counts as none.

    Returns:
        Passes done, the last of which moved nothing unless it is ``rounds``.

    Raises:
        InputError: If the channels of a pair do not fit.
    """
    for done in range(1, rounds + 1):
        moved = max((_moved(equalise_pair(*pair)) for pair in pairs), default=0.0)
        if moved <= tolerance:
            return done
    return rounds


@torch.no_grad()
def equalise_pair(first: FoldedLayer, second: FoldedLayer) -> Tensor:
    """Scale the channels between two layers so that both weights' ranges agree, in place.

    With ``r1`` and ``r2`` the largest magnitudes of a channel in either weight, the first layer is
    multiplied by ``sqrt(r2 / r1)`` and the second divided by it, after which both reach to
    ``sqrt(r1 r2)`` (equations 9 to 11). Channels that are zero on either side stay as they are.

    Args:
        first: Its outputs are scaled, the bias with them.
        second: Its inputs are scaled; grouped and depthwise convolutions too.

    Returns:
        The factors of the first layer's outputs, ``(channels,)``.

    Raises:
        InputError: If the channels do not fit.
    """
    channels = first.weight.shape[0]
    inputs = _by_input(second.weight, channels)
    of_first = first.weight.abs().flatten(1).amax(1)
    of_second = inputs.abs().amax(dim=(1, 3)).flatten()
    alive = (of_first > DEAD * of_first.amax()) & (of_second > DEAD * of_second.amax())
    factors = torch.where(alive, (of_second / of_first).sqrt(), torch.ones_like(of_first))
    first.weight.mul_(_along_outputs(factors, first.weight))
    if first.bias is not None:
        first.bias.mul_(factors)
    scaled = inputs / factors.reshape(inputs.shape[0], 1, -1, 1)
    second.weight.copy_(scaled.reshape(second.weight.shape))
    return factors


def _by_input(weight: Tensor, channels: int) -> Tensor:
    """View a weight as ``(groups, out / group, in / group, kernel)``."""
    outputs, per_group = weight.shape[:2]
    groups, rest = divmod(channels, per_group)
    if rest or not groups or outputs % groups:
        raise InputError(
            f"a weight of shape {tuple(weight.shape)} does not read {channels} channels: "
            "name layers that follow one another"
        )
    return weight.reshape(groups, outputs // groups, per_group, -1)


def _along_outputs(factors: Tensor, weight: Tensor) -> Tensor:
    return factors.reshape(-1, *[1] * (weight.dim() - 1))


def _moved(factors: Tensor) -> float:
    return float((factors - 1).abs().amax())

"""Weight precision as an ordinary choice: fake quantisation as rows of the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from supernet.elastic.edits import Derive, follow
from supernet.space import Choice, Value

FULL_PRECISION_BITS = 32


def fake_quantize(weight: Tensor, values: tuple[Value, ...]) -> Tensor:
    """Round a weight to symmetric signed integers of some bits, per output channel.

    The scale is the largest magnitude of the channel over ``2**(bits - 1) - 1``, recomputed from
    the cut weight, so that it belongs to the subnetwork. Gradients pass straight through the
    rounding (Bengio et al. 2013, section 4; LSQ and EQ-Net use the same estimator).

    Args:
        weight: ``(out, ...)``.
        values: ``(bits,)``; 32 leaves the weight alone.

    Returns:
        The same shape, at most ``2**bits - 1`` levels per output channel.
    """
    bits = int(values[0])
    if bits >= FULL_PRECISION_BITS:
        return weight
    levels = 2 ** (bits - 1) - 1
    with torch.no_grad():
        largest = weight.abs().flatten(1).amax(dim=1)
        scale = torch.where(largest > 0, largest, torch.ones_like(largest)) / levels
        scale = scale.reshape(-1, *([1] * (weight.dim() - 1)))
        rounded = torch.clamp(torch.round(weight / scale), -levels, levels) * scale
    result: Tensor = _StraightThrough.apply(weight, rounded)
    return result


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def quantise_weights(choice: Choice, tensors: Sequence[str]) -> tuple[Derive, ...]:
    """Make rows that store the named weights at the bits of ``choice``."""
    bits = follow(choice, int)
    return tuple(Derive(name, (choice.name,), fake_quantize, bits=bits) for name in tensors)

"""Steps with the least error on values as they are, where training or rounding starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from supernet.quantization.quantizers import (
    GROUP,
    Granularity,
    activation_levels,
    from_levels,
    raise_precision,
    to_levels,
    weight_levels,
)
from supernet.quantization.weights import span_with_zero, split_blocks, spread_levels

# Values of candidates that are rounded together: they stay in the processor's caches.
_NUMBERS_AT_ONCE = 1 << 15


@torch.no_grad()
def fit_step(
    values: Tensor,
    bits: int,
    *,
    p: float = 2.4,
    steps: int = 80,
    axis: int = 0,
    granularity: Granularity = "tensor",
    group: int = GROUP,
    signed: bool = True,
) -> Tensor:
    """Find the step with the least ``sum |quantized - v|**p`` on a grid of clipped ranges.

    EQ-Net (Xu et al., 2023) starts its learned steps so. The grid holds ``1/steps`` to 1 of the
    largest magnitude, evenly.

    Args:
        values: A weight, or a sample of an activation.
        bits: Bits of a level.
        p: Power of the error.
        steps: Points of the grid.
        axis: See :func:`quantize_weight`, with ``granularity`` and ``group``.
        granularity: What shares a step.
        group: Input weights per group.
        signed: Whether levels are a symmetric weight's; otherwise those of an activation.

    Returns:
        Steps, ``()``, ``(out,)`` or ``(out, groups)``; for zeros as if the largest value were 1.
    """
    blocks = split_blocks(raise_precision(values), granularity, axis, group)
    low, high = weight_levels(bits) if signed else activation_levels(bits)
    largest = (blocks.abs() if signed else blocks.clamp(min=0)).amax(-1, keepdim=True)
    span = torch.where(largest > 0, largest, torch.ones_like(largest))
    step, _ = _fit(blocks, torch.zeros_like(span), span, (0, high), (low, high), p, steps)
    return _flat_steps(step, granularity).to(values.dtype)


@torch.no_grad()
def fit_step_and_offset(
    values: Tensor,
    bits: int,
    *,
    p: float = 2.4,
    steps: int = 80,
    axis: int = 0,
    granularity: Granularity = "tensor",
    group: int = GROUP,
    signed: bool = True,
) -> tuple[Tensor, Tensor]:
    """Find step and offset of an asymmetric quantizer as :func:`fit_step`, whose arguments it has.

    Both ends of the range, widened to hold 0, are drawn in by the same share. The offsets are those
    of :func:`learned_zero_point` and stand for whole zero points.
    """
    blocks = split_blocks(raise_precision(values), granularity, axis, group)
    levels = weight_levels(bits, symmetric=False) if signed else activation_levels(bits)
    bottom, top = span_with_zero(blocks)
    step, zero_point = _fit(blocks, bottom, top, levels, levels, p, steps)
    offset = -zero_point * step
    return (
        _flat_steps(step, granularity).to(values.dtype),
        _flat_steps(offset, granularity).to(values.dtype),
    )


def _flat_steps(steps: Tensor, granularity: Granularity) -> Tensor:
    """Bring steps of blocks, ``(channels, groups, 1)``, to their shape in public."""
    return steps.reshape(
        {"tensor": (), "channel": steps.shape[:1], "group": steps.shape[:2]}[granularity]
    )


def _fit(
    blocks: Tensor,
    bottom: Tensor,
    top: Tensor,
    spread: tuple[int, int],
    levels: tuple[int, int],
    p: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Find the share of each range at which the p-error of quantizing to ``levels`` is least.

    ``spread`` are the levels that the range is spread over: the upper half for symmetric ones.
    """
    best = torch.full_like(top, torch.inf)
    best_scale, best_zero_point = spread_levels(bottom, top, spread)
    shares = torch.arange(steps, 0, -1, dtype=top.dtype, device=top.device) / steps
    at_once = max(1, _NUMBERS_AT_ONCE // blocks.numel())
    for part in shares.split(at_once):
        share = part.reshape(-1, 1, 1, 1)
        scale, zero_point = spread_levels(bottom * share, top * share, spread)
        rounded = from_levels(to_levels(blocks, scale, zero_point, *levels), scale, zero_point)
        errors = rounded.sub_(blocks).abs_().pow_(p).sum(-1, keepdim=True)
        # Of equal errors the first is that of the largest share.
        error, place = errors.min(0, keepdim=True)
        better = error[0] < best
        best = torch.where(better, error[0], best)
        best_scale = torch.where(better, scale.gather(0, place)[0], best_scale)
        best_zero_point = torch.where(better, zero_point.gather(0, place)[0], best_zero_point)
    return best_scale, best_zero_point

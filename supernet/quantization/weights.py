"""Weights rounded to integers: what shares a scale, where it comes from, and what is stored."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.quantization.quantizers import (
    FULL_PRECISION_BITS,
    GROUP,
    SMALLEST_STEP,
    Granularity,
    from_levels,
    gradient_scale_of,
    learned_zero_point,
    positive_step,
    put_beside,
    quantize_learned,
    raise_precision,
    to_levels,
    weight_levels,
)


def quantize_weight(
    weight: Tensor,
    bits: int,
    *,
    axis: int = 0,
    granularity: Granularity = "channel",
    group: int = GROUP,
    symmetric: bool = True,
    step: Tensor | None = None,
    offset: Tensor | None = None,
) -> Tensor:
    """Round a weight to integers of some bits and back.

    Without ``step`` the scale is that of the extremes: the largest magnitude over the highest
    level, recomputed from the weight as it is (cut to a subnetwork), and the gradient passes
    straight through. A block of zeros is treated as if its largest magnitude were 1. Symmetric
    groups use the lowest level, too: the entry of the largest magnitude is that level, by a scale
    that is negative where the entry is positive (as ONNX Runtime's own block quantizer does), which
    makes steps of 4 bits an eighth smaller.

    Args:
        weight: ``(out, ...)``, or with the output channels at ``axis``.
        bits: 2 to 8; from 32 on the weight is returned as it is.
        axis: Dimension of the output channels.
        granularity: What shares a scale: the tensor, an output channel, or a group of consecutive
            input weights of an output channel.
        group: Input weights per group, counted over all dimensions but the output channels'.
        symmetric: Whether the zero point is 0.
        step: Learned steps, ``()``, ``(out,)`` or ``(out, groups)`` by granularity; they get the
            gradients of :func:`quantize_learned`.
        offset: Learned offsets of an asymmetric weight, of the shape of ``step``.

    Returns:
        The shape and dtype of ``weight``.

    Raises:
        InputError: If the group does not divide the inputs, or for 1 bit.
    """
    if bits >= FULL_PRECISION_BITS:
        return weight
    blocks = split_blocks(raise_precision(weight), granularity, axis, group)
    low, high = weight_levels(bits, symmetric)
    if step is None:
        scale, zero_point, low = _extreme_scale(blocks.detach(), low, high, symmetric, granularity)
        levels = to_levels(blocks.detach(), scale, zero_point, low, high)
        quantized: Tensor = from_levels(levels, scale, zero_point)
        if torch.is_grad_enabled():
            quantized = _StraightThrough.apply(blocks, quantized)
    else:
        step, zero_point = _learned_scale(blocks, step, offset, low, high)
        factor = gradient_scale_of(blocks.shape[-1], high)
        quantized = quantize_learned(blocks, step, zero_point, low, high, factor)
    return _unblock(quantized, weight.shape, axis).to(weight.dtype)


class IntegerWeight(NamedTuple):
    """A weight as it is stored.

    Attributes:
        values: int8, of the weight's shape.
        scale: ``()`` per tensor, ``(out,)`` per channel, ``(out, groups)`` per group; those of
            symmetric groups may be negative.
        zero_point: int8, of the shape of ``scale``.
    """

    values: Tensor
    scale: Tensor
    zero_point: Tensor


@torch.no_grad()
def integer_weight(
    weight: Tensor,
    bits: int,
    *,
    axis: int = 0,
    granularity: Granularity = "channel",
    group: int = GROUP,
    symmetric: bool = True,
    step: Tensor | None = None,
    offset: Tensor | None = None,
) -> IntegerWeight:
    """Compute the integers behind :func:`quantize_weight`, whose arguments it shares.

    ``(values - zero_point) * scale`` (:func:`dequantize_weight`) equals the fake-quantized weight
    bit for bit. At 4 bits and groups it is what a block-wise int4 DequantizeLinear and MatMulNBits
    hold, transposed.

    Raises:
        InputError: If the group does not divide the inputs, or the bits are not those of an int8.
    """
    if not 2 <= bits <= 8:
        raise InputError(f"weights of {bits} bits are not stored as integers: 2 to 8 are")
    blocks = split_blocks(raise_precision(weight), granularity, axis, group)
    low, high = weight_levels(bits, symmetric)
    scale, zero_point, low = _find_scale(blocks, low, high, symmetric, granularity, step, offset)
    levels = to_levels(blocks, scale, zero_point, low, high).to(torch.int8)
    shape = {"tensor": (), "channel": blocks.shape[:1], "group": blocks.shape[:2]}[granularity]
    return IntegerWeight(
        _unblock(levels, weight.shape, axis),
        scale.reshape(shape),
        zero_point.to(torch.int8).expand(scale.shape).reshape(shape),
    )


@torch.no_grad()
def find_weight_scale(
    weight: Tensor,
    bits: int,
    *,
    granularity: Granularity = "channel",
    symmetric: bool = True,
    step: Tensor | None = None,
) -> Tensor:
    """Compute the scales of :func:`integer_weight` alone, ``()`` or ``(out,)``.

    Raises:
        InputError: If no two levels are left (one bit).
    """
    blocks = split_blocks(raise_precision(weight), granularity, 0, GROUP)
    levels = weight_levels(bits, symmetric)
    scale, _, _ = _find_scale(blocks, *levels, symmetric, granularity, step, None)
    return scale.reshape(() if granularity == "tensor" else blocks.shape[:1])


def dequantize_weight(weight: IntegerWeight, axis: int = 0) -> Tensor:
    """Turn a stored weight back into the values it stands for.

    Args:
        weight: As stored; the granularity follows from the shape of its scale.
        axis: Dimension of the output channels.

    Returns:
        The shape of the integers in the dtype of the scale.
    """
    granularity: Granularity = ("tensor", "channel", "group")[weight.scale.dim()]
    rows = weight.values.movedim(axis, 0).flatten(1)
    group = rows.shape[1] // weight.scale.shape[1] if granularity == "group" else GROUP
    blocks = split_blocks(weight.values, granularity, axis, group)
    shape = (*blocks.shape[:2], 1)
    zero_point = weight.zero_point.to(weight.scale.dtype).reshape(shape)
    values = from_levels(blocks.to(weight.scale.dtype), weight.scale.reshape(shape), zero_point)
    return _unblock(values, weight.values.shape, axis)


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def split_blocks(weight: Tensor, granularity: Granularity, axis: int, group: int) -> Tensor:
    """Arrange values as ``(channels, groups, values that share a scale)``."""
    if granularity == "tensor":
        return (
            weight.movedim(axis, 0).reshape(1, 1, -1) if weight.dim() else weight.reshape(1, 1, 1)
        )
    rows = weight.movedim(axis, 0)
    rows = rows.reshape(rows.shape[0], -1)
    if granularity == "channel":
        return rows.unsqueeze(1)
    outputs, inputs = rows.shape
    if group < 1 or inputs % group:
        raise InputError(
            f"a layer of {outputs} outputs has {inputs} weights per output, which groups of "
            f"{group} do not divide: choose a size that divides {inputs}, or one scale per channel"
        )
    return rows.unflatten(1, (-1, group))


def _unblock(blocks: Tensor, shape: torch.Size, axis: int) -> Tensor:
    axis %= len(shape)
    moved = (shape[axis], *(size for dim, size in enumerate(shape) if dim != axis))
    return blocks.reshape(moved).movedim(0, axis)


def span_with_zero(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Give the extremes of each block, widened to hold 0 and to be apart."""
    bottom = blocks.amin(-1, keepdim=True).clamp(max=0)
    top = blocks.amax(-1, keepdim=True).clamp(min=0)
    return bottom, torch.where(top > bottom, top, torch.ones_like(top))


def spread_levels(bottom: Tensor, top: Tensor, levels: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Give the scale and the whole zero point that spread the levels over a range around 0."""
    low, high = levels
    # A tensor as divisor: by a number, a GPU would multiply by its inverse.
    scale = ((top - bottom) / torch.full_like(top, high - low)).clamp(min=SMALLEST_STEP)
    return scale, (low - torch.round(bottom / scale)).clamp(low, high)


def _find_scale(
    blocks: Tensor,
    low: int,
    high: int,
    symmetric: bool,
    granularity: Granularity,
    step: Tensor | None,
    offset: Tensor | None,
) -> tuple[Tensor, Tensor, int]:
    """Give scale, zero point and lowest level as weights are stored, which have no gradient."""
    if step is None:
        return _extreme_scale(blocks, low, high, symmetric, granularity)
    scale, zero_point = _learned_scale(blocks, step, offset, low, high)
    return positive_step(scale), zero_point, low


def _extreme_scale(
    blocks: Tensor, low: int, high: int, symmetric: bool, granularity: Granularity
) -> tuple[Tensor, Tensor, int]:
    """Give scale, zero point and lowest level that follow from the extremes of each block."""
    if not symmetric:
        return *spread_levels(*span_with_zero(blocks), (low, high)), low
    if granularity == "group":
        return *_signed_scale(blocks, low - 1), low - 1
    largest = blocks.abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return *spread_levels(torch.zeros_like(largest), largest, (0, high)), low


def _signed_scale(blocks: Tensor, low: int) -> tuple[Tensor, Tensor]:
    """Give the scale at which the entry of the largest magnitude is the lowest level, and 0."""
    extreme = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    extreme = torch.where(extreme == 0, torch.full_like(extreme, -1), extreme)
    # The divisor is a power of two, so that the quotient is exact.
    scale = extreme / torch.full_like(extreme, low)
    tiny = scale.sign() * SMALLEST_STEP
    return torch.where(scale.abs() < SMALLEST_STEP, tiny, scale), torch.zeros_like(scale)


def _learned_scale(
    blocks: Tensor, step: Tensor, offset: Tensor | None, low: int, high: int
) -> tuple[Tensor, Tensor]:
    """Give step and zero point in the shape of blocks, ``(channels, groups, 1)``."""
    shape = (*blocks.shape[:2], 1)
    step = put_beside(blocks, step).reshape(shape)
    if offset is None:
        return step, torch.zeros_like(step)
    return step, learned_zero_point(put_beside(blocks, offset).reshape(shape), step, low, high)

"""Uniform quantizers: what ONNX's QuantizeLinear and DequantizeLinear compute, with gradients.

Values are divided by the scale and rounded half to even, as the runtime does it; a product with the
inverse would differ in the last bit and now and then by a whole level. Everything keeps its dtype;
below float32 the arithmetic is float32. Gradients pass straight through the rounding (Bengio et
al., "Estimating or propagating gradients through stochastic neurons", 2013).
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from supernet.errors import InputError

Granularity = Literal["tensor", "channel", "group"]

FULL_PRECISION_BITS = 32

# Far below any step that matters, and far above where a quotient would overflow float32.
SMALLEST_STEP = 2.0**-100

GROUP = 32


def activation_levels(bits: int) -> tuple[int, int]:
    """Give the lowest and highest level of an activation, which is stored unsigned."""
    return 0, 2**bits - 1


def weight_levels(bits: int, symmetric: bool = True) -> tuple[int, int]:
    """Give the lowest and highest level of a weight, which is stored signed.

    Symmetric levels leave the lowest integer out, so that a negative factor of a channel (a batch
    norm's) can be folded into its weights. (Groups use it, with a scale that has a sign: see
    :func:`quantize_weight`.)

    Raises:
        InputError: If no two levels are left (one bit).
    """
    if bits < 2:
        raise InputError(
            f"a weight of {bits} bit has no uniform levels around 0: use 2 bits and more, or "
            "XNOR weights for 1 bit"
        )
    high = 2 ** (bits - 1) - 1
    return (-high if symmetric else -high - 1), high


def to_levels(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    """Compute ``clamp(round(x / scale) + zero_point, low, high)``, ONNX's QuantizeLinear.

    Args:
        x: Values, of any shape.
        scale: Positive, broadcastable to ``x``, of its dtype and on its device.
        zero_point: Level of 0, likewise.
        low: Lowest level.
        high: Highest level.

    Returns:
        Whole numbers in the dtype and shape of ``x``.
    """
    return (x / scale).round_().add_(zero_point).clamp_(low, high)


def from_levels(levels: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Compute ``(levels - zero_point) * scale``, ONNX's DequantizeLinear."""
    return (levels - zero_point) * scale


def quantize_affine(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    """Round to levels and back, with fixed scale and zero point.

    The gradient is 1 where the nearest level exists and 0 where the value is clipped.

    Args:
        x: Values, of any shape.
        scale: Positive, broadcastable to ``x`` (usually a scalar); no gradient reaches it.
        zero_point: Whole number, the level of 0; any dtype.
        low: Lowest level.
        high: Highest level.

    Returns:
        The shape and dtype of ``x``.
    """
    precise = _precise(x)
    scale, zero_point = _beside(precise, scale), _beside(precise, zero_point)
    result: Tensor = _Affine.apply(precise, scale, zero_point, low, high)
    return result.to(x.dtype)


def quantize_learned(
    x: Tensor, step: Tensor, zero_point: Tensor, low: int, high: int, gradient_scale: float
) -> Tensor:
    """Round to levels and back as :func:`quantize_affine`, with gradients for the quantizer too.

    With ``v = x / step`` the gradient of the step is ``round(v) - v`` where ``v + zero_point`` lies
    within the levels (ends included) and the clipped level less the zero point outside (Esser et
    al., "Learned step size quantization", 2020, equation 3). The zero point has the gradient
    ``-step`` where values are clipped; taken from :func:`learned_zero_point`, it brings the
    gradients of LSQ+ (Bhalgat et al., 2020, section 3.1) to step and offset.

    Args:
        x: Values, of any shape.
        step: Broadcastable to ``x``; its magnitude is the scale (see :func:`positive_step`).
        zero_point: Whole number, the level of 0, broadcastable to ``x``: a constant, or what
            :func:`learned_zero_point` returns.
        low: Lowest level.
        high: Highest level.
        gradient_scale: Factor of the quantizer's own gradients, see :func:`gradient_scale_of`.

    Returns:
        The shape and dtype of ``x``.
    """
    precise = _precise(x)
    scale, zero_point = _beside(precise, positive_step(step)), _beside(precise, zero_point)
    result: Tensor = _Learned.apply(precise, scale, zero_point, low, high, gradient_scale)
    return result.to(x.dtype)


def positive_step(step: Tensor) -> Tensor:
    """Turn a learned step into the scale it stands for: its magnitude, never quite 0.

    An optimiser may carry a step past 0. The magnitude turns it round, and its gradient survives at
    the smallest value, which a clamp would make a trap.
    """
    fixed = step.detach()
    floor = torch.full_like(fixed, SMALLEST_STEP)
    return torch.where(fixed.abs() < SMALLEST_STEP, floor + (step - fixed), step.abs())


def limited_step(step: Tensor, most: float) -> Tensor:
    """Let a learned step be no larger than its quantizer may reach.

    Args:
        step: Positive, of any shape.
        most: The largest step.

    Returns:
        ``min(step, most)``. Beyond it only gradients pass whose descent leads back, so that a step
        that an optimiser has carried there is not trapped.
    """
    result: Tensor = _NoMore.apply(step, most)
    return result


def learned_zero_point(offset: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Compute the whole zero point of a learned offset, ``clamp(round(-offset / step))``.

    LSQ+ learns a real offset, the value of level 0. Runtimes store a whole zero point, which keeps
    0 exact (padding, ReLU); so does this one, and what is trained is what is stored. An offset has
    the unit of the values and so goes well with the learning rate of the step, which a zero point,
    counted in levels, does not.

    Args:
        offset: Value of the level 0, learned.
        step: Learned step, see :func:`positive_step`.
        low: Lowest level.
        high: Highest level.

    Returns:
        Whole numbers from ``low`` to ``high``, with straight-through gradients for both. Beyond the
        levels only gradients pass whose descent leads back.
    """
    position = -offset / positive_step(step)
    result: Tensor = _WholeWithin.apply(position, low, high)
    return result


def gradient_scale_of(count: int, high: int) -> float:
    """Give LSQ's factor ``1 / sqrt(count * high)`` of a step's gradient (section 2.2).

    Args:
        count: Values that share the step: the weights of a channel, the features of an activation.
        high: Highest level, above the zero point.
    """
    return 1 / math.sqrt(count * high)


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
    blocks = _blocks(_precise(weight), granularity, axis, group)
    low, high = weight_levels(bits, symmetric)
    if step is None:
        scale, zero_point, low = _extreme_scale(blocks.detach(), low, high, symmetric, granularity)
        levels = to_levels(blocks.detach(), scale, zero_point, low, high)
        quantized: Tensor = _StraightThrough.apply(blocks, from_levels(levels, scale, zero_point))
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
    blocks = _blocks(_precise(weight), granularity, axis, group)
    low, high = weight_levels(bits, symmetric)
    if step is None:
        scale, zero_point, low = _extreme_scale(blocks, low, high, symmetric, granularity)
    else:
        scale, zero_point = _learned_scale(blocks, step, offset, low, high)
        scale = positive_step(scale)
    levels = to_levels(blocks, scale, zero_point, low, high).to(torch.int8)
    shape = {"tensor": (), "channel": blocks.shape[:1], "group": blocks.shape[:2]}[granularity]
    return IntegerWeight(
        _unblock(levels, weight.shape, axis),
        scale.reshape(shape),
        zero_point.to(torch.int8).expand(scale.shape).reshape(shape),
    )


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
    blocks = _blocks(weight.values, granularity, axis, group)
    shape = (*blocks.shape[:2], 1)
    zero_point = weight.zero_point.to(weight.scale.dtype).reshape(shape)
    values = from_levels(blocks.to(weight.scale.dtype), weight.scale.reshape(shape), zero_point)
    return _unblock(values, weight.values.shape, axis)


@torch.no_grad()
def initial_step(
    values: Tensor,
    bits: int,
    *,
    axis: int = 0,
    granularity: Granularity = "tensor",
    group: int = GROUP,
    signed: bool = True,
) -> Tensor:
    """Give the step at which LSQ starts, ``2 mean|v| / sqrt(high)`` (Esser et al., section 2.1).

    Args:
        values: A weight, or a sample of an activation.
        bits: Bits of a level.
        axis: See :func:`quantize_weight`, with ``granularity`` and ``group``.
        granularity: What shares a step.
        group: Input weights per group.
        signed: Whether levels are a symmetric weight's; otherwise those of an activation.

    Returns:
        Steps, ``()``, ``(out,)`` or ``(out, groups)``; for zeros as if the largest value were 1.
    """
    blocks = _blocks(_precise(values), granularity, axis, group)
    _, high = weight_levels(bits) if signed else activation_levels(bits)
    step = 2 * blocks.abs().mean(-1, keepdim=True) / math.sqrt(high)
    return _flat_steps(_usable(step, 1 / high), granularity).to(values.dtype)


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
    blocks = _blocks(_precise(values), granularity, axis, group)
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
    blocks = _blocks(_precise(values), granularity, axis, group)
    levels = weight_levels(bits, symmetric=False) if signed else activation_levels(bits)
    bottom, top = _span_with_zero(blocks)
    step, zero_point = _fit(blocks, bottom, top, levels, levels, p, steps)
    offset = -zero_point * step
    return (
        _flat_steps(step, granularity).to(values.dtype),
        _flat_steps(offset, granularity).to(values.dtype),
    )


def dorefa_weight(weight: Tensor, bits: int) -> Tensor:
    """Quantize a weight to ``[-1, 1]`` (Zhou et al., "DoReFa-Net", 2016, equations 9 and 10).

    ``2 q(tanh(w) / (2 max|tanh w|) + 1/2) - 1``, at one bit ``sign(w) mean|w|``. The weight's scale
    is lost, so that a batch norm must follow; the rounding's gradient passes straight through, at
    one bit that of the whole function.

    Args:
        weight: Of any shape.
        bits: 1 to 8; from 32 on the weight is returned as it is.
    """
    if bits >= FULL_PRECISION_BITS:
        return weight
    if bits == 1:
        with torch.no_grad():
            value = _sign(weight) * weight.abs().mean()
        binary: Tensor = _StraightThrough.apply(weight, value)
        return binary
    bounded = torch.tanh(weight)
    largest = bounded.abs().amax().clamp(min=SMALLEST_STEP)
    return 2 * _round_unit(bounded / (2 * largest) + 0.5, bits) - 1


def dorefa_activation(x: Tensor, bits: int) -> Tensor:
    """Quantize an activation to ``2**bits`` levels of ``[0, 1]`` (Zhou et al., 2016, section 2.4).

    The gradient is 1 within ``[0, 1]`` and 0 outside.
    """
    if bits >= FULL_PRECISION_BITS:
        return x
    return _round_unit(x.clamp(0, 1), bits)


def xnor_weight(weight: Tensor, axis: int = 0) -> Tensor:
    """Quantize a weight to one bit: ``sign(w)`` times its channel's mean magnitude.

    Rastegari et al., "XNOR-Net", 2016, section 3.1. The sign's gradient is that of ``w`` clipped to
    ``[-1, 1]`` (Hubara et al., 2016); the mean magnitude is differentiated as it is. The sign of 0
    is 1, so that a channel has two values at most.

    Args:
        weight: ``(out, ...)``, or with the output channels at ``axis``.
        axis: Dimension of the output channels.
    """
    others = [dim for dim in range(weight.dim()) if dim != axis % weight.dim()]
    magnitude = weight.abs().mean(dim=others, keepdim=True)
    clipped = weight.clamp(-1, 1)
    sign: Tensor = _StraightThrough.apply(clipped, _sign(weight.detach()))
    return sign * magnitude


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


class _WholeWithin(torch.autograd.Function):
    """``clamp(round(x), low, high)``; outside, only gradients pass whose descent leads back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return torch.round(x).clamp(low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        leaves = ((x < ctx.low) & (gradient > 0)) | ((x > ctx.high) & (gradient < 0))
        return gradient.masked_fill(leaves, 0), None, None


class _NoMore(torch.autograd.Function):
    """``min(x, most)``; beyond it, only gradients pass whose descent leads back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, most: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.most = most
        return x.clamp(max=most)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return gradient.masked_fill((x > ctx.most) & (gradient < 0), 0), None


class _Affine(torch.autograd.Function):
    """Quantize and dequantize; what is kept for the gradient is one mask."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int
    ) -> Tensor:
        levels = (x / scale).round_().add_(zero_point)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((levels >= low) & (levels <= high))
        return levels.clamp_(low, high).sub_(zero_point).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (inside,) = ctx.saved_tensors
        return torch.where(inside, gradient, 0), None, None, None, None


class _Learned(torch.autograd.Function):
    """Quantize and dequantize, with LSQ's gradients for scale and zero point."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        low: int,
        high: int,
        gradient_scale: float,
    ) -> Tensor:
        position = x / scale
        inside = (position >= low - zero_point) & (position <= high - zero_point)
        levels = position.round_().add_(zero_point).clamp_(low, high)
        y = levels.sub_(zero_point).mul_(scale)
        ctx.save_for_backward(x, y, inside, scale, zero_point)
        ctx.gradient_scale = gradient_scale
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, y, inside, scale, zero_point = ctx.saved_tensors
        of_x = torch.where(inside, gradient, 0)
        of_scale = of_zero_point = None
        if ctx.needs_input_grad[1]:
            # Inside, (y - x) / scale is round(v) - v; outside, y / scale is the clipped level.
            slopes = (gradient * y).sub_(of_x * x).sum_to_size(scale.shape)
            of_scale = slopes * ctx.gradient_scale / scale
        if ctx.needs_input_grad[2]:
            outside = (of_x - gradient).mul_(scale).sum_to_size(zero_point.shape)
            of_zero_point = outside * ctx.gradient_scale
        return of_x, of_scale, of_zero_point, None, None, None


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _beside(x: Tensor, parameter: Tensor) -> Tensor:
    # On a GPU, torch multiplies by the inverse of a divisor that lives on the host.
    return parameter.to(device=x.device, dtype=x.dtype)


def _blocks(weight: Tensor, granularity: Granularity, axis: int, group: int) -> Tensor:
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


def _flat_steps(steps: Tensor, granularity: Granularity) -> Tensor:
    """Bring steps of blocks, ``(channels, groups, 1)``, to their shape in public."""
    return steps.reshape(
        {"tensor": (), "channel": steps.shape[:1], "group": steps.shape[:2]}[granularity]
    )


def _usable(step: Tensor, otherwise: float) -> Tensor:
    """Put another step where there is none (zeros), and none below the smallest."""
    return torch.where(step > 0, step, otherwise).clamp(min=SMALLEST_STEP)


def _span_with_zero(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Give the extremes of each block, widened to hold 0 and to be apart."""
    bottom = blocks.amin(-1, keepdim=True).clamp(max=0)
    top = blocks.amax(-1, keepdim=True).clamp(min=0)
    return bottom, torch.where(top > bottom, top, torch.ones_like(top))


def _affine_of_span(bottom: Tensor, top: Tensor, levels: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Give the scale and the whole zero point that spread the levels over a range around 0."""
    low, high = levels
    # A tensor as divisor: by a number, a GPU would multiply by its inverse.
    scale = ((top - bottom) / torch.full_like(top, high - low)).clamp(min=SMALLEST_STEP)
    return scale, (low - torch.round(bottom / scale)).clamp(low, high)


def _extreme_scale(
    blocks: Tensor, low: int, high: int, symmetric: bool, granularity: Granularity
) -> tuple[Tensor, Tensor, int]:
    """Give scale, zero point and lowest level that follow from the extremes of each block."""
    if not symmetric:
        return *_affine_of_span(*_span_with_zero(blocks), (low, high)), low
    if granularity == "group":
        return *_signed_scale(blocks, low - 1), low - 1
    largest = blocks.abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return *_affine_of_span(torch.zeros_like(largest), largest, (0, high)), low


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
    step = _beside(blocks, step).reshape(shape)
    if offset is None:
        return step, torch.zeros_like(step)
    return step, learned_zero_point(_beside(blocks, offset).reshape(shape), step, low, high)


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
    best_scale, best_zero_point = _affine_of_span(bottom, top, spread)
    for kept in range(steps, 0, -1):
        share = kept / steps
        scale, zero_point = _affine_of_span(bottom * share, top * share, spread)
        rounded = from_levels(to_levels(blocks, scale, zero_point, *levels), scale, zero_point)
        error = (rounded - blocks).abs().pow(p).sum(-1, keepdim=True)
        better = error < best
        best = torch.where(better, error, best)
        best_scale = torch.where(better, scale, best_scale)
        best_zero_point = torch.where(better, zero_point, best_zero_point)
    return best_scale, best_zero_point


def _round_unit(x: Tensor, bits: int) -> Tensor:
    """Round ``[0, 1]`` to ``2**bits`` even levels; the gradient passes straight through."""
    highest = 2**bits - 1
    rounded = torch.round(x.detach() * highest) / highest
    result: Tensor = _StraightThrough.apply(x, rounded)
    return result


def _sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1, -1).to(x.dtype)

"""Uniform quantizers: what ONNX's QuantizeLinear and DequantizeLinear compute, with gradients.

Values are divided by the scale and rounded half to even, as the runtime does it; a product with the
inverse would differ in the last bit and now and then by a whole level. Everything keeps its dtype;
below float32 the arithmetic is float32. Gradients pass straight through the rounding (Bengio et
al., "Estimating or propagating gradients through stochastic neurons", 2013).
"""

from __future__ import annotations

import math
from typing import Any, Literal

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
    precise = raise_precision(x)
    scale, zero_point = put_beside(precise, scale), put_beside(precise, zero_point)
    if not (precise.requires_grad and torch.is_grad_enabled()):
        # Leaving autograd out saves more than the arithmetic takes for a small tensor.
        return _round_to_levels(precise, scale, zero_point, low, high).to(x.dtype)
    result: Tensor = _Affine.apply(precise, scale, zero_point, low, high)
    return result.to(x.dtype)


def _round_to_levels(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    return to_levels(x, scale, zero_point, low, high).sub_(zero_point).mul_(scale)


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
    precise = raise_precision(x)
    scale, zero_point = put_beside(precise, positive_step(step)), put_beside(precise, zero_point)
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


def count_steps_to_bend(step: Tensor) -> Tensor:
    """Count the steps from 0 to 3, where hard swish bends; whole numbers in the steps' shape.

    Args:
        step: Positive; from :func:`anchored_step`, or too large for that, which gives 0.
    """
    # The quotient of a whole number and a step in float32 may fall short of the number.
    return torch.floor(3 / step * (1 + 2.0**-16))


def anchored_step(step: Tensor) -> Tensor:
    """Widen steps until a whole number of them is 3, so that level 0 may stand for exactly -3.

    The factor of hard swish, ``relu6(x + 3) / 6``, is then the tensor's own integers up to 3:
    nothing is rounded, and nothing lost below. Widening, by a hundredth at 8 bits, leaves the upper
    end within reach. Steps above 3 stay as they are, since between two of their levels hard swish
    does not differ from ReLU.

    Args:
        step: Positive, of any shape.

    Returns:
        Steps with the gradient of the given ones: a learned step moves through small plateaus, and
        on average the widened one follows it, as rounded values follow theirs.
    """
    fixed = step.detach()
    count = count_steps_to_bend(fixed)
    wide = torch.where(count > 0, 3 / count.clamp(min=1), fixed)
    return step + (wide - fixed)


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


def raise_precision(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def put_beside(x: Tensor, parameter: Tensor) -> Tensor:
    # On a GPU, torch multiplies by the inverse of a divisor that lives on the host.
    return parameter.to(device=x.device, dtype=x.dtype)

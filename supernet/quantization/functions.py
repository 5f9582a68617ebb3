"""The steps of a quantized network that have a form of their own in graphs.

Each is an ordinary differentiable function. Modes see calls to them as they see calls to torch's
own functions, so that a trace writes them as QuantizeLinear, DequantizeLinear and integer weights
instead of the arithmetic that imitates those here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from supernet.quantization.affine import SHARE, Affine, WeightAffine
from supernet.quantization.quantizers import gradient_scale_of, quantize_affine, quantize_learned
from supernet.quantization.weights import find_weight_scale, quantize_weight

Function = TypeVar("Function", bound=Callable[..., Tensor])


def _seen_by_modes(function: Function) -> Function:
    @wraps(function)
    def call(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if has_torch_function((x,)):
            found: Tensor = handle_torch_function(call, (x,), x, *args, **kwargs)
            return found
        return function(x, *args, **kwargs)

    return cast(Function, call)


@_seen_by_modes
def quantize(x: Tensor, affine: Affine) -> Tensor:
    """Round an activation of any shape to the levels of its quantizer; the shape stays."""
    scale, zero_point = affine.scale, affine.zero_point
    assert scale is not None
    assert zero_point is not None
    if affine.learned:
        factor = gradient_scale_of(x.numel() // len(x), affine.highest)
        return quantize_learned(x, scale, zero_point, 0, affine.highest, factor)
    return quantize_affine(x, scale, zero_point, 0, affine.highest)


@_seen_by_modes
def keep_quantized(x: Tensor, affine: Affine) -> Tensor:
    """Say that a moved tensor, of any shape, still has the levels that it had before."""
    return x


@_seen_by_modes
def quantize_weights(weight: Tensor, affine: WeightAffine) -> Tensor:
    """Round a weight ``(out, ...)`` to its levels; the shape stays."""
    if affine.rounded is not None:
        return affine.rounded
    form = affine.format
    return quantize_weight(
        weight,
        form.weight_bits,
        granularity=form.granularity,
        group=form.group,
        symmetric=form.symmetric,
        step=affine.step,
    )


@_seen_by_modes
def quantize_bias(bias: Tensor, inputs: Affine, weight: Tensor, affine: WeightAffine) -> Tensor:
    """Round a bias ``(out,)`` to multiples of the steps of inputs and weights.

    The runtime adds it to their products as 32-bit integers.
    """
    assert inputs.scale is not None
    with torch.no_grad():
        step = inputs.scale.to(bias.dtype) * find_channel_step(weight, affine)
        rounded = torch.round(bias / step) * step
    return bias + (rounded - bias).detach()


def find_channel_step(weight: Tensor, affine: WeightAffine) -> Tensor:
    """Find the step of each output channel of a weight ``(out, ...)``, shape ``(out,)``."""
    if affine.channel_step is not None:
        return affine.channel_step
    form = affine.format
    scale = find_weight_scale(
        weight.detach(),
        form.weight_bits,
        granularity="tensor" if form.granularity == "tensor" else "channel",
        symmetric=form.symmetric,
        step=None if affine.step is None else affine.step.detach(),
    )
    return scale.reshape(-1).expand(len(weight)).to(weight.dtype)


@_seen_by_modes
def hard_sigmoid(x: Tensor, affine: Affine) -> Tensor:
    """Compute ``x / 6 + 0.5`` in 0...1, in steps of 1/255, of a quantized tensor of any shape.

    A hard sigmoid is the sum of a tensor whose scale is divided by 6 and a constant, whose output
    saturates at 0 and 1: ONNX Runtime keeps it in integers as QLinearAdd, and has no integer
    kernel for HardSigmoid itself.

    Args:
        x: What :func:`quantize` gave.
        affine: Its quantizer.
    """
    result = quantize(x / 6 + 0.5, SHARE)
    if affine.scale is None:
        return result
    # Zero lies between two steps of 1/255, as does every level where 6 is the highest one, so that
    # the order of the runtime's arithmetic decides.
    return result + (_add_half(x.detach(), affine) - result.detach())


def _add_half(x: Tensor, affine: Affine) -> Tensor:
    """What QLinearAdd makes of a sixth of ``x`` and a half, in float32 as it is computed there."""
    assert affine.scale is not None
    assert affine.zero_point is not None
    assert SHARE.scale is not None
    scale, zero_point = affine.scale.detach().float(), affine.zero_point.detach().float()
    share = SHARE.scale.to(scale.device)
    step = scale / 6 / share
    start = 128 * (scale.new_tensor(0.5 / 128) / share) - step * zero_point
    levels = torch.round(x.float() / scale) + zero_point
    # A fused multiply-add rounds once.
    total = (levels.double() * step.double() + start.double()).float()
    result: Tensor = (torch.round(total).clamp(0, SHARE.highest) * share).to(x.dtype)
    return result


@_seen_by_modes
def hard_swish(x: Tensor, affine: Affine) -> Tensor:
    """Compute ``x * relu6(x + 3) / 6`` of a quantized tensor of any shape.

    Where level 0 stands for -3, the factor is exactly the tensor's own integers, up to that of 3,
    in steps of a sixth: ONNX Runtime clips bytes in a quarter of the time that its QLinearAdd of
    :func:`hard_sigmoid` takes.

    Args:
        x: What :func:`quantize` gave.
        affine: Its quantizer, which is anchored.
    """
    return F.hardswish(x)


@_seen_by_modes
def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, inputs: Affine | None, affine: WeightAffine
) -> Tensor:
    """Multiply quantized inputs ``(..., in)`` by the quantized weight ``(out, in)``.

    Args:
        x: What :func:`quantize` gave, or floats where ``inputs`` is ``None``.
        weight: In float.
        bias: In float, ``(out,)``. It is rounded to integers where the runtime does that: of
            inputs with two dimensions.
        inputs: The quantizer of ``x``.
        affine: How the weight is quantized.
    """
    whole = inputs is not None and inputs.scale is not None
    if bias is not None and inputs is not None and whole and x.dim() == 2:
        bias = quantize_bias(bias, inputs, weight, affine)
    return F.linear(x, quantize_weights(weight, affine), bias)


@_seen_by_modes
def linear_dynamic(x: Tensor, weight: Tensor, bias: Tensor | None, affine: WeightAffine) -> Tensor:
    """Multiply inputs ``(N, ..., in)``, quantized by their own range, by a quantized weight.

    Each sample has a range of its own, which is what the runtime takes for one sample at a time;
    of a larger batch it takes one range.
    """
    with torch.no_grad():
        flat = x.flatten(1)
        low = flat.amin(1).clamp(max=0)
        high = flat.amax(1).clamp(min=0)
        scale = (high - low) / 255
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        zero_point = torch.round((-low / scale).clamp(0, 255))
        shape = (-1, *[1] * (x.dim() - 1))
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    rounded = quantize_affine(x, scale, zero_point, 0, 255)
    return F.linear(rounded, quantize_weights(weight, affine), bias)


@_seen_by_modes
def linear_blocks(x: Tensor, weight: Tensor, bias: Tensor | None, affine: WeightAffine) -> Tensor:
    """Multiply inputs ``(..., in)`` by a weight quantized in blocks of input features.

    ONNX Runtime's MatMulNBits rounds the inputs, too, at its default accuracy level: each block
    of a row to 8 bits by its largest magnitude.
    """
    blocks = x.unflatten(-1, (-1, affine.format.group))
    with torch.no_grad():
        scale = blocks.abs().amax(-1, keepdim=True) / 127
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    rounded = quantize_affine(blocks, scale, torch.zeros_like(scale), -128, 127).flatten(-2)
    return F.linear(rounded, quantize_weights(weight, affine), bias)

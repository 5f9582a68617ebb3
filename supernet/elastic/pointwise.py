"""Pointwise convolutions with a stride, whose weight gradient must not go through oneDNN's.

On processors with AVX-512, torch 2.13 writes beyond its buffers there when the input is laid
channels last and its channels are no multiple of sixteen (4 or 8 of them at 64 pixels), and the
process is aborted, sometimes long after. The same gradient without the pixels that the stride skips
is safe.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.elastic import depthwise

SAFE_CHANNELS = 16
"""Inputs with a multiple of so many channels take the plain way."""
_POINT = (1, 1)


def is_strided_pointwise(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Say whether a layer is a plain 1x1 convolution that skips pixels."""
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == _POINT
        and layer.stride != _POINT
        and layer.padding in ((0, 0), "valid")
        and layer.groups == 1
    )


def make_safe_forward(layer: nn.Conv2d) -> Any:
    """Make what to call instead of such a layer's forward in training.

    Outputs and gradients of inputs are those of the layer, bit for bit.
    """
    return partial(_forward, layer)


def _forward(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    return convolve(inputs, layer.weight, layer.bias, layer.stride)


def convolve(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, ...] = (1, 1),
    padding: str | tuple[int, ...] = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Convolve as ``torch.conv2d`` does, with the safe gradient of strided pointwise weights.

    All else is left to :func:`supernet.elastic.depthwise.convolve`, whose arguments these are.
    """
    if (
        tuple(weight.shape[2:]) == _POINT
        and tuple(stride) != _POINT
        and padding in ((0, 0), "valid")
        and groups == 1
        and inputs.shape[1] % SAFE_CHANNELS
        and inputs.device.type == "cpu"
        and torch.is_grad_enabled()
        and weight.requires_grad
        and not torch.is_autocast_enabled("cpu")
    ):
        result: Tensor = _Pointwise.apply(inputs, weight, bias, tuple(stride))
        return result
    return depthwise.convolve(inputs, weight, bias, stride, padding, dilation, groups)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.bias = stride, bias is not None
        return F.conv2d(inputs, weight, bias, stride)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        for_inputs: Tensor | None = None
        if ctx.needs_input_grad[0]:
            for_inputs = _differentiate(gradient, inputs, weight, ctx.stride, of_inputs=True)[0]
        down, right = ctx.stride
        read = inputs[:, :, ::down, ::right]
        for_weight = _differentiate(gradient, read, weight, _POINT, of_inputs=False)[1]
        for_bias = gradient.sum((0, 2, 3)) if ctx.bias else None
        return for_inputs, for_weight, for_bias, None


def _differentiate(
    gradient: Tensor, inputs: Tensor, weight: Tensor, stride: tuple[int, int], *, of_inputs: bool
) -> tuple[Tensor | None, ...]:
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        gradient,
        inputs,
        weight,
        None,
        stride,
        (0, 0),
        _POINT,
        False,
        (0, 0),
        1,
        (of_inputs, not of_inputs, False),
    )
    return found

"""Depthwise convolutions whose weight gradient does not take most of a training step."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Beyond this many pixels the kernels below grow too large to win, and 3x3 filters are fast already
# unless most of the filter lies outside of the map.
LARGEST_MAP, LARGEST_STRIDED_MAP, LARGEST_MAP_OF_3X3, SMALLEST_KERNEL = 256, 64, 4, 4


def make_fast_forward(layer: nn.Conv2d) -> Any:
    """Make what to call instead of a depthwise layer's forward in training on a processor.

    Outputs are those of the layer, bit for bit, and so are gradients of its inputs. Only the
    gradient of the weight takes another way, which a processor runs up to ten times faster on
    small maps: oneDNN has no fast code for it beyond 3x3 filters, and it was half the time of a
    training step of MobileNetV3.
    """
    return partial(_forward, layer)


def is_depthwise(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Say whether a layer is a plain convolution with one filter per channel."""
    return (
        type(layer) is nn.Conv2d
        and layer.groups == layer.in_channels == layer.out_channels
        and layer.groups > 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _forward(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    return convolve(
        inputs, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
    )


def convolve(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, ...] = (1, 1),
    padding: str | tuple[int, ...] = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Convolve as ``torch.conv2d`` does, with the faster gradient where that pays.

    Args:
        inputs: ``(N, C, H, W)``.
        weight: ``(out, C / groups, *kernel)``.
        bias: ``(out,)``.
        stride: Of both dimensions.
        padding: Zeros on each side.
        dilation: Of both dimensions.
        groups: Groups of channels.
    """
    depthwise = groups == len(weight) == inputs.shape[1] > 1 and dilation == (1, 1)
    if (
        depthwise
        and torch.is_grad_enabled()
        and weight.requires_grad
        and inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and _pays(tuple(weight.shape[2:]), stride, inputs)
    ):
        result: Tensor = _Depthwise.apply(inputs, weight, bias, stride, padding)
        return result
    return F.conv2d(inputs, weight, bias, stride, padding, dilation, groups)


def _pays(kernel: tuple[int, ...], stride: tuple[int, ...], inputs: Tensor) -> bool:
    height, width = inputs.shape[-2:]
    if stride == (1, 1):
        large = min(kernel) >= SMALLEST_KERNEL
        return height * width <= (LARGEST_MAP if large else LARGEST_MAP_OF_3X3)
    wide = min(height, width) > max(stride)
    return wide and height * width <= LARGEST_STRIDED_MAP and min(kernel) >= SMALLEST_KERNEL


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding, ctx.bias = stride, padding, bias is not None
        return F.conv2d(inputs, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        for_inputs: Tensor | None = None
        if ctx.needs_input_grad[0]:
            for_inputs = torch.ops.aten.convolution_backward(
                gradient,
                inputs,
                weight,
                None,
                ctx.stride,
                ctx.padding,
                (1, 1),
                False,
                (0, 0),
                len(weight),
                (True, False, False),
            )[0]
        for_weight = compute_weight_gradient(
            gradient, inputs, tuple(weight.shape[2:]), ctx.stride, ctx.padding
        )
        for_bias = gradient.sum((0, 2, 3)) if ctx.bias else None
        return for_inputs, for_weight, for_bias, None, None


def compute_weight_gradient(
    gradient: Tensor,
    inputs: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """Gradient of a depthwise convolution's weight: the input convolved with the gradient.

    Every channel of every sample is a channel of one convolution, whose filters are the output's
    gradients; samples are added up afterwards.

    Args:
        gradient: Gradient of the output, ``(N, C, OH, OW)``.
        inputs: What the convolution was given, ``(N, C, H, W)``.
        kernel: Height and width of the filters.
        stride: Stride of the convolution.
        padding: Zeros that the convolution adds on each side.

    Returns:
        ``(C, 1, *kernel)``.
    """
    if stride != (1, 1):
        gradient = _spread(gradient, stride)
    count, channels, height, width = inputs.shape
    maps = inputs.permute(2, 3, 0, 1).reshape(1, height, width, -1).permute(0, 3, 1, 2)
    filters = gradient.permute(2, 3, 0, 1).reshape(*gradient.shape[2:], -1).permute(2, 0, 1)
    every = F.conv2d(maps, filters[:, None], None, 1, padding, 1, count * channels)
    # Rows and columns that no output position reaches, when the stride does not divide.
    every = every[0, :, : kernel[0], : kernel[1]].permute(1, 2, 0)
    total = every.reshape(*kernel, count, channels).sum(2)
    return total.permute(2, 0, 1)[:, None]


def _spread(gradient: Tensor, stride: tuple[int, int]) -> Tensor:
    """Zeros between the entries, as many as a stride skips."""
    height, width = gradient.shape[2:]
    down, right = stride
    shape = (*gradient.shape[:2], down * (height - 1) + 1, right * (width - 1) + 1)
    result = gradient.new_zeros(shape)
    result[:, :, ::down, ::right] = gradient
    return result

"""The arithmetic of ONNX Runtime's quantized kernels: whole-number sums, then float32 steps.

Every function follows the order of float32 operations of MLAS, the library of kernels under the
CPU provider (https://github.com/microsoft/onnxruntime, onnxruntime/core/mlas), because a rounding
in another place moves results by a step. Sums of products are made in float64, which holds them
exactly: ``255 * 128 * k`` stays below ``2 ** 53`` for any layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from supernet.graph.integer.reference_operators import pad_spatially, spread_along

LEVELS = 256


@dataclass(frozen=True, slots=True)
class Scale:
    """How whole numbers stand for reals: ``(q - zero_point) * step``.

    Attributes:
        step: float32, rank 0 or a vector with an entry per channel.
        zero_point: rank 0 or like ``step``.
    """

    step: Tensor
    zero_point: Tensor


@dataclass(frozen=True, slots=True)
class Quantized:
    """Whole numbers (any shape) and what they stand for."""

    values: Tensor
    scale: Scale

    def centred(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """``values - zero_point``."""
        return self.values.to(dtype) - self.scale.zero_point.to(dtype)


def wrap(sums: Tensor) -> Tensor:
    """Whole-number sums as the 32-bit registers of a kernel hold them, int32.

    They wrap around where a bias fills them, as that of a channel whose weights are almost zero
    does if its step is tiny.
    """
    return sums.to(torch.int64).to(torch.int32)


def requantize(sums: Tensor, multiplier: Tensor, output: Scale) -> Tensor:
    """Scale whole-number sums and round half to even: clamped before the zero point is added.

    Args:
        sums: exact sums, of any type that holds them.
        multiplier: float32, broadcasts against ``sums``.
        output: of the uint8 result.
    """
    zero_point = output.zero_point.to(torch.float32)
    scaled = sums.to(torch.float32) * multiplier
    clamped = torch.maximum(torch.minimum(scaled, (LEVELS - 1) - zero_point), -zero_point)
    return (torch.round(clamped) + zero_point).to(output.zero_point.dtype)


def _multiply_and_add(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    # One rounding, as the processor's fused instruction has.
    return (a.to(torch.float64) * b.to(torch.float64) + c.to(torch.float64)).to(torch.float32)


# -- sums of products ---------------------------------------------------------------------------


def sum_convolution(
    x: Tensor,
    weight: Tensor,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Tensor:
    """Exact convolution of centred whole numbers (n, c, h, w); padding stands for zero."""
    x = pad_spatially(x, pads)
    if groups == x.shape[1] and weight.shape[0] == groups and weight.dim() == 4:
        return _sum_depthwise(x, weight, strides, dilations)
    return F.conv2d(x, weight, stride=list(strides), dilation=list(dilations), groups=groups)


def _sum_depthwise(
    x: Tensor, weight: Tensor, strides: Sequence[int], dilations: Sequence[int]
) -> Tensor:
    # torch runs a float64 depthwise convolution channel by channel, which takes seconds.
    kernel = weight.shape[2:]
    height, width = (
        (size - d * (k - 1) - 1) // s + 1
        for size, d, k, s in zip(x.shape[2:], dilations, kernel, strides, strict=True)
    )
    total = x.new_zeros((x.shape[0], x.shape[1], height, width))
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            top, left = row * dilations[0], column * dilations[1]
            window = x[
                :,
                :,
                top : top + strides[0] * (height - 1) + 1 : strides[0],
                left : left + strides[1] * (width - 1) + 1 : strides[1],
            ]
            total += window * weight[:, 0, row, column].reshape(1, -1, 1, 1)
    return total


def convolve(
    x: Quantized,
    weight: Quantized,
    bias: Tensor | None,
    output: Scale,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Tensor:
    """QLinearConv: ``round((sum + bias) * (x_step * w_step / y_step))`` per output channel.

    Args:
        x: uint8 (n, c_in, h, w).
        weight: int8 (c_out, c_in / groups, kh, kw), a step and zero point per output channel or
            one for all.
        bias: int32 (c_out,) in steps of ``x_step * w_step``.
        output: of the result.
        strides: per spatial axis.
        pads: beginnings of all spatial axes, then their ends.
        dilations: per spatial axis.
        groups: input and output channels are split into this many.
    """
    zero_point = spread_along(weight.scale.zero_point, 4, 0)
    sums = sum_convolution(
        x.centred(),
        weight.values.to(torch.float64) - zero_point.to(torch.float64),
        strides=strides,
        pads=pads,
        dilations=dilations,
        groups=groups,
    )
    if bias is not None:
        sums = sums + bias.to(torch.float64).reshape(1, -1, 1, 1)
    multiplier = x.scale.step * weight.scale.step / output.step
    return requantize(wrap(sums), spread_along(multiplier, 4, 1), output)


def sum_product(x: Quantized, other: Quantized, bias: Tensor | None) -> Tensor:
    """``x @ other + bias`` of whole numbers in 32 bits, (..., rows, columns).

    Args:
        x: (..., rows, k).
        other: (..., k, columns), a step and zero point per column or one for all.
        bias: int32 (columns,) or None.
    """
    sums = x.centred() @ other.centred()
    return wrap(sums if bias is None else sums + bias.to(torch.float64))


def multiply_matrices(
    x: Quantized, other: Quantized, bias: Tensor | None, output: Scale | None
) -> Tensor:
    """QGemm and QLinearMatMul, or their float forms (MatMulIntegerToFloat) without ``output``.

    Args:
        x: uint8 (..., rows, k).
        other: int8 or uint8 (..., k, columns).
        bias: int32 (columns,) in steps of ``x_step * other_step``.
        output: of a uint8 result; None for a float32 one.
    """
    sums = sum_product(x, other, bias)
    multiplier = x.scale.step * other.scale.step
    if output is None:
        return sums.to(torch.float32) * multiplier
    return requantize(sums, multiplier / output.step, output)


def multiply_blockwise(x: Tensor, weight: Tensor, steps: Tensor, block: int) -> Tensor:
    """MatMulNBits at accuracy level 4: activations become int8 per row and block of ``k``.

    Args:
        x: float32 (..., k).
        weight: whole numbers of 4 bits, (k, columns).
        steps: float32 (k / block, columns).
        block: input features that share a step.
    """
    *lead, width = x.shape
    blocks = -(-width // block)
    missing = blocks * block - width
    rows = F.pad(x.reshape(-1, width), (0, missing)).reshape(-1, blocks, block)
    largest = rows.abs().amax(-1, keepdim=True)
    inverse = torch.where(largest > 0, 127.0 / largest, torch.zeros_like(largest))
    levels = torch.round(rows * inverse).to(torch.float64)
    padded = F.pad(weight.to(torch.float64), (0, 0, 0, missing)).reshape(blocks, block, -1)
    sums = torch.einsum("rbk,bkc->rbc", levels, padded).to(torch.float32)
    return ((largest / 127.0) * steps * sums).sum(1).reshape(*lead, -1)


# -- value by value -----------------------------------------------------------------------------


def add(a: Quantized, b: Quantized, output: Scale) -> Tensor:
    """QLinearAdd: zero points gathered into one float32 offset, then two fused multiply-adds.

    A single value on either side is added to the offset first.
    """
    steps = [x.scale.step / output.step for x in (a, b)]
    zero_points = [x.scale.zero_point.to(torch.float32) for x in (a, b)]
    offset = output.zero_point.to(torch.float32) - (
        steps[0] * zero_points[0] + steps[1] * zero_points[1]
    )
    total = offset
    for operand, step in sorted(
        ((b, steps[1]), (a, steps[0])), key=lambda pair: pair[0].values.numel() > 1
    ):
        values = operand.values.to(torch.float32)
        single = operand.values.numel() == 1
        total = total + values * step if single else _multiply_and_add(values, step, total)
    return torch.round(total).clamp(0, LEVELS - 1).to(output.zero_point.dtype)


def multiply(a: Quantized, b: Quantized, output: Scale) -> Tensor:
    """QLinearMul: the exact product times one multiplier, rounded with the zero point added."""
    product = a.centred(torch.float32) * b.centred(torch.float32)
    multiplier = a.scale.step * b.scale.step / output.step
    moved = product * multiplier + output.zero_point.to(torch.float32)
    return torch.round(moved).clamp(0, LEVELS - 1).to(output.zero_point.dtype)


# -- pooling and softmax ------------------------------------------------------------------------


def average_all(x: Quantized, output: Scale) -> Tensor:
    """QLinearGlobalAveragePool of (n, c, h, w): exact sums times ``x_step / (y_step * h * w)``."""
    axes = tuple(range(2, x.values.dim()))
    size = x.values[0, 0].numel()
    multiplier = x.scale.step / (output.step * float(size))
    return requantize(x.centred().sum(axes, keepdim=True), multiplier, output)


def average_windows(
    x: Quantized,
    output: Scale,
    *,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    count_padding: bool,
    partial: bool,
) -> Tensor:
    """QLinearAveragePool of (n, c, h, w): float32 sums row by row, rounded with the zero point.

    Args:
        x: uint8.
        output: of the result.
        kernel: size of the windows per spatial axis.
        strides: per spatial axis.
        pads: beginnings of both spatial axes, then their ends.
        count_padding: divides by the size of the window, whatever it holds.
        partial: the last windows may reach over the end.
    """
    reals = x.centred(torch.float32) * x.scale.step
    if partial:
        pads = _pad_to_whole_windows(reals.shape[2:], kernel, strides, pads)
    padded = pad_spatially(reals, pads)
    inside = pad_spatially(torch.ones_like(reals[:1, :1]), pads)
    windows, counted = (
        F.unfold(t.flatten(0, 1).unsqueeze(1), tuple(kernel), stride=tuple(strides))
        for t in (padded, inside)
    )
    total = torch.zeros_like(windows[:, 0])
    for position in range(windows.shape[1]):
        total = total + windows[:, position]
    counts = counted.shape[1] if count_padding else counted.sum(1)
    height = (padded.shape[2] - kernel[0]) // strides[0] + 1
    moved = total / counts / output.step + output.zero_point.to(torch.float32)
    rounded = torch.round(moved).clamp(0, LEVELS - 1).to(output.zero_point.dtype)
    return rounded.reshape(*x.values.shape[:2], height, -1)


def _pad_to_whole_windows(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> list[int]:
    """``pads`` with ends that the last window, if it starts before them, just reaches."""
    ends = []
    for axis, (size, length, stride) in enumerate(zip(sizes, kernel, strides, strict=True)):
        before, after = pads[axis], pads[len(kernel) + axis]
        windows = -(-(size + before + after - length) // stride) + 1
        if (windows - 1) * stride >= size + before:
            windows -= 1
        ends.append((windows - 1) * stride + length - size - before)
    return [*pads[: len(kernel)], *ends]


def softmax(x: Quantized, axis: int, output: Scale) -> Tensor:
    """QLinearSoftmax: a table of exponentials whose largest entry belongs to each row's maximum.

    The result is rounded before the zero point is added and its scale is taken as the largest
    whole number of levels in 1.
    """
    values = x.values.movedim(axis, -1).to(torch.int64)
    width = values.shape[-1]
    step = x.scale.step.to(torch.float64)
    # The table leaves room for the sum of a row below the largest float32.
    room = torch.log(torch.tensor(torch.finfo(torch.float32).max / width, dtype=torch.float64))
    shift = torch.clamp(room - 5.0, min=0.0) / step
    levels = torch.arange(LEVELS, dtype=torch.float64)
    table = torch.exp((levels - (LEVELS - 1) + shift) * step).to(torch.float32)
    entries = table[values + (LEVELS - 1) - values.amax(-1, keepdim=True)]
    total = torch.zeros_like(entries[..., 0])
    for column in range(width):
        total = total + entries[..., column]
    whole = torch.floor(1.0 / output.step)
    shares = torch.round(entries * whole / total.unsqueeze(-1)) + output.zero_point.to(
        torch.float32
    )
    return shares.clamp(max=LEVELS - 1).to(output.zero_point.dtype).movedim(-1, axis)

"""What ONNX operators compute, in torch: one function per operator that graphs are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from supernet.errors import InputError
from supernet.graph.language import Attribute, Node

Attributes = Mapping[str, Attribute]
Inputs = Sequence[Tensor | None]
Operator = Callable[[Inputs, Attributes], tuple[Tensor, ...]]

# ONNX's numbers of element types: https://onnx.ai/onnx/api/helper.html
_DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


def compute(node: Node, inputs: Inputs) -> tuple[Tensor, ...]:
    """Run one operator by its ONNX definition.

    Args:
        node: the operator and its attributes.
        inputs: a tensor per input of the node, None for an omitted one.

    Returns:
        A tensor per output of the node.

    Raises:
        InputError: if there is no such operator here.
    """
    operator = OPERATORS.get(node.op)
    if operator is None:
        raise InputError(
            f"operator {node.op!r} of {node.scope or 'the graph'!r} cannot be simulated; "
            f"those that can are {', '.join(sorted(OPERATORS))}"
        )
    return operator(inputs, dict(node.attributes))


def read_integer(attributes: Attributes, name: str, default: int) -> int:
    """A whole-number attribute."""
    return int(cast(int, attributes.get(name, default)))


def read_float(attributes: Attributes, name: str, default: float) -> float:
    """A real-number attribute."""
    return float(cast(float, attributes.get(name, default)))


def read_integers(attributes: Attributes, name: str, default: Sequence[int] = ()) -> list[int]:
    """An attribute of whole numbers."""
    return [int(v) for v in cast("Sequence[int]", attributes.get(name, default))]


def pad_spatially(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad (n, c, *spatial) by ONNX's ``pads``: all beginnings, then all ends."""
    if not any(pads):
        return x
    half = len(pads) // 2
    pairs = [p for axis in reversed(range(half)) for p in (pads[axis], pads[half + axis])]
    return F.pad(x, pairs, value=value)


def divide_by_scale(x: Tensor, scale: Tensor) -> Tensor:
    """The quotient QuantizeLinear rounds; a division, as the runtime does it, no multiplication."""
    return x / scale


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Round half to even, move by the zero point and saturate to the zero point's type."""
    limits = torch.iinfo(zero_point.dtype)
    moved = torch.round(divide_by_scale(x, scale)) + zero_point.to(torch.float32)
    return moved.clamp(limits.min, limits.max).to(zero_point.dtype)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """``(q - zero_point) * scale`` in float32."""
    moved = q.to(torch.int32)
    if zero_point is not None:
        moved = moved - zero_point.to(torch.int32)
    return moved.to(torch.float32) * scale


def spread_along(parameter: Tensor, rank: int, axis: int) -> Tensor:
    """A scale or zero point per channel, shaped to broadcast along ``axis`` of ``rank``."""
    if parameter.dim() == 0 or parameter.numel() == 1:
        return parameter.reshape(())
    shape = [1] * rank
    shape[axis % rank] = -1
    return parameter.reshape(shape)


def _one(x: Tensor | None) -> Tensor:
    assert x is not None
    return x


def _present(inputs: Inputs, index: int) -> Tensor | None:
    return inputs[index] if index < len(inputs) else None


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda inputs, attributes: (function(_one(inputs[0])),)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda inputs, attributes: (function(_one(inputs[0]), _one(inputs[1])),)


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def operator(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
        result = _one(inputs[0])
        for x in inputs[1:]:
            result = function(result, _one(x))
        return (result,)

    return operator


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


# -- quantization -------------------------------------------------------------------------------


def _quantize_linear(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x, scale = _one(inputs[0]), _one(inputs[1])
    axis = read_integer(attributes, "axis", 1)
    zero_point = _present(inputs, 2)
    if zero_point is None:
        zero_point = torch.zeros(scale.shape, dtype=torch.uint8)
    rank = x.dim()
    return (quantize(x, spread_along(scale, rank, axis), spread_along(zero_point, rank, axis)),)


def _dequantize_linear(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    q, scale, zero_point = _one(inputs[0]), _one(inputs[1]), _present(inputs, 2)
    axis = read_integer(attributes, "axis", 1)
    block = read_integer(attributes, "block_size", 0)

    def spread(parameter: Tensor) -> Tensor:
        if not block:
            return spread_along(parameter, q.dim(), axis)
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, q.shape[axis])

    return (dequantize(q, spread(scale), None if zero_point is None else spread(zero_point)),)


def _dynamic_quantize_linear(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    low, high = x.min().clamp(max=0.0), x.max().clamp(min=0.0)
    scale = (high - low) / 255.0 if bool(high > low) else torch.ones(())
    zero_point = torch.round((-low / scale).clamp(0, 255)).to(torch.uint8)
    return quantize(x, scale, zero_point), scale, zero_point


def _matmul_integer(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    operands = []
    for index in (0, 1):
        # float64 adds whole numbers below 2**53 exactly and has a fast product; int64 has none.
        operand = _one(inputs[index]).to(torch.float64)
        zero_point = _present(inputs, index + 2)
        if zero_point is not None:
            operand = operand - spread_along(zero_point, 2, -1 if index else 0).to(torch.float64)
        operands.append(operand)
    return ((operands[0] @ operands[1]).to(torch.int32),)


# -- layers -------------------------------------------------------------------------------------


def _convolve(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x, weight = _one(inputs[0]), _one(inputs[1])
    spatial = x.dim() - 2
    ones = [1] * spatial
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
    return (
        convolve(
            pad_spatially(x, read_integers(attributes, "pads", [0] * 2 * spatial)),
            weight,
            _present(inputs, 2),
            stride=read_integers(attributes, "strides", ones),
            dilation=read_integers(attributes, "dilations", ones),
            groups=read_integer(attributes, "group", 1),
        ),
    )


def _gemm(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    a, b, c = _one(inputs[0]), _one(inputs[1]), _present(inputs, 2)
    a = a.T if read_integer(attributes, "transA", 0) else a
    b = b.T if read_integer(attributes, "transB", 0) else b
    alpha, beta = (read_float(attributes, k, 1.0) for k in ("alpha", "beta"))
    product = (a @ b) * alpha
    return (product if c is None else product + c * beta,)


def _batch_normalization(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x, scale, shift, mean, variance = (_one(i) for i in inputs)
    epsilon = read_float(attributes, "epsilon", 1e-5)
    return (F.batch_norm(x, mean, variance, scale, shift, eps=epsilon),)


def _layer_normalization(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    axis = read_integer(attributes, "axis", -1) % x.dim()
    epsilon = read_float(attributes, "epsilon", 1e-5)
    return (F.layer_norm(x, x.shape[axis:], inputs[1], _present(inputs, 2), epsilon),)


def _max_pool(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    kernel = read_integers(attributes, "kernel_shape")
    pads = read_integers(attributes, "pads", [0] * 2 * len(kernel))
    padded = pad_spatially(x.to(torch.float32), pads, -torch.inf)
    pooled = F.max_pool2d(
        padded,
        kernel,
        stride=read_integers(attributes, "strides", [1] * len(kernel)),
        dilation=read_integers(attributes, "dilations", [1] * len(kernel)),
        ceil_mode=bool(read_integer(attributes, "ceil_mode", 0)),
    )
    return (pooled.to(x.dtype),)


def _average_pool(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    kernel = read_integers(attributes, "kernel_shape")
    pads = read_integers(attributes, "pads", [0] * 2 * len(kernel))
    half = len(kernel)
    if pads[:half] != pads[half:]:
        raise InputError(f"AveragePool with pads {pads} cannot be simulated; only even ones can")
    return (
        F.avg_pool2d(
            x,
            kernel,
            stride=read_integers(attributes, "strides", [1] * len(kernel)),
            padding=pads[:half],
            ceil_mode=bool(read_integer(attributes, "ceil_mode", 0)),
            count_include_pad=bool(read_integer(attributes, "count_include_pad", 0)),
        ),
    )


def _global_average_pool(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    return (x.mean(tuple(range(2, x.dim())), keepdim=True),)


def _resize(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x, sizes = _one(inputs[0]), _one(inputs[3])
    mode = {"linear": "bilinear", "cubic": "bicubic"}[str(attributes["mode"])]
    corners = attributes.get("coordinate_transformation_mode") == "align_corners"
    size = [int(v) for v in sizes[2:]]
    return (F.interpolate(x, size=size, mode=mode, align_corners=corners),)


# -- value by value -----------------------------------------------------------------------------


def _clip(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x, low, high = _one(inputs[0]), _present(inputs, 1), _present(inputs, 2)
    if low is not None:
        x = torch.maximum(x, low)
    return (x if high is None else torch.minimum(x, high),)


def _hard_sigmoid(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    alpha = read_float(attributes, "alpha", 0.2)
    beta = read_float(attributes, "beta", 0.5)
    return ((_one(inputs[0]) * alpha + beta).clamp(0.0, 1.0),)


def _leaky_relu(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    return (F.leaky_relu(_one(inputs[0]), read_float(attributes, "alpha", 0.01)),)


def _elu(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    return (F.elu(_one(inputs[0]), read_float(attributes, "alpha", 1.0)),)


def _cast(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    return (_one(inputs[0]).to(_DTYPES[read_integer(attributes, "to", 1)]),)


def _where(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    return (torch.where(_one(inputs[0]), _one(inputs[1]), _one(inputs[2])),)


# -- reductions ---------------------------------------------------------------------------------


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def operator(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
        x, given = _one(inputs[0]), _present(inputs, 1)
        axes = read_integers(attributes, "axes") if given is None else [int(a) for a in given]
        keep = bool(read_integer(attributes, "keepdims", 1))
        return (function(x, axes or list(range(x.dim())), keepdim=keep),)

    return operator


def _softmax(function: Callable[..., Tensor]) -> Operator:
    def operator(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
        return (function(_one(inputs[0]), dim=read_integer(attributes, "axis", -1)),)

    return operator


def _cumulative_sum(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    return (torch.cumsum(_one(inputs[0]), int(_one(inputs[1]))),)


# -- moving values ------------------------------------------------------------------------------


def _reshape(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    target = [int(d) for d in _one(inputs[1])]
    return (x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(target)]),)


def _flatten(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    axis = read_integer(attributes, "axis", 1)
    rows = 1
    for size in x.shape[:axis]:
        rows *= size
    return (x.reshape(rows, -1),)


def _transpose(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    return (x.permute(read_integers(attributes, "perm", list(reversed(range(x.dim()))))),)


def _expand(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    shape = torch.broadcast_shapes(tuple(x.shape), tuple(int(d) for d in _one(inputs[1])))
    return (x.expand(shape),)


def _slice(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    starts, ends = ([int(v) for v in _one(inputs[i])] for i in (1, 2))
    given_axes, given_steps = _present(inputs, 3), _present(inputs, 4)
    axes = list(range(len(starts))) if given_axes is None else [int(a) for a in given_axes]
    steps = [1] * len(starts) if given_steps is None else [int(s) for s in given_steps]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        kept = range(x.shape[axis])[start:end:step]
        x = x.index_select(axis, torch.tensor(kept, dtype=torch.int64))
    return (x,)


def _split(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    sizes = [int(s) for s in _one(inputs[1])]
    return tuple(torch.split(_one(inputs[0]), sizes, read_integer(attributes, "axis", 0)))


def _gather(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x, index = _one(inputs[0]), _one(inputs[1])
    axis = read_integer(attributes, "axis", 0) % x.dim()
    index = torch.where(index < 0, index + x.shape[axis], index)
    picked = x.index_select(axis, index.reshape(-1))
    return (picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]),)


def _gather_elements(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    return (torch.gather(_one(inputs[0]), read_integer(attributes, "axis", 0), _one(inputs[1])),)


def _concat(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    return (torch.cat([_one(x) for x in inputs], read_integer(attributes, "axis", 0)),)


def _unsqueeze(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x = _one(inputs[0])
    axes = [int(a) for a in _one(inputs[1])]
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return (x,)


def _squeeze(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x, axes = _one(inputs[0]), _present(inputs, 1)
    return (x.squeeze() if axes is None else x.squeeze(tuple(int(a) for a in axes)),)


def _pad(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    x, pads, value = _one(inputs[0]), [int(p) for p in _one(inputs[1])], _present(inputs, 2)
    rank = x.dim()
    pairs = [p for axis in reversed(range(rank)) for p in (pads[axis], pads[rank + axis])]
    return (F.pad(x, pairs, value=0.0 if value is None else float(value)),)


def _triangle(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    shift = _present(inputs, 1)
    keep = torch.triu if read_integer(attributes, "upper", 1) else torch.tril
    return (keep(_one(inputs[0]), 0 if shift is None else int(shift)),)


def _shape(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    sizes = list(_one(inputs[0]).shape)
    start, end = read_integer(attributes, "start", 0), attributes.get("end")
    return (torch.tensor(sizes[start : None if end is None else int(cast(int, end))]),)


OPERATORS: dict[str, Operator] = {
    "QuantizeLinear": _quantize_linear,
    "DequantizeLinear": _dequantize_linear,
    "DynamicQuantizeLinear": _dynamic_quantize_linear,
    "MatMulInteger": _matmul_integer,
    "Conv": _convolve,
    "Gemm": _gemm,
    "MatMul": _binary(torch.matmul),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "Resize": _resize,
    "Identity": _unary(lambda x: x),
    "Relu": _unary(torch.relu),
    "HardSwish": _unary(F.hardswish),
    "Sigmoid": _unary(torch.sigmoid),
    "Tanh": _unary(torch.tanh),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Log": _unary(torch.log),
    "Sqrt": _unary(torch.sqrt),
    "Neg": _unary(torch.neg),
    "Abs": _unary(torch.abs),
    "Sin": _unary(torch.sin),
    "Cos": _unary(torch.cos),
    "Reciprocal": _unary(torch.reciprocal),
    "Floor": _unary(torch.floor),
    "Ceil": _unary(torch.ceil),
    "Round": _unary(torch.round),
    "Sign": _unary(torch.sign),
    "Not": _unary(torch.logical_not),
    "Softplus": _unary(F.softplus),
    "IsNaN": _unary(torch.isnan),
    "Add": _binary(torch.add),
    "Sub": _binary(torch.sub),
    "Mul": _binary(torch.mul),
    "Div": _binary(_divide),
    "Pow": _binary(torch.pow),
    "Max": _fold(torch.maximum),
    "Min": _fold(torch.minimum),
    "Equal": _binary(torch.eq),
    "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
    "And": _binary(torch.logical_and),
    "Or": _binary(torch.logical_or),
    "Xor": _binary(torch.logical_xor),
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
    "Elu": _elu,
    "Cast": _cast,
    "Where": _where,
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin),
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "CumSum": _cumulative_sum,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": lambda inputs, attributes: (_one(inputs[0]).repeat([int(r) for r in _one(inputs[1])]),),
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Pad": _pad,
    "Trilu": _triangle,
    "Shape": _shape,
}
"""Operators by ONNX type, as functions of inputs and attributes."""

"""Steps of quantized networks as QuantizeLinear, DequantizeLinear and integer weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.graph.operators.elementwise import Handler, find_onnx_dtype
from supernet.quantization import functions
from supernet.quantization.affine import Affine, WeightAffine
from supernet.quantization.quantizers import count_steps_to_bend
from supernet.quantization.weights import IntegerWeight, integer_weight

if TYPE_CHECKING:
    from supernet.graph.trace import Trace


def _meta(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape or tuple(x.shape), dtype=x.dtype, device="meta")


# -- activations -----------------------------------------------------------------------------------


def _name_quantizer(t: Trace, affine: Affine) -> tuple[str, str]:
    """Names of a quantizer's scale and zero point."""
    scale, zero_point = affine.scale, affine.zero_point
    if affine.fixed:
        assert scale is not None
        return t.scalar(float(scale), torch.float32), t.scalar(0, torch.uint8)
    return (
        t.add_weight(f"{affine.key}.scale", (), "float32", _write(scale, np.float32)),
        t.add_weight(f"{affine.key}.zero_point", (), "uint8", _write(zero_point, np.uint8)),
    )


def _write(value: Tensor | None, dtype: Any) -> Callable[[], np.ndarray] | None:
    """What writes a scalar when it is asked for; ``None`` where there is no value yet."""
    return None if value is None else partial(_scalar, value, dtype)


def _scalar(value: Tensor, dtype: Any) -> np.ndarray:
    return np.asarray(float(value.detach().cpu()), dtype=dtype)


def _sixth(scale: Tensor) -> np.ndarray:
    # Not computed before it is asked for: during the trace, arithmetic is part of the graph.
    return _scalar(scale / 6, np.float32)


def _emit_pair(t: Trace, x: str, affine: Affine) -> str:
    scale, zero_point = _name_quantizer(t, affine)
    levels = t.emit("QuantizeLinear", [x, scale, zero_point])
    return t.emit("DequantizeLinear", [levels, scale, zero_point])


def _quantize(t: Trace, x: Tensor, affine: Affine) -> Tensor:
    # Saturation at levels 0 and 255 does what the activation would.
    name = t.skip(t.name(x), ("Relu", "Clip"))
    if affine.bits < 8:
        bounds = [
            t.add_weight(f"{affine.key}.{end}", (), "float32", _find_end(affine, level))
            for end, level in (("low", 0), ("high", affine.highest))
        ]
        name = t.emit("Clip", [name, *bounds])
    return t.bind(_meta(x), _emit_pair(t, name, affine))


def _find_end(affine: Affine, level: int) -> Callable[[], np.ndarray] | None:
    scale, zero_point = affine.scale, affine.zero_point
    if scale is None or zero_point is None:
        return None
    return lambda: _scalar((level - zero_point) * scale, np.float32)


def _keep_quantized(t: Trace, x: Tensor, affine: Affine) -> Tensor:
    return t.bind(_meta(x), _emit_pair(t, t.name(x), affine))


def _find_levels(t: Trace, x: Tensor) -> tuple[str, ...]:
    """Names of a dequantized tensor's integers, their scale and their zero point."""
    node = t.find_producer(t.name(x))
    assert node is not None
    assert node.op == "DequantizeLinear"
    return node.inputs


def _hard_sigmoid(t: Trace, x: Tensor, affine: Affine) -> Tensor:
    levels, _, zero_point = _find_levels(t, x)
    if affine.scale is None:
        sixth = t.add_weight(f"{affine.key}.sixth", (), "float32")
    elif affine.fixed:
        sixth = t.scalar(float(affine.scale) / 6, torch.float32)
    else:
        sixth = t.add_weight(f"{affine.key}.sixth", (), "float32", partial(_sixth, affine.scale))
    part = t.emit("DequantizeLinear", [levels, sixth, zero_point])
    # Of the rank of what it is added to: without that the runtime adds small maps value by value.
    half = t.constant(np.full((1,) * x.dim(), 128, np.uint8))
    constants = [half, t.scalar(0.5 / 128, torch.float32), t.scalar(0, torch.uint8)]
    total = t.emit("Add", [part, t.emit("DequantizeLinear", constants)])
    return t.bind(_meta(x), _emit_pair(t, total, functions.SHARE))


def _hard_swish(t: Trace, x: Tensor, affine: Affine) -> Tensor:
    key, known = affine.key, affine.scale is not None
    last = t.add_weight(f"{key}.bend", (), "uint8", partial(_bend, affine) if known else None)
    step = t.add_weight(
        f"{key}.factor", (), "float32", partial(_factor_step, affine) if known else None
    )
    clipped = t.emit("Clip", [_find_levels(t, x)[0], "", last])
    factor = t.emit("DequantizeLinear", [clipped, step, t.scalar(0, torch.uint8)])
    return t.bind(_meta(x), t.emit("Mul", [t.name(x), factor]))


def _bend(affine: Affine) -> np.ndarray:
    """The level from which on hard swish's factor is 1."""
    assert affine.scale is not None
    count = int(count_steps_to_bend(affine.scale.detach()))
    return np.asarray(min(max(2 * count, 1), affine.highest), dtype=np.uint8)


def _factor_step(affine: Affine) -> np.ndarray:
    """What one level of hard swish's factor is; 1 where the level after 0 is above 3."""
    assert affine.scale is not None
    wide = int(count_steps_to_bend(affine.scale.detach())) == 0
    return np.asarray(1, dtype=np.float32) if wide else _sixth(affine.scale)


# -- weights ---------------------------------------------------------------------------------------


def _store(t: Trace, weight: Tensor, affine: WeightAffine, *, turned: bool) -> tuple[str, str]:
    """Names of a weight's integers and their scales, one for each output channel.

    Args:
        t: The trace.
        weight: ``(out, ...)``.
        affine: How it is quantized.
        turned: Store a matrix as ``(in, out)``.
    """
    form, name = affine.format, t.find_source_name(weight)
    if not form.symmetric or form.granularity == "group":
        raise InputError(
            f"layer {affine.layer}: the runtime multiplies integers only with symmetric weights "
            f"that have a scale per channel or tensor, and {form.name} is another format; "
            f"int8 and w{form.weight_bits}a8 can be executed"
        )
    shape = tuple(int(d) for d in weight.shape)
    integers = _share_integers(t, name, affine)

    def write_values() -> np.ndarray:
        values = integers().values.cpu().numpy()
        return np.ascontiguousarray(values.T if turned else values)

    def write_scale() -> np.ndarray:
        return _spread(integers().scale, shape[0])

    name = t.name_stored(name)
    t.add_weight(
        name, shape[::-1] if turned else shape, "int8", write_values, bits=form.weight_bits
    )
    return name, t.add_weight(f"{name}.scale", (shape[0],), "float32", write_scale)


def _share_integers(t: Trace, name: str, affine: WeightAffine) -> Callable[[], IntegerWeight]:
    """What gives a weight's integers; they are computed once for values, scales and bias."""
    known = t.shared.get(name)
    if known is None:
        known = t.shared[name] = cache(partial(_find_integers, t.find_source(name), affine))
    found: Callable[[], IntegerWeight] = known
    return found


def _find_integers(weight: Tensor, affine: WeightAffine) -> IntegerWeight:
    form = affine.format
    return integer_weight(
        weight.detach(),
        form.weight_bits,
        granularity=form.granularity,
        group=form.group,
        symmetric=form.symmetric,
        step=affine.step,
    )


def _spread(scale: Tensor, channels: int) -> np.ndarray:
    full: np.ndarray = scale.detach().reshape(-1).expand(channels).float().cpu().numpy()
    return np.ascontiguousarray(full)


def _quantize_weights(t: Trace, weight: Tensor, affine: WeightAffine) -> Tensor:
    name, scale = _store(t, weight, affine, turned=False)
    return t.bind(_meta(weight), _dequantize(t, name, scale, affine, weight.dim(), 0))


def _dequantize(t: Trace, name: str, scale: str, affine: WeightAffine, dims: int, axis: int) -> str:
    if affine.format.quantizes_activations:
        channels = int(t.find_weight(scale).shape[0])
        zeros = t.constant(np.zeros(channels, np.int8))
        return t.emit("DequantizeLinear", [name, scale, zeros], axis=axis)
    # Weights alone in integers: written so that the runtime computes the floats when it loads them.
    floats = t.emit("Cast", [name], to=find_onnx_dtype(torch.float32))
    if axis < dims - 1:
        scale = t.emit("Unsqueeze", [scale, t.constant(list(range(1, dims - axis)))])
    return t.emit("Mul", [floats, scale])


def _quantize_bias(
    t: Trace, bias: Tensor, inputs: Affine, weight: Tensor, affine: WeightAffine
) -> Tensor:
    return t.bind(_meta(bias), _store_bias(t, bias, inputs, weight, affine))


def _store_bias(
    t: Trace, bias: Tensor, inputs: Affine, weight: Tensor, affine: WeightAffine
) -> str:
    name = t.find_source_name(bias)
    real, integers = t.find_source(name), _share_integers(t, t.find_source_name(weight), affine)
    size = (int(bias.shape[0]),)

    def write_scale() -> np.ndarray:
        assert inputs.scale is not None
        step = np.float32(float(inputs.scale))
        result: np.ndarray = step * _spread(integers().scale, size[0])
        return result

    def write_values() -> np.ndarray:
        exact = real.detach().double().cpu().numpy() / write_scale()
        limit = 2**31 - 1
        return np.clip(np.round(exact), -limit, limit).astype(np.int32)

    known = inputs.scale is not None
    t.add_weight(name, size, "int32", write_values if known else None)
    scale = t.add_weight(f"{name}.scale", size, "float32", write_scale if known else None)
    return t.emit("DequantizeLinear", [name, scale], axis=0)


# -- matrix products -------------------------------------------------------------------------------


def _linear(
    t: Trace,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    inputs: Affine | None,
    affine: WeightAffine,
) -> Tensor:
    out = _meta(x, *x.shape[:-1], weight.shape[0])
    t.count_macs(out, int(x.shape[-1]))
    flat = x.dim() == 2
    name, scale = _store(t, weight, affine, turned=not flat)
    floats = _dequantize(t, name, scale, affine, 2, 0 if flat else 1)
    if not flat:
        product = t.emit("MatMul", [t.name(x), floats])
        return t.bind(out, _add_bias(t, product, bias))
    names = [t.name(x), floats]
    if bias is not None and inputs is not None:
        names.append(_store_bias(t, bias, inputs, weight, affine))
    elif bias is not None:
        names.append(t.name(bias))
    return t.bind(out, t.emit("Gemm", names, transB=1))


def _add_bias(t: Trace, product: str, bias: Tensor | None) -> str:
    if bias is None:
        return product
    # As a row: a vector would make the runtime turn product and sum into one float operator that
    # unpacks the weights in every run.
    row = t.emit("Unsqueeze", [t.name(bias), t.constant([0])])
    return t.emit("Add", [product, row])


def read_floats(t: Trace, x: Tensor, axis: int) -> str:
    """Name what a float layer reads, so that the runtime leaves that layer in float.

    Between a DequantizeLinear and a QuantizeLinear the runtime would round the weights of a float
    layer by itself, with one scale for all of them. It does so only where the activation has one
    scale, so it gets the same scale once for each channel.
    """
    name = t.name(x)
    node = t.find_producer(name)
    if node is None or node.op != "DequantizeLinear" or node.attributes:
        return name
    axis %= x.dim()
    channels = t.constant([int(x.shape[axis])])
    parts = [t.emit("Expand", [part, channels]) for part in node.inputs[1:]]
    return t.emit("DequantizeLinear", [node.inputs[0], *parts], axis=axis)


def _linear_dynamic(
    t: Trace, x: Tensor, weight: Tensor, bias: Tensor | None, affine: WeightAffine
) -> Tensor:
    out = _meta(x, *x.shape[:-1], weight.shape[0])
    t.count_macs(out, int(x.shape[-1]))
    name, scale = _store(t, weight, affine, turned=True)
    levels, step, zero_point = t.emit_many("DynamicQuantizeLinear", [t.name(x)], 3)
    product = t.emit("MatMulInteger", [levels, name, zero_point])
    floats = t.emit("Cast", [product], to=find_onnx_dtype(torch.float32))
    result = t.emit("Mul", [floats, t.emit("Mul", [step, scale])])
    return t.bind(out, _add_bias(t, result, bias))


def _linear_blocks(
    t: Trace, x: Tensor, weight: Tensor, bias: Tensor | None, affine: WeightAffine
) -> Tensor:
    out = _meta(x, *x.shape[:-1], weight.shape[0])
    t.count_macs(out, int(x.shape[-1]))
    form, name = affine.format, t.find_source_name(weight)
    rows, columns = int(weight.shape[1]), int(weight.shape[0])
    if form.weight_bits != 4:
        raise InputError(
            f"layer {affine.layer}: the runtime has block-wise weights of 4 bits, not of "
            f"{form.weight_bits}; use weights4"
        )
    integers = _share_integers(t, name, affine)

    def write_values() -> np.ndarray:
        return np.ascontiguousarray(integers().values.cpu().numpy().T)

    def write_scale() -> np.ndarray:
        return np.ascontiguousarray(integers().scale.float().cpu().numpy().T)

    name = t.name_stored(name)
    t.add_weight(name, (rows, columns), "int4", write_values)
    shape = (rows // form.group, columns)
    scale = t.add_weight(f"{name}.scale", shape, "float32", write_scale)
    floats = t.emit("DequantizeLinear", [name, scale], axis=0, block_size=form.group)
    product = t.emit("MatMul", [t.name(x), floats])
    return t.bind(out, _add_bias(t, product, bias))


QUANTIZED: dict[Any, Handler] = {
    functions.quantize: _quantize,
    functions.keep_quantized: _keep_quantized,
    functions.quantize_weights: _quantize_weights,
    functions.quantize_bias: _quantize_bias,
    functions.hard_sigmoid: _hard_sigmoid,
    functions.hard_swish: _hard_swish,
    functions.linear: _linear,
    functions.linear_dynamic: _linear_dynamic,
    functions.linear_blocks: _linear_blocks,
}
"""Handlers of calls to :mod:`supernet.quantization.functions`."""

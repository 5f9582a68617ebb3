"""Convolutions, normalisations, matrix products and attention, as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from supernet.errors import InputError
from supernet.graph.operators.elementwise import ELEMENTWISE, Handler
from supernet.graph.operators.quantized import QUANTIZED, read_floats

if TYPE_CHECKING:
    from supernet.graph.trace import Trace


def _convolution(
    t: Trace,
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    extra: Sequence[int],
    groups: int,
) -> str:
    if transposed:
        raise InputError(f"{t.where()} is a transposed convolution, which has no ONNX mapping")
    t.count_macs(out, math.prod(weight.shape[1:]))
    first = read_floats(t, x, 1) if t.is_float_weight(weight) else t.name(x)
    names = [first, t.name(weight)] + ([] if bias is None else [t.name(bias)])
    return t.emit(
        "Conv",
        names,
        dilations=tuple(dilation),
        group=int(groups),
        kernel_shape=tuple(int(d) for d in weight.shape[2:]),
        pads=tuple(padding) * 2,
        strides=tuple(stride),
    )


def _convolution_shape(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, *rest: Any
) -> Tensor:
    sizes = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(
            x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    return torch.empty((x.shape[0], weight.shape[0], *sizes), dtype=x.dtype, device="meta")


def _batch_norm(
    t: Trace,
    out: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> str:
    if training or mean is None or var is None:
        raise InputError(f"{t.where()} normalises with batch statistics; export needs eval mode")
    scale = _or_filled(t, weight, x.shape[1], 1.0)
    shift = _or_filled(t, bias, x.shape[1], 0.0)
    names = [t.name(x), scale, shift, t.name(mean), t.name(var)]
    return t.emit("BatchNormalization", names, epsilon=float(eps))


def _or_filled(t: Trace, x: Tensor | None, size: int, value: float) -> str:
    return t.name(x) if x is not None else t.constant(np.full(size, value, np.float32))


def _layer_norm(
    t: Trace, out: Any, x: Tensor, shape: Sequence[int], weight: Any, bias: Any, eps: float
) -> str:
    size = int(np.prod(shape))
    scale = _or_filled(t, weight, size, 1.0)
    if len(shape) > 1:
        raise InputError(f"{t.where()} normalises {len(shape)} dimensions at once; export needs 1")
    names = [t.name(x), scale] + ([] if bias is None else [t.name(bias)])
    return t.emit("LayerNormalization", names, axis=-1, epsilon=float(eps))


def _max_pool(
    t: Trace,
    out: Any,
    x: Tensor,
    kernel: Any,
    stride: Any = (),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    ceil: bool = False,
) -> str:
    sizes = {"kernel_shape": kernel, "strides": stride or kernel, "dilations": dilation}
    pairs = {k: tuple(v) * (2 if len(v) == 1 else 1) for k, v in sizes.items()}
    pads = tuple(padding) * (4 if len(padding) == 1 else 2)
    return t.emit("MaxPool", [t.name(x)], pads=pads, ceil_mode=int(ceil), **pairs)


def _avg_pool(
    t: Trace,
    out: Any,
    x: Tensor,
    kernel: Any,
    stride: Any = (),
    padding: Any = (0, 0),
    ceil: bool = False,
    count: bool = True,
    divisor: Any = None,
) -> str:
    if divisor is not None:
        raise InputError(f"{t.where()} averages with its own divisor, which has no ONNX mapping")
    sizes = {"kernel_shape": kernel, "strides": stride or kernel}
    pairs = {k: tuple(v) * (2 if len(v) == 1 else 1) for k, v in sizes.items()}
    pads = tuple(padding) * (4 if len(padding) == 1 else 2)
    flags = {"ceil_mode": int(ceil), "count_include_pad": int(count)}
    return t.emit("AveragePool", [t.name(x)], pads=pads, **flags, **pairs)


def _adaptive_avg_pool(t: Trace, out: Tensor, x: Tensor, size: Sequence[int]) -> str:
    kernel = [a // b for a, b in zip(x.shape[2:], size, strict=True)]
    if any(a % b for a, b in zip(x.shape[2:], size, strict=True)):
        raise InputError(f"{t.where()} pools {tuple(x.shape[2:])} to {tuple(size)}: not a multiple")
    return _avg_pool(t, out, x, kernel)


def _resize(mode: str) -> Handler:
    def handler(
        t: Trace, out: Tensor, x: Tensor, size: Any, align_corners: bool, *rest: Any, **kwargs: Any
    ) -> str:
        at = "align_corners" if align_corners else "half_pixel"
        attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": at}
        if mode == "cubic":
            attributes["cubic_coeff_a"] = -0.75
        inputs = [t.name(x), "", "", t.shape_tensor(out.shape)]
        return t.emit("Resize", inputs, **attributes)

    return handler


# -- matrix products -------------------------------------------------------------------------


def _matmul(t: Trace, out: Tensor, a: Tensor, b: Tensor, **kwargs: Any) -> str:
    t.count_macs(out, int(a.shape[-1]))
    return t.emit("MatMul", [t.name(a), t.name(b)])


def _addmm(t: Trace, out: Tensor, bias: Tensor, a: Tensor, b: Tensor, **scales: float) -> str:
    if any(s != 1 for s in scales.values()):
        raise InputError(f"{t.where()} scales inside addmm, which has no ONNX mapping")
    t.count_macs(out, int(a.shape[-1]))
    return t.emit("Gemm", [t.name(a), t.name(b), t.name(bias)])


def _baddbmm(
    t: Trace, out: Tensor, bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> str:
    name = _matmul(t, out, a, b)
    if alpha != 1:
        name = t.emit("Mul", [name, t.scalar(alpha, out.dtype)])
    if beta == 0:
        return name
    added = t.name(bias, broadcast=True)
    if beta != 1:
        added = t.emit("Mul", [added, t.scalar(beta, out.dtype)])
    return t.emit("Add", [name, added])


# -- calls caught before torch takes them apart ------------------------------------------------


def _linear(t: Trace, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x = input
    shape = (*x.shape[:-1], weight.shape[0])
    out = torch.empty(shape, dtype=x.dtype, device="meta")
    t.count_macs(out, int(x.shape[-1]))
    names = [read_floats(t, x, -1), t.name(weight)] + ([] if bias is None else [t.name(bias)])
    if x.dim() == 2:
        return t.bind(out, t.emit("Gemm", names, transB=1))
    # ONNX Runtime folds the transposition of a stored weight when it loads the model.
    turned = t.emit("Transpose", [names[1]], perm=(1, 0))
    name = t.emit("MatMul", [names[0], turned])
    return t.bind(out, name if bias is None else t.emit("Add", [name, names[2]]))


def _matmul_call(t: Trace, input: Tensor, other: Tensor) -> Tensor:
    a, b = input, other
    if t.known(a) is not None and t.known(b) is not None:
        return torch.matmul(a, b)
    if a.dim() < 2 or b.dim() < 2:
        return torch.matmul(a, b)
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out = torch.empty((*lead, a.shape[-2], b.shape[-1]), dtype=a.dtype, device="meta")
    return t.bind(out, _matmul(t, out, a, b))


def _attention(
    t: Trace,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(repeats, dim=-3) for x in (key, value))
    rows, columns, width = query.shape[-2], key.shape[-2], query.shape[-1]
    factor = 1.0 / math.sqrt(width) if scale is None else scale
    out = torch.empty((*query.shape[:-1], value.shape[-1]), dtype=query.dtype, device="meta")
    scores = torch.empty((*query.shape[:-1], columns), dtype=query.dtype, device="meta")
    t.count_macs(scores, int(width))
    t.count_macs(out, int(columns))
    perm = [*range(key.dim() - 2), key.dim() - 1, key.dim() - 2]
    turned = t.emit("Transpose", [t.name(key)], perm=tuple(perm))
    name = t.emit("MatMul", [t.name(query), turned])
    name = t.emit("Mul", [name, t.scalar(factor, query.dtype)])
    if is_causal:
        if t.lengths.is_dynamic(rows):
            raise InputError(f"{t.where()} is causal over a dynamic length; give it a mask")
        mask = np.triu(np.full((rows, columns), -np.inf, dtype=np.float32), 1)
        name = t.emit("Add", [name, t.constant(mask)])
    elif attn_mask is not None and attn_mask.dtype == torch.bool:
        low = t.scalar(-math.inf, query.dtype)
        name = t.emit("Where", [t.name(attn_mask, broadcast=True), name, low])
    elif attn_mask is not None:
        name = t.emit("Add", [name, t.name(attn_mask, broadcast=True)])
    name = t.emit("Softmax", [name], axis=-1)
    return t.bind(out, t.emit("MatMul", [name, t.name(value)]))


def _rms_norm(
    t: Trace, input: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Tensor:
    # The operator order ONNX Runtime's simplified layer normalisation fusion looks for.
    x, dtype = input, input.dtype
    axes = tuple(range(-len(normalized_shape), 0))
    square = t.emit("Pow", [t.name(x), t.scalar(2.0, dtype)])
    mean = t.emit("ReduceMean", [square], axes=axes, keepdims=1)
    floor = torch.finfo(dtype).eps if eps is None else eps
    root = t.emit("Sqrt", [t.emit("Add", [mean, t.scalar(floor, dtype)])])
    name = t.emit("Div", [t.name(x), root])
    if weight is not None:
        name = t.emit("Mul", [name, t.name(weight)])
    return t.bind(torch.empty(x.shape, dtype=dtype, device="meta"), name)


def _batch_norm_call(
    t: Trace,
    input: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    out = torch.empty(input.shape, dtype=input.dtype, device="meta")
    name = _batch_norm(
        t, out, input, weight, bias, running_mean, running_var, training, momentum, eps
    )
    return t.bind(out, name)


def _like(x: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device="meta")


FUNCTIONS: dict[Any, Handler] = {
    **QUANTIZED,
    F.linear: _linear,
    F.scaled_dot_product_attention: _attention,
    F.batch_norm: _batch_norm_call,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    torch.matmul: _matmul_call,
    torch.Tensor.matmul: _matmul_call,
    torch.Tensor.__matmul__: _matmul_call,
}
"""Handlers of Python-level calls."""

HOT: dict[str, tuple[Callable[..., Tensor], Handler]] = {
    "aten.convolution.default": (_convolution_shape, _convolution),
    **{
        f"aten.{name}.default": (_like, ELEMENTWISE[f"aten.{name}"])
        for name in ("hardswish", "hardsigmoid", "relu")
    },
}
"""Output shape and handler of frequent operators; torch's own shape rules take milliseconds."""

LAYERS: dict[str, Handler] = {
    "aten.native_batch_norm": _batch_norm,
    "aten.native_layer_norm": _layer_norm,
    "aten.max_pool2d_with_indices": _max_pool,
    "aten.avg_pool2d": _avg_pool,
    "aten._adaptive_avg_pool2d": _adaptive_avg_pool,
    "aten.upsample_bicubic2d": _resize("cubic"),
    "aten.upsample_bilinear2d": _resize("linear"),
    "aten.mm": _matmul,
    "aten.bmm": _matmul,
    "aten.addmm": _addmm,
    "aten.baddbmm": _baddbmm,
}
"""Handlers by ``aten.name``."""

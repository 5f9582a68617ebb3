"""What each ATen operator becomes in ONNX; one small function per operator family.

A handler takes the trace, the operator's output on meta tensors and the operator's own
arguments; it emits nodes and returns the output's name (or one name per output).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from supernet.lowering import Trace

Handler = Callable[..., Any]
_INT64_MAX = 2**63 - 1


def _dtype(dtype: torch.dtype) -> int:
    """ONNX's number for a torch dtype."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(str(dtype).removeprefix("torch."))))


def _cast(t: Trace, x: Tensor, dtype: torch.dtype, *, broadcast: bool = True) -> str:
    name = t.name(x, broadcast=broadcast)
    return name if x.dtype == dtype else t.emit("Cast", [name], to=_dtype(dtype))


def _operand(t: Trace, x: Tensor | float, dtype: torch.dtype) -> str:
    return _cast(t, x, dtype) if isinstance(x, Tensor) else t.scalar(x, dtype)


# -- elementwise -----------------------------------------------------------------------------


def _unary(op: str, **attributes: Any) -> Handler:
    def handler(t: Trace, out: Tensor, x: Tensor, *rest: Any, **kwargs: Any) -> str:
        return t.emit(op, [_cast(t, x, out.dtype)], **attributes)

    return handler


def _binary(op: str) -> Handler:
    def handler(t: Trace, out: Tensor, a: Any, b: Any, *, alpha: float = 1) -> str:
        right = _operand(t, b, out.dtype)
        if alpha != 1:
            right = t.emit("Mul", [right, t.scalar(alpha, out.dtype)])
        return t.emit(op, [_operand(t, a, out.dtype), right])

    return handler


def _compare(op: str, *, negate: bool = False) -> Handler:
    def handler(t: Trace, out: Tensor, a: Any, b: Any) -> str:
        dtype = torch.result_type(a, b)
        if op in ("And", "Or", "Xor"):
            dtype = torch.bool
        name = t.emit(op, [_operand(t, a, dtype), _operand(t, b, dtype)])
        return t.emit("Not", [name]) if negate else name

    return handler


def _rsub(t: Trace, out: Tensor, a: Any, b: Any, alpha: float = 1) -> str:
    return _binary("Sub")(t, out, b, a if alpha == 1 else a * alpha)


def _div_mode(t: Trace, out: Tensor, a: Any, b: Any, *, rounding_mode: str | None = None) -> str:
    name = _binary("Div")(t, out, a, b)
    if rounding_mode is None:
        return name
    if not out.is_floating_point():
        raise ValueError(f"{t.where()} divides integers that depend on the input; use floats")
    if rounding_mode == "floor":
        return t.emit("Floor", [name])
    sign = t.emit("Sign", [name])
    return t.emit("Mul", [sign, t.emit("Floor", [t.emit("Abs", [name])])])


def _rsqrt(t: Trace, out: Tensor, x: Tensor) -> str:
    return t.emit("Reciprocal", [t.emit("Sqrt", [t.name(x)])])


def _silu(t: Trace, out: Tensor, x: Tensor) -> str:
    return t.emit("Mul", [t.name(x), t.emit("Sigmoid", [t.name(x)])])


def _gelu(t: Trace, out: Tensor, x: Tensor, *, approximate: str = "none") -> str:
    # Written in the operator order ONNX Runtime's Gelu fusions look for.
    name, dtype = t.name(x), out.dtype
    if approximate == "none":
        root = t.emit("Div", [name, t.scalar(math.sqrt(2.0), dtype)])
        factor = t.emit("Add", [t.emit("Erf", [root]), t.scalar(1.0, dtype)])
        return t.emit("Mul", [t.emit("Mul", [name, factor]), t.scalar(0.5, dtype)])
    cube = t.emit("Pow", [name, t.scalar(3.0, dtype)])
    inner = t.emit("Add", [name, t.emit("Mul", [cube, t.scalar(0.044715, dtype)])])
    scaled = t.emit("Mul", [inner, t.scalar(math.sqrt(2.0 / math.pi), dtype)])
    factor = t.emit("Add", [t.emit("Tanh", [scaled]), t.scalar(1.0, dtype)])
    return t.emit("Mul", [t.emit("Mul", [name, t.scalar(0.5, dtype)]), factor])


def _clamp(t: Trace, out: Tensor, x: Tensor, low: Any = None, high: Any = None, **kw: Any) -> str:
    low, high = kw.get("min", low), kw.get("max", high)
    bounds = ["" if v is None else _operand(t, v, out.dtype) for v in (low, high)]
    return t.emit("Clip", [_cast(t, x, out.dtype), *bounds])


def _hardtanh(t: Trace, out: Tensor, x: Tensor, low: float = -1.0, high: float = 1.0) -> str:
    return _clamp(t, out, x, low, high)


def _leaky_relu(t: Trace, out: Tensor, x: Tensor, slope: float = 0.01) -> str:
    return t.emit("LeakyRelu", [t.name(x)], alpha=float(slope))


def _elu(t: Trace, out: Tensor, x: Tensor, alpha: float = 1.0, *scales: float) -> str:
    if any(s != 1 for s in scales):
        raise ValueError(f"{t.where()} uses a scaled ELU, which has no ONNX mapping")
    return t.emit("Elu", [t.name(x)], alpha=float(alpha))


def _hardsigmoid(t: Trace, out: Tensor, x: Tensor) -> str:
    return t.emit("HardSigmoid", [t.name(x)], alpha=float(np.float32(1 / 6)), beta=0.5)


def _to_copy(t: Trace, out: Tensor, x: Tensor, **kwargs: Any) -> str:
    return _cast(t, x, out.dtype, broadcast=False)


def _alias(t: Trace, out: Tensor, x: Tensor, *rest: Any, **kwargs: Any) -> str:
    return t.name(x)


def _where(t: Trace, out: Tensor, condition: Tensor, a: Any, b: Any) -> str:
    names = [_operand(t, v, out.dtype) for v in (a, b)]
    return t.emit("Where", [t.name(condition, broadcast=True), *names])


def _masked_fill(t: Trace, out: Tensor, x: Tensor, mask: Tensor, value: Any) -> str:
    filled = _operand(t, value, out.dtype)
    return t.emit("Where", [t.name(mask, broadcast=True), filled, t.name(x)])


# -- reductions ------------------------------------------------------------------------------


def _reduce(op: str) -> Handler:
    def handler(
        t: Trace, out: Tensor, x: Tensor, dims: Any = None, keepdim: bool = False, **kwargs: Any
    ) -> str:
        axes = [dims] if isinstance(dims, int) else list(dims or range(x.dim()))
        axes = sorted(a % x.dim() for a in axes)
        name = _cast(t, x, out.dtype, broadcast=False)
        if op == "ReduceMean" and x.dim() == 4 and axes == [2, 3]:
            # The pooling operator has a kernel for the blocked layout, the reduction has not.
            pooled = t.emit("GlobalAveragePool", [name])
            return pooled if keepdim else t.emit("Flatten", [pooled], axis=1)
        if op == "ReduceSum":
            return t.emit(op, [name, t.constant(axes)], keepdims=int(keepdim))
        return t.emit(op, [name], axes=tuple(axes), keepdims=int(keepdim))

    return handler


def _softmax(op: str) -> Handler:
    def handler(t: Trace, out: Tensor, x: Tensor, dim: int, half: Any = None, **kw: Any) -> str:
        return t.emit(op, [_cast(t, x, out.dtype)], axis=int(dim))

    return handler


def _cumsum(t: Trace, out: Tensor, x: Tensor, dim: int, **kwargs: Any) -> str:
    return t.emit("CumSum", [_cast(t, x, out.dtype), t.scalar(dim, torch.int64)])


# -- shapes ----------------------------------------------------------------------------------


def reshape(t: Trace, name: str, before: Sequence[int], after: Sequence[int]) -> str:
    """A Reshape that works for any batch size: 0 copies a dimension, -1 infers one.

    Raises:
        ValueError: if two dimensions depend on the batch.
    """
    if tuple(before) == tuple(after):
        return name
    target: list[int] = []
    for axis, size in enumerate(int(d) for d in after):
        if size and size % t.batch == 0:
            copied = axis < len(before) and int(before[axis]) == size
            target.append(0 if copied else -1)
        else:
            target.append(size)
    if target.count(-1) > 1:
        raise ValueError(f"{t.where()} reshapes to {tuple(after)}: two dimensions hold the batch")
    return t.emit("Reshape", [name, t.constant(target)])


def _view(t: Trace, out: Tensor, x: Tensor, *rest: Any, **kwargs: Any) -> str:
    return reshape(t, t.name(x), x.shape, out.shape)


def _permute(t: Trace, out: Tensor, x: Tensor, dims: Sequence[int]) -> str:
    return t.emit("Transpose", [t.name(x)], perm=tuple(d % x.dim() for d in dims))


def _transpose(t: Trace, out: Tensor, x: Tensor, a: int = 0, b: int = 1) -> str:
    if x.dim() < 2:
        return t.name(x)
    perm = list(range(x.dim()))
    perm[a], perm[b] = perm[b], perm[a]
    return t.emit("Transpose", [t.name(x)], perm=tuple(p % x.dim() for p in perm))


def _expand(t: Trace, out: Tensor, x: Tensor, size: Sequence[int], **kwargs: Any) -> str:
    before = (1,) * (out.dim() - x.dim()) + tuple(x.shape)
    target = [1 if a == b else int(b) for a, b in zip(before, out.shape, strict=True)]
    if all(d == 1 for d in target) and out.dim() == x.dim():
        return t.name(x)
    return t.emit("Expand", [t.name(x), t.shape_tensor(target)])


def _repeat(t: Trace, out: Tensor, x: Tensor, repeats: Sequence[int]) -> str:
    before = (1,) * (out.dim() - x.dim()) + tuple(x.shape)
    name = reshape(t, t.name(x), x.shape, before)
    return t.emit("Tile", [name, t.shape_tensor(repeats)])


def _slice(
    t: Trace, out: Tensor, x: Tensor, dim: int = 0, start: Any = None, end: Any = None,
    step: int = 1,
) -> str:  # fmt: skip
    if out.shape == x.shape:
        return t.name(x)
    end = _INT64_MAX if end is None or end >= x.shape[dim] else end
    bounds = [[start or 0], [end], [dim % x.dim()], [step]]
    return t.emit("Slice", [t.name(x), *(t.constant(b) for b in bounds)])


def _select(t: Trace, out: Tensor, x: Tensor, dim: int, index: int) -> str:
    return t.emit("Gather", [t.name(x), t.scalar(index, torch.int64)], axis=dim % x.dim())


def _split(t: Trace, out: Sequence[Tensor], x: Tensor, sizes: Any, dim: int = 0) -> Any:
    axis = dim % x.dim()
    if len(out) == 1:
        return [t.name(x)]
    lengths = t.constant([int(o.shape[axis]) for o in out])
    return t.emit_many("Split", [t.name(x), lengths], len(out), axis=axis)


def _unbind(t: Trace, out: Sequence[Tensor], x: Tensor, dim: int = 0) -> list[str]:
    return [_select(t, o, x, dim, i) for i, o in enumerate(out)]


def _cat(t: Trace, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> str:
    names = [_cast(t, x, out.dtype, broadcast=False) for x in tensors if x.numel()]
    return t.emit("Concat", names, axis=dim % out.dim())


def _stack(t: Trace, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> str:
    axis = t.constant([dim % out.dim()])
    names = [t.emit("Unsqueeze", [_cast(t, x, out.dtype, broadcast=False), axis]) for x in tensors]
    return t.emit("Concat", names, axis=dim % out.dim())


def _pad(t: Trace, out: Tensor, x: Tensor, pad: Sequence[int], value: float = 0.0) -> str:
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    pairs = [(0, 0)] * (x.dim() - len(pairs)) + pairs
    pads = [p[0] for p in pairs] + [p[1] for p in pairs]
    return t.emit("Pad", [t.name(x), t.constant(pads), t.scalar(value, out.dtype)])


def _triangle(upper: int) -> Handler:
    def handler(t: Trace, out: Tensor, x: Tensor, diagonal: int = 0) -> str:
        shift = t.scalar(diagonal, torch.int64)
        return t.emit("Trilu", [t.name(x), shift], upper=upper)

    return handler


def _embedding(t: Trace, out: Tensor, weight: Tensor, index: Tensor, *rest: Any, **kw: Any) -> str:
    return t.emit("Gather", [t.name(weight), t.name(index)], axis=0)


def _index_select(t: Trace, out: Tensor, x: Tensor, dim: int, index: Tensor) -> str:
    return t.emit("Gather", [t.name(x), t.name(index)], axis=dim % x.dim())


def _index(t: Trace, out: Tensor, x: Tensor, indices: Sequence[Tensor | None]) -> str:
    used = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    if len(used) != 1 or used[0][1].dtype == torch.bool:
        raise ValueError(f"{t.where()} indexes with several tensors or a mask; ONNX export cannot")
    return t.emit("Gather", [t.name(x), t.name(used[0][1])], axis=used[0][0])


def _gather(t: Trace, out: Tensor, x: Tensor, dim: int, index: Tensor, **kwargs: Any) -> str:
    return t.emit("GatherElements", [t.name(x), t.name(index)], axis=dim % x.dim())


# -- layers ----------------------------------------------------------------------------------


def _convolution(
    t: Trace, out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool, extra: Sequence[int],
    groups: int,
) -> str:  # fmt: skip
    if transposed:
        raise ValueError(f"{t.where()} is a transposed convolution, which has no ONNX mapping")
    t.count_macs(out, int(np.prod(weight.shape[1:])))
    names = [t.name(x), t.name(weight)] + ([] if bias is None else [t.name(bias)])
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
    t: Trace, out: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None,
    mean: Tensor | None, var: Tensor | None, training: bool, momentum: float, eps: float,
) -> str:  # fmt: skip
    if training or mean is None or var is None:
        raise ValueError(f"{t.where()} normalises with batch statistics; export needs eval mode")
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
        raise ValueError(f"{t.where()} normalises {len(shape)} dimensions at once; export needs 1")
    names = [t.name(x), scale] + ([] if bias is None else [t.name(bias)])
    return t.emit("LayerNormalization", names, axis=-1, epsilon=float(eps))


def _max_pool(
    t: Trace, out: Any, x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0, 0),
    dilation: Any = (1, 1), ceil: bool = False,
) -> str:  # fmt: skip
    sizes = {"kernel_shape": kernel, "strides": stride or kernel, "dilations": dilation}
    pairs = {k: tuple(v) * (2 if len(v) == 1 else 1) for k, v in sizes.items()}
    pads = tuple(padding) * (4 if len(padding) == 1 else 2)
    return t.emit("MaxPool", [t.name(x)], pads=pads, ceil_mode=int(ceil), **pairs)


def _avg_pool(
    t: Trace, out: Any, x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0, 0),
    ceil: bool = False, count: bool = True, divisor: Any = None,
) -> str:  # fmt: skip
    if divisor is not None:
        raise ValueError(f"{t.where()} averages with its own divisor, which has no ONNX mapping")
    sizes = {"kernel_shape": kernel, "strides": stride or kernel}
    pairs = {k: tuple(v) * (2 if len(v) == 1 else 1) for k, v in sizes.items()}
    pads = tuple(padding) * (4 if len(padding) == 1 else 2)
    flags = {"ceil_mode": int(ceil), "count_include_pad": int(count)}
    return t.emit("AveragePool", [t.name(x)], pads=pads, **flags, **pairs)


def _adaptive_avg_pool(t: Trace, out: Tensor, x: Tensor, size: Sequence[int]) -> str:
    kernel = [a // b for a, b in zip(x.shape[2:], size, strict=True)]
    if any(a % b for a, b in zip(x.shape[2:], size, strict=True)):
        raise ValueError(f"{t.where()} pools {tuple(x.shape[2:])} to {tuple(size)}: not a multiple")
    return _avg_pool(t, out, x, kernel)


# -- matrix products -------------------------------------------------------------------------


def _matmul(t: Trace, out: Tensor, a: Tensor, b: Tensor, **kwargs: Any) -> str:
    t.count_macs(out, int(a.shape[-1]))
    return t.emit("MatMul", [t.name(a), t.name(b)])


def _addmm(t: Trace, out: Tensor, bias: Tensor, a: Tensor, b: Tensor, **scales: float) -> str:
    if any(s != 1 for s in scales.values()):
        raise ValueError(f"{t.where()} scales inside addmm, which has no ONNX mapping")
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


# -- calls caught before torch decomposes them ---------------------------------------------------


def _linear(t: Trace, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x = input
    shape = (*x.shape[:-1], weight.shape[0])
    out = torch.empty(shape, dtype=x.dtype, device="meta")
    t.count_macs(out, int(x.shape[-1]))
    names = [t.name(x), t.name(weight)] + ([] if bias is None else [t.name(bias)])
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
    t: Trace, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
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
    t: Trace, input: Tensor, running_mean: Any, running_var: Any, weight: Any = None,
    bias: Any = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    out = torch.empty(input.shape, dtype=input.dtype, device="meta")
    name = _batch_norm(
        t, out, input, weight, bias, running_mean, running_var, training, momentum, eps
    )
    return t.bind(out, name)


def _like(x: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device="meta")


FUNCTIONS: dict[Any, Handler] = {
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

SHAPES: dict[str, Callable[..., Tensor]] = {
    "aten.convolution.default": _convolution_shape,
    "aten.hardswish.default": _like,
    "aten.hardsigmoid.default": _like,
    "aten.relu.default": _like,
}
"""Output shapes of hot operators; torch's own meta kernels for these take milliseconds."""

_UNARY = {
    "relu": "Relu", "hardswish": "HardSwish", "sigmoid": "Sigmoid", "tanh": "Tanh", "erf": "Erf",
    "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "neg": "Neg", "abs": "Abs", "sin": "Sin",
    "cos": "Cos", "reciprocal": "Reciprocal", "floor": "Floor", "ceil": "Ceil", "round": "Round",
    "sign": "Sign", "logical_not": "Not", "bitwise_not": "Not", "softplus": "Softplus",
    "isnan": "IsNaN",
}  # fmt: skip
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow",
           "maximum": "Max", "minimum": "Min"}  # fmt: skip
_COMPARE = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
            "ge": "GreaterOrEqual", "logical_and": "And", "logical_or": "Or",
            "bitwise_and": "And", "bitwise_or": "Or", "logical_xor": "Xor"}  # fmt: skip

OPERATORS: dict[str, Handler] = {
    **{f"aten.{name}": _unary(op) for name, op in _UNARY.items()},
    **{f"aten.{name}": _binary(op) for name, op in _BINARY.items()},
    **{f"aten.{name}": _compare(op) for name, op in _COMPARE.items()},
    "aten.ne": _compare("Equal", negate=True),
    "aten.rsub": _rsub,
    "aten.div.Tensor_mode": _div_mode,
    "aten.rsqrt": _rsqrt,
    "aten.silu": _silu,
    "aten.gelu": _gelu,
    "aten.clamp": _clamp,
    "aten.clamp_min": lambda t, out, x, low: _clamp(t, out, x, low, None),
    "aten.clamp_max": lambda t, out, x, high: _clamp(t, out, x, None, high),
    "aten.hardtanh": _hardtanh,
    "aten.relu6": lambda t, out, x: _clamp(t, out, x, 0.0, 6.0),
    "aten.leaky_relu": _leaky_relu,
    "aten.elu": _elu,
    "aten.hardsigmoid": _hardsigmoid,
    "aten._to_copy": _to_copy,
    **{f"aten.{name}": _alias for name in ("clone", "alias", "detach", "lift_fresh", "dropout",
                                           "contiguous", "_conj", "expand_as")},
    "aten.where": _where,
    "aten.masked_fill": _masked_fill,
    "aten.mean": _reduce("ReduceMean"),
    "aten.sum": _reduce("ReduceSum"),
    "aten.amax": _reduce("ReduceMax"),
    "aten.amin": _reduce("ReduceMin"),
    "aten._softmax": _softmax("Softmax"),
    "aten._safe_softmax": _softmax("Softmax"),
    "aten._log_softmax": _softmax("LogSoftmax"),
    "aten.cumsum": _cumsum,
    **{f"aten.{name}": _view for name in ("view", "_unsafe_view", "reshape", "unsqueeze",
                                          "squeeze", "flatten", "_reshape_alias")},
    "aten.permute": _permute,
    "aten.transpose": _transpose,
    "aten.t": _transpose,
    "aten.expand": _expand,
    "aten.repeat": _repeat,
    "aten.slice": _slice,
    "aten.select": _select,
    "aten.split": _split,
    "aten.split_with_sizes": _split,
    "aten.unbind": _unbind,
    "aten.cat": _cat,
    "aten.stack": _stack,
    "aten.constant_pad_nd": _pad,
    "aten.triu": _triangle(1),
    "aten.tril": _triangle(0),
    "aten.embedding": _embedding,
    "aten.index_select": _index_select,
    "aten.index": _index,
    "aten.gather": _gather,
    "aten.convolution": _convolution,
    "aten.convolution.default": _convolution,
    "aten.native_batch_norm": _batch_norm,
    "aten.hardswish.default": _unary("HardSwish"),
    "aten.hardsigmoid.default": _hardsigmoid,
    "aten.relu.default": _unary("Relu"),
    "aten.native_layer_norm": _layer_norm,
    "aten.max_pool2d_with_indices": _max_pool,
    "aten.avg_pool2d": _avg_pool,
    "aten._adaptive_avg_pool2d": _adaptive_avg_pool,
    "aten.mm": _matmul,
    "aten.bmm": _matmul,
    "aten.addmm": _addmm,
    "aten.baddbmm": _baddbmm,
}  # fmt: skip
"""Handlers by ``aten.name`` or ``aten.name.overload``."""

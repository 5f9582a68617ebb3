"""ATen operators that work value by value or reduce, as ONNX nodes.

A handler takes the trace, the operator's output on meta tensors and the operator's own
arguments; it emits nodes and returns the output's name (or one name per output).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError

if TYPE_CHECKING:
    from supernet.graph.trace import Trace

Handler = Callable[..., Any]


def find_onnx_dtype(dtype: torch.dtype) -> int:
    """ONNX's number for a torch dtype."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(str(dtype).removeprefix("torch."))))


def cast(t: Trace, x: Tensor, dtype: torch.dtype, *, broadcast: bool = True) -> str:
    """Name ``x`` as ``dtype``, with a Cast where it has another."""
    name = t.name(x, broadcast=broadcast)
    return name if x.dtype == dtype else t.emit("Cast", [name], to=find_onnx_dtype(dtype))


def make_operand(t: Trace, x: Tensor | float, dtype: torch.dtype) -> str:
    """Name a tensor or number as ``dtype``."""
    return cast(t, x, dtype) if isinstance(x, Tensor) else t.scalar(x, dtype)


def _unary(op: str, **attributes: Any) -> Handler:
    def handler(t: Trace, out: Tensor, x: Tensor, *rest: Any, **kwargs: Any) -> str:
        return t.emit(op, [cast(t, x, out.dtype)], **attributes)

    return handler


def _binary(op: str) -> Handler:
    def handler(t: Trace, out: Tensor, a: Any, b: Any, *, alpha: float = 1) -> str:
        right = make_operand(t, b, out.dtype)
        if alpha != 1:
            right = t.emit("Mul", [right, t.scalar(alpha, out.dtype)])
        return t.emit(op, [make_operand(t, a, out.dtype), right])

    return handler


def _compare(op: str, *, negate: bool = False) -> Handler:
    def handler(t: Trace, out: Tensor, a: Any, b: Any) -> str:
        dtype = torch.result_type(a, b)
        if op in ("And", "Or", "Xor"):
            dtype = torch.bool
        name = t.emit(op, [make_operand(t, a, dtype), make_operand(t, b, dtype)])
        return t.emit("Not", [name]) if negate else name

    return handler


def _rsub(t: Trace, out: Tensor, a: Any, b: Any, alpha: float = 1) -> str:
    return _binary("Sub")(t, out, b, a if alpha == 1 else a * alpha)


def _div_mode(t: Trace, out: Tensor, a: Any, b: Any, *, rounding_mode: str | None = None) -> str:
    name = _binary("Div")(t, out, a, b)
    if rounding_mode is None:
        return name
    if not out.is_floating_point():
        raise InputError(f"{t.where()} divides integers that depend on the input; use floats")
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
    bounds = ["" if v is None else make_operand(t, v, out.dtype) for v in (low, high)]
    return t.emit("Clip", [cast(t, x, out.dtype), *bounds])


def _hardtanh(t: Trace, out: Tensor, x: Tensor, low: float = -1.0, high: float = 1.0) -> str:
    return _clamp(t, out, x, low, high)


def _leaky_relu(t: Trace, out: Tensor, x: Tensor, slope: float = 0.01) -> str:
    return t.emit("LeakyRelu", [t.name(x)], alpha=float(slope))


def _elu(t: Trace, out: Tensor, x: Tensor, alpha: float = 1.0, *scales: float) -> str:
    if any(s != 1 for s in scales):
        raise InputError(f"{t.where()} uses a scaled ELU, which has no ONNX mapping")
    return t.emit("Elu", [t.name(x)], alpha=float(alpha))


def _hardsigmoid(t: Trace, out: Tensor, x: Tensor) -> str:
    return t.emit("HardSigmoid", [t.name(x)], alpha=float(np.float32(1 / 6)), beta=0.5)


def _to_copy(t: Trace, out: Tensor, x: Tensor, **kwargs: Any) -> str:
    return cast(t, x, out.dtype, broadcast=False)


def _alias(t: Trace, out: Tensor, x: Tensor, *rest: Any, **kwargs: Any) -> str:
    return t.name(x)


def _where(t: Trace, out: Tensor, condition: Tensor, a: Any, b: Any) -> str:
    names = [make_operand(t, v, out.dtype) for v in (a, b)]
    return t.emit("Where", [t.name(condition, broadcast=True), *names])


def _masked_fill(t: Trace, out: Tensor, x: Tensor, mask: Tensor, value: Any) -> str:
    filled = make_operand(t, value, out.dtype)
    return t.emit("Where", [t.name(mask, broadcast=True), filled, t.name(x)])


# -- reductions ------------------------------------------------------------------------------


def _reduce(op: str) -> Handler:
    def handler(
        t: Trace, out: Tensor, x: Tensor, dims: Any = None, keepdim: bool = False, **kwargs: Any
    ) -> str:
        axes = [dims] if isinstance(dims, int) else list(dims or range(x.dim()))
        axes = sorted(a % x.dim() for a in axes)
        name = cast(t, x, out.dtype, broadcast=False)
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
        return t.emit(op, [cast(t, x, out.dtype)], axis=int(dim))

    return handler


def _cumsum(t: Trace, out: Tensor, x: Tensor, dim: int, **kwargs: Any) -> str:
    return t.emit("CumSum", [cast(t, x, out.dtype), t.scalar(dim, torch.int64)])


_UNARY = {
    "relu": "Relu",
    "hardswish": "HardSwish",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "erf": "Erf",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "neg": "Neg",
    "abs": "Abs",
    "sin": "Sin",
    "cos": "Cos",
    "reciprocal": "Reciprocal",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "sign": "Sign",
    "logical_not": "Not",
    "bitwise_not": "Not",
    "softplus": "Softplus",
    "isnan": "IsNaN",
}
_BINARY = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "maximum": "Max",
    "minimum": "Min",
}
_COMPARE = {
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "bitwise_and": "And",
    "bitwise_or": "Or",
    "logical_xor": "Xor",
}

ELEMENTWISE: dict[str, Handler] = {
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
    **{
        f"aten.{name}": _alias
        for name in (
            "clone",
            "alias",
            "detach",
            "lift_fresh",
            "dropout",
            "contiguous",
            "_conj",
            "expand_as",
        )
    },
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
}
"""Handlers by ``aten.name`` or ``aten.name.overload``."""

"""Shapes of what frequent operators give, where torch's own rules take milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def find_result(op: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """Make the meta tensor that an operator gives, without torch's own rules.

    Args:
        op: Name of the operator without its overload, such as ``"aten.add"``.
        args: Its arguments, tensors on meta.
        kwargs: Those given by name.

    Returns:
        A contiguous tensor without data; ``None`` where torch has to say what comes out, because of
        its layout, its dtype or how the operator is called.
    """
    rule = _RULES.get(op)
    return None if rule is None else rule(*args, **kwargs)


def _combine(a: Any, b: Any = None, **kwargs: Any) -> Tensor | None:
    # Of tensors in another order of memory, what comes out has an order of its own.
    tensors = [x for x in (a, b) if isinstance(x, Tensor)]
    plain = all(x.is_floating_point() and x.is_contiguous() for x in tensors)
    if not plain or kwargs.keys() - {"alpha"} or not isinstance(b, (Tensor, int, float)):
        return None
    shape = _broadcast([tuple(x.shape) for x in tensors])
    if shape is None:
        return None
    return torch.empty(shape, dtype=torch.result_type(a, b), device="meta")


def _broadcast(shapes: Sequence[tuple[int, ...]]) -> list[int] | None:
    # That of torch imports its symbolic shapes, and sympy with them.
    rank = max(len(shape) for shape in shapes)
    columns = zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True)
    sizes = [set(column) - {1} for column in columns]
    return None if any(len(s) > 1 for s in sizes) else [s.pop() if s else 1 for s in sizes]


def _keep(x: Any, *rest: Any, **kwargs: Any) -> Tensor | None:
    """Of operators that work value by value, with numbers as their only other arguments."""
    others = any(isinstance(value, Tensor) for value in (*rest, *kwargs.values()))
    if others or not x.is_floating_point() or not x.is_contiguous():
        return None
    return torch.empty(x.shape, dtype=x.dtype, device="meta")


def _average(x: Any, axes: Any = None, keep: bool = False, **kwargs: Any) -> Tensor | None:
    if kwargs or not axes or not x.is_floating_point() or not x.is_contiguous():
        return None
    inside = {axis % x.dim() for axis in axes}
    sizes = [1 if i in inside else size for i, size in enumerate(x.shape)]
    kept = [size for i, size in enumerate(sizes) if keep or i not in inside]
    return torch.empty(kept, dtype=x.dtype, device="meta")


_RULES: dict[str, Callable[..., Tensor | None]] = {
    **dict.fromkeys(("aten.add", "aten.sub", "aten.mul", "aten.div"), _combine),
    **dict.fromkeys(
        ("aten.silu", "aten.sigmoid", "aten.tanh", "aten.gelu", "aten.hardtanh", "aten.clamp"),
        _keep,
    ),
    "aten.mean": _average,
}

"""ATen operators that move, select, join or look up values, as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.graph.operators.elementwise import Handler, cast

if TYPE_CHECKING:
    from supernet.graph.trace import Trace

_INT64_MAX = 2**63 - 1


def reshape(t: Trace, name: str, before: Sequence[int], after: Sequence[int]) -> str:
    """Emit a Reshape that works for any batch size and length: 0 copies a dimension, -1 infers one.

    Raises:
        InputError: if two dimensions that are not copied are dynamic.
    """
    if tuple(before) == tuple(after):
        return name
    target: list[int] = []
    for axis, size in enumerate(int(d) for d in after):
        if size and (size % t.batch == 0 or t.lengths.is_dynamic(size)):
            copied = axis < len(before) and int(before[axis]) == size
            target.append(0 if copied else -1)
        else:
            target.append(size)
    if target.count(-1) > 1:
        raise InputError(f"{t.where()} reshapes to {tuple(after)}: two dimensions are dynamic")
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
    t: Trace,
    out: Tensor,
    x: Tensor,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> str:
    if out.shape == x.shape:
        return t.name(x)
    end = _INT64_MAX if end is None or end >= x.shape[dim] else end
    bounds = [t.size(start or 0), t.size(end), t.constant([dim % x.dim()]), t.constant([step])]
    return t.emit("Slice", [t.name(x), *bounds])


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
    names = [cast(t, x, out.dtype, broadcast=False) for x in tensors if x.numel()]
    return t.emit("Concat", names, axis=dim % out.dim())


def _stack(t: Trace, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> str:
    axis = t.constant([dim % out.dim()])
    names = [t.emit("Unsqueeze", [cast(t, x, out.dtype, broadcast=False), axis]) for x in tensors]
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
        raise InputError(f"{t.where()} indexes with several tensors or a mask; ONNX export cannot")
    return t.emit("Gather", [t.name(x), t.name(used[0][1])], axis=used[0][0])


def _gather(t: Trace, out: Tensor, x: Tensor, dim: int, index: Tensor, **kwargs: Any) -> str:
    return t.emit("GatherElements", [t.name(x), t.name(index)], axis=dim % x.dim())


def make_range(t: Trace, out: Tensor, *bounds: int) -> str:
    """Emit the numbers ``torch.arange`` gives, of whose bounds one is a dynamic length."""
    start, end, step = {1: (0, *bounds, 1), 2: (*bounds, 1), 3: bounds}[len(bounds)]
    ends = [t.emit("Squeeze", [t.size(bound)]) for bound in (start, end)]
    return t.emit("Range", [*ends, t.scalar(step, torch.int64)])


SHAPES: dict[str, Handler] = {
    **{
        f"aten.{name}": _view
        for name in (
            "view",
            "_unsafe_view",
            "reshape",
            "unsqueeze",
            "squeeze",
            "flatten",
            "_reshape_alias",
        )
    },
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
}
"""Handlers by ``aten.name``."""

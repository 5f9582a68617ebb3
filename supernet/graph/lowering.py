"""Turns an eval-mode torch module into a Graph by running it once on tensors without data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from supernet.errors import InputError
from supernet.graph.language import Graph
from supernet.graph.operators.elementwise import ELEMENTWISE
from supernet.graph.operators.layers import FUNCTIONS, HOT, LAYERS
from supernet.graph.operators.shape_rules import find_result
from supernet.graph.operators.shapes import SHAPES, make_range
from supernet.graph.trace import Trace

_OPERATORS = {**ELEMENTWISE, **SHAPES, **LAYERS}

_LIKE = frozenset(
    f"aten.{name}"
    for name in (
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
    )
)


def lower(
    module: nn.Module,
    inputs: Sequence[torch.Tensor],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    scope: str = "",
    structure_only: bool = False,
    lengths: Mapping[str, Mapping[int, str]] | None = None,
    **kwargs: Any,
) -> tuple[Graph, dict[str, np.ndarray | None]]:
    """Trace ``module(*inputs, **kwargs)`` into ONNX operators.

    The forward runs on meta tensors, so nothing is computed: 2 ms for a residual block. Only
    shapes and dtypes of ``inputs`` are read; their first dimension is taken as the batch and
    comes out dynamic.

    Args:
        module: a plain module in eval mode, on any device including meta.
        inputs: example tensors, first dimension the batch.
        input_names: names of the graph's inputs; default "input", "input1", ...
        output_names: names of the graph's outputs; default "output", "output1", ...
        scope: module path put before the paths inside ``module``.
        structure_only: leave all values out; rounding weights takes longer than the trace.
        lengths: names of further dynamic dimensions, by name of the input and dimension; equal
            names have equal sizes. The graph then counts no multiply-accumulates.
        kwargs: further arguments of the forward that are not tensors.

    Returns:
        The graph, and the weights' values by parameter or buffer name (None on meta).

    Raises:
        InputError: if the module is in training mode or uses an operator that has no mapping.
    """
    if module.training:
        raise InputError(f"{type(module).__name__} is in training mode; call .eval() first")
    trace = Trace(module, inputs, scope, lengths)
    if input_names is None:
        input_names = ["input" if i == 0 else f"input{i}" for i in range(len(inputs))]
    metas = [trace.add_input(n, t) for n, t in zip(input_names, inputs, strict=True)]
    with torch.no_grad(), ExitStack() as stack:
        for path, child in module.named_modules():
            stack.callback(child.register_forward_pre_hook(trace.enter(path)).remove)
            stack.callback(child.register_forward_hook(trace.leave).remove)
        stack.enter_context(_replaced(module, trace.state))
        with _Dispatch(trace), _Function(trace):
            result = module(*metas, **kwargs)
    outputs = _list_tensors(result)
    if output_names is None:
        output_names = ["output" if i == 0 else f"output{i}" for i in range(len(outputs))]
    graph = trace.finish(outputs, output_names)
    return graph, {} if structure_only else trace.values()


@contextmanager
def _replaced(module: nn.Module, state: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Let a module have other parameters and buffers inside, given by all of their paths."""
    # What torch.func.functional_call does takes longer than the trace of a small module.
    tables = [
        (path, table, dict(table))
        for path, child in module.named_modules(remove_duplicate=False)
        for table in (child._parameters, child._buffers)
        if table
    ]
    try:
        for path, table, known in tables:
            for name, tensor in known.items():
                if tensor is not None:
                    table[name] = state[f"{path}.{name}" if path else name]
        yield
    finally:
        for _, table, known in tables:
            table.update(known)


class _Function(TorchFunctionMode):
    """Catches calls that torch would take apart before the dispatcher sees them."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = FUNCTIONS.get(func)
        if handler is not None:
            return handler(self._trace, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class _Dispatch(TorchDispatchMode):
    """Maps every ATen operator that is not about constants to ONNX nodes."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Torch would import its compiler, for seconds, only to tell it to leave this mode alone.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        trace, kwargs = self._trace, kwargs or {}
        op = str(func)
        base = op.rsplit(".", 1)[0]
        if op in HOT:
            shape, emit = HOT[op]
            out = shape(*args, **kwargs)
            return trace.bind(out, emit(trace, out, *args, **kwargs))
        if base == "aten.arange" and trace.lengths.are_in(args):
            out = func(*args, **{**kwargs, "device": "meta"})
            return trace.bind(out, make_range(trace, out, *args))
        if base == "aten.empty":
            return func(*args, **{**kwargs, "device": "meta"})
        tensors = _list_tensors((args, kwargs))
        if base in _LIKE:
            like = torch.empty(tensors[0].shape, dtype=tensors[0].dtype)
            value = func(like, *args[1:], **{**kwargs, "device": "cpu"})
            return trace.bind_known(torch.empty_like(value, device="meta"), value)
        known = [trace.known(t) for t in tensors]
        if all(k is not None for k in known):
            return self._constant(func, args, kwargs, tensors, known)
        handler = _OPERATORS.get(op) or _OPERATORS.get(base)
        if base.endswith("_") and handler is None:
            return self._in_place(func, base, args, kwargs)
        if handler is None:
            raise InputError(
                f"{op} in {trace.where()} has no ONNX mapping; replace that operation in the "
                f"module, or add it to supernet/graph/operators/layers.py"
            )
        args, kwargs = tree_map_only(torch.Tensor, _to_meta, (args, kwargs))
        known_shape = find_result(base, args, kwargs)
        out = func(*args, **kwargs) if known_shape is None else known_shape
        names = handler(trace, out, *_map_tensors(trace, args, tensors), **kwargs)
        if isinstance(names, str):
            first = out if isinstance(out, torch.Tensor) else out[0]
            trace.bind(first, names)
        else:
            for tensor, name in zip(out, names, strict=True):
                trace.bind(tensor, name)
        return out

    def _constant(
        self, func: Any, args: Any, kwargs: Any, tensors: list[torch.Tensor], known: list[Any]
    ) -> Any:
        """Run an operator on values, and hand out meta tensors that stand for its results."""
        trace = self._trace
        table = {id(t): k for t, k in zip(tensors, known, strict=True)}
        real_args, real_kwargs = tree_map_only(torch.Tensor, lambda t: table[id(t)], (args, kwargs))
        if "device" in real_kwargs or not tensors:
            real_kwargs = {**real_kwargs, "device": "cpu"}
        if str(func).rsplit(".", 1)[0].endswith("_"):
            # In place: the value is replaced, not written into, because it may be a buffer.
            real_args = (real_args[0].clone(), *real_args[1:])
            trace.bind_known(args[0], func(*real_args, **real_kwargs))
            return args[0]
        result = func(*real_args, **real_kwargs)

        def stand_in(value: torch.Tensor) -> torch.Tensor:
            return trace.bind_known(torch.empty_like(value, device="meta"), value)

        return tree_map_only(torch.Tensor, stand_in, result)

    def _in_place(self, func: Any, base: str, args: Any, kwargs: Any) -> Any:
        target = args[0]
        if target._is_view():
            raise InputError(
                f"{func} in {self._trace.where()} writes into part of a tensor, which ONNX cannot; "
                f"use the out-of-place operation"
            )
        packet = getattr(torch.ops.aten, base.removeprefix("aten.").removesuffix("_"))
        name = "default" if base == "aten.copy_" else func._overloadname
        if base == "aten.copy_":
            call = (args[1], list(target.shape))
            result = self.__torch_dispatch__(torch.ops.aten.expand.default, (), call)
        else:
            result = self.__torch_dispatch__(getattr(packet, name), (), args, kwargs)
        self._trace.bind(target, self._trace.name(result))
        return target


def _map_tensors(trace: Trace, args: Any, tensors: list[torch.Tensor]) -> Any:
    """Give handlers the tensors the trace knows, in place of their meta copies."""
    real = iter(tensors)
    return tree_map_only(torch.Tensor, lambda t: next(real), args)


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.device.type == "meta" else torch.empty_like(tensor, device="meta")


def _list_tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

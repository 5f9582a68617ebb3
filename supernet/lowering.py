"""Turns an eval-mode torch module into a Graph by running it once on tensors without data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

from supernet.graph import BATCH, Attribute, Constant, Graph, Node, TensorSpec
from supernet.lowering_ops import FUNCTIONS, OPERATORS, SHAPES

# A prime no layer size is likely to be a multiple of: every dimension that is a multiple of it
# came from the batch.
_SENTINELS = (211, 223, 227, 229, 233, 239, 241, 251)

_LIKE = frozenset(
    f"aten.{name}"
    for name in ("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones",
                 "new_full", "new_empty")
)  # fmt: skip


def lower(
    module: nn.Module,
    inputs: Sequence[torch.Tensor],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    scope: str = "",
    **kwargs: Any,
) -> tuple[Graph, dict[str, np.ndarray | None]]:
    """Trace ``module(*inputs, **kwargs)`` into ONNX operators.

    The forward runs on meta tensors, so nothing is computed: 5-10 ms for a residual block. Only
    shapes and dtypes of ``inputs`` are read; their first dimension is taken as the batch and
    comes out dynamic.

    Args:
        module: a plain module in eval mode, on any device including meta.
        inputs: example tensors, first dimension the batch.
        input_names: names of the graph's inputs; default "input", "input1", ...
        output_names: names of the graph's outputs; default "output", "output1", ...
        scope: module path put before the paths inside ``module``.
        kwargs: further arguments of the forward that are not tensors.

    Returns:
        The graph, and the weights' values by parameter or buffer name (None on meta).

    Raises:
        ValueError: if the module is in training mode or uses an operator that has no mapping.
    """
    if module.training:
        raise ValueError(f"{type(module).__name__} is in training mode; call .eval() first")
    trace = Trace(module, inputs, scope)
    if input_names is None:
        input_names = ["input" if i == 0 else f"input{i}" for i in range(len(inputs))]
    metas = [trace.add_input(n, t) for n, t in zip(input_names, inputs, strict=True)]
    with torch.no_grad(), ExitStack() as stack:
        for path, child in module.named_modules():
            stack.callback(child.register_forward_pre_hook(trace.enter(path)).remove)
            stack.callback(child.register_forward_hook(trace.leave).remove)
        with _Dispatch(trace), _Function(trace):
            result = functional_call(module, trace.state, tuple(metas), kwargs)
    outputs = _tensors(result)
    if output_names is None:
        output_names = ["output" if i == 0 else f"output{i}" for i in range(len(outputs))]
    return trace.finish(outputs, output_names), trace.values()


class Trace:
    """What one trace has recorded so far: tensor names, nodes, weights, constants and costs."""

    def __init__(self, module: nn.Module, inputs: Sequence[torch.Tensor], scope: str) -> None:
        self.batch = _sentinel(module, inputs)
        self.inputs: list[TensorSpec] = []
        self.nodes: list[Node] = []
        self.constants: dict[str, Constant] = {}
        self.macs = 0
        self.state: dict[str, torch.Tensor] = {}
        self._sources: dict[str, torch.Tensor] = {}
        self._weights: dict[str, TensorSpec] = {}
        self._parameters: set[str] = set()
        self._names: dict[int, str] = {}
        self._known: dict[int, torch.Tensor] = {}
        self._literals: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._alive: list[torch.Tensor] = []  # keeps ids unique while they are used as keys
        self._scopes = [(scope, type(module).__name__)]
        self._root = scope
        self._batch_vector = ""
        self._add_state(module)

    # -- tensors ---------------------------------------------------------------------------

    def _add_state(self, module: nn.Module) -> None:
        metas: dict[int, torch.Tensor] = {}
        named = [(n, p, True) for n, p in module.named_parameters(remove_duplicate=False)]
        named += [(n, b, False) for n, b in module.named_buffers(remove_duplicate=False)]
        for name, tensor, trainable in named:
            if id(tensor) not in metas:
                meta = torch.empty_like(tensor, device="meta")
                metas[id(tensor)] = meta
                has_data = tensor.device.type != "meta"
                if has_data and not tensor.is_floating_point():
                    self._known[id(meta)] = tensor.detach()
                else:
                    self._sources[name] = tensor
                    self._names[id(meta)] = name
                    if trainable:
                        self._parameters.add(name)
            self.state[name] = metas[id(tensor)]
        self._alive.extend(metas.values())

    def add_input(self, name: str, example: torch.Tensor) -> torch.Tensor:
        """Register a graph input shaped like ``example`` with the sentinel batch size."""
        meta = torch.empty((self.batch, *example.shape[1:]), dtype=example.dtype, device="meta")
        self.inputs.append(TensorSpec(name, self.symbolic(meta.shape), dtype_name(example.dtype)))
        return self.bind(meta, name)

    def bind(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        """Say that ``tensor`` is the graph tensor ``name``."""
        self._names[id(tensor)] = name
        self._known.pop(id(tensor), None)
        self._alive.append(tensor)
        return tensor

    def bind_known(self, tensor: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Say that ``tensor`` always has ``value``; it enters the graph only where it is used."""
        self._known[id(tensor)] = value
        self._names.pop(id(tensor), None)
        self._alive.append(tensor)
        return tensor

    def known(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The value of a tensor that does not depend on inputs or weights."""
        if tensor.device.type != "meta":
            return tensor
        return self._known.get(id(tensor))

    def name(self, tensor: torch.Tensor, *, broadcast: bool = False) -> str:
        """The graph name of a tensor.

        Args:
            tensor: any tensor the trace has seen.
            broadcast: the reader broadcasts, so a batch of equal rows may be one row.

        Raises:
            ValueError: if the tensor was never written to.
        """
        name = self._names.get(id(tensor))
        if name is not None:
            if name in self._sources and name not in self._weights:
                shape = tuple(int(d) for d in tensor.shape)
                self._weights[name] = TensorSpec(name, shape, dtype_name(tensor.dtype))
            return name
        value = self.known(tensor)
        if value is None:
            raise ValueError(
                f"{self.where()} reads a tensor whose values were made outside of the traced "
                f"forward; make it a parameter, a buffer, or compute it in forward()"
            )
        return self._materialise(value, broadcast)

    def _materialise(self, value: torch.Tensor, broadcast: bool) -> str:
        full = tuple(value.shape)
        with _disable_current_modes():
            array = value.detach().cpu().numpy()
        for axis, size in enumerate(full):
            if size == self.batch:
                first = array.take([0], axis)
                if not (first == array).all():
                    raise ValueError(f"{self.where()} makes a constant that differs by sample")
                array = first
        name = self.constant(np.ascontiguousarray(array))
        if broadcast or array.shape == full:
            return name
        return self.emit("Expand", [name, self.shape_tensor(full)])

    def constant(self, array: np.ndarray | Sequence[int]) -> str:
        """A constant's name; equal constants are shared. Sequences become int64 vectors."""
        array = np.asarray(array, dtype=None if isinstance(array, np.ndarray) else np.int64)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._literals:
            name = f"constant_{len(self._literals)}"
            self._literals[key] = name
            self.constants[name] = Constant.from_array(name, array)
        return self._literals[key]

    def scalar(self, value: float, dtype: torch.dtype) -> str:
        """A rank-0 constant of exactly ``dtype``."""
        return self.constant(np.asarray(value, dtype=dtype_name(dtype)))

    # -- batch -----------------------------------------------------------------------------

    def symbolic(self, shape: Sequence[int]) -> tuple[int | str, ...]:
        """A traced shape with the sentinel turned back into ``"batch"``."""
        factors = [(int(d), int(d) // self.batch) for d in shape]
        return tuple(
            d if d == 0 or d % self.batch else BATCH if k == 1 else f"{BATCH}*{k}"
            for d, k in factors
        )

    def shape_tensor(self, shape: Sequence[int]) -> str:
        """Name of an int64 vector holding ``shape``, computed from the input where dynamic.

        Raises:
            ValueError: if a dimension is a multiple of the batch.
        """
        shape = [int(d) for d in shape]
        dynamic = [i for i, d in enumerate(shape) if d and d % self.batch == 0]
        if not dynamic:
            return self.constant(shape)
        if any(shape[i] != self.batch for i in dynamic):
            raise ValueError(f"{self.where()} makes a tensor whose size is a multiple of the batch")
        if not self._batch_vector:
            first = self.inputs[0].name
            self._batch_vector = self.emit("Shape", [first], start=0, end=1)
        parts: list[str] = []
        for d in shape:
            parts.append(self._batch_vector if d == self.batch else self.constant([d]))
        return parts[0] if len(parts) == 1 else self.emit("Concat", parts, axis=0)

    # -- nodes -----------------------------------------------------------------------------

    def emit(self, op: str, inputs: Sequence[str], **attributes: Attribute) -> str:
        """Append a node with one output and return the output's name."""
        return self.emit_many(op, inputs, 1, **attributes)[0]

    def emit_many(
        self, op: str, inputs: Sequence[str], count: int, **attributes: Attribute
    ) -> tuple[str, ...]:
        """Append a node with ``count`` outputs and return their names."""
        outputs = tuple(f"v{len(self.nodes)}_{i}" if i else f"v{len(self.nodes)}"
                        for i in range(count))  # fmt: skip
        pairs = tuple(sorted(attributes.items()))
        self.nodes.append(Node(op, tuple(inputs), outputs, pairs, self._scopes[-1][0]))
        return outputs

    def count_macs(self, output: torch.Tensor, per_element: int) -> None:
        """Add the multiply-accumulates of ``output``, per sample."""
        total = output.numel() * per_element
        self.macs += total // self.batch if total % self.batch == 0 else total

    def where(self) -> str:
        """The module being run, for error messages."""
        path, kind = self._scopes[-1]
        return f"module {path!r} ({kind})" if path else f"the module ({kind})"

    def enter(self, path: str) -> Callable[..., None]:
        """A forward pre-hook that opens the scope of the module at ``path``."""
        full = ".".join(part for part in (self._root, path) if part)

        def hook(module: nn.Module, args: object) -> None:
            self._scopes.append((full, type(module).__name__))

        return hook

    def leave(self, module: nn.Module, args: object, output: object) -> None:
        """A forward hook that closes the scope."""
        self._scopes.pop()

    # -- result ----------------------------------------------------------------------------

    def finish(self, outputs: Sequence[torch.Tensor], names: Sequence[str]) -> Graph:
        """The graph with ``outputs`` named ``names``, without nodes nobody reads."""
        specs = []
        renamed: dict[str, str] = {}
        for name, tensor in zip(names, outputs, strict=True):
            source = self.name(tensor)
            if source in renamed or not source.startswith("v"):
                source = self.emit("Identity", [source])
            renamed[source] = name
            specs.append(TensorSpec(name, self.symbolic(tensor.shape), dtype_name(tensor.dtype)))
        needed = set(renamed)
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                kept.append(node)
        nodes = tuple(
            Node(
                n.op,
                tuple(renamed.get(i, i) for i in n.inputs),
                tuple(renamed.get(o, o) for o in n.outputs),
                n.attributes,
                n.scope,
            )
            for n in reversed(kept)
        )
        self._weights = {n: w for n, w in self._weights.items() if n in needed}
        return Graph(
            inputs=tuple(self.inputs),
            outputs=tuple(specs),
            nodes=nodes,
            weights=tuple(self._weights.values()),
            constants=tuple(c for c in self.constants.values() if c.name in needed),
            macs=self.macs,
            parameters=sum(
                self._sources[n].numel() for n in self._weights if n in self._parameters
            ),
        )

    def values(self) -> dict[str, np.ndarray | None]:
        """Values of the graph's weights, None for those on meta."""
        return {
            n: None if t.device.type == "meta" else t.detach().cpu().contiguous().numpy()
            for n, t in self._sources.items()
            if n in self._weights
        }


class _Function(TorchFunctionMode):
    """Catches calls that torch would take apart before the dispatcher sees them."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        handler = FUNCTIONS.get(func)
        if handler is not None:
            return handler(self._trace, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class _Dispatch(TorchDispatchMode):
    """Maps every ATen operator that is not about constants to ONNX nodes."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        trace, kwargs = self._trace, kwargs or {}
        op = str(func)
        base = op.rsplit(".", 1)[0]
        if op in OPERATORS and op in SHAPES:
            out = SHAPES[op](*args, **kwargs)
            return trace.bind(out, OPERATORS[op](trace, out, *args, **kwargs))
        if base == "aten.empty":
            return func(*args, **{**kwargs, "device": "meta"})
        tensors = _tensors((args, kwargs))
        if base in _LIKE:
            like = torch.empty(tensors[0].shape, dtype=tensors[0].dtype)
            value = func(like, *args[1:], **{**kwargs, "device": "cpu"})
            return trace.bind_known(torch.empty_like(value, device="meta"), value)
        known = [trace.known(t) for t in tensors]
        if all(k is not None for k in known):
            return self._constant(func, args, kwargs, tensors, known)
        handler = OPERATORS.get(op) or OPERATORS.get(base)
        if base.endswith("_") and handler is None:
            return self._in_place(func, base, args, kwargs)
        if handler is None:
            raise ValueError(
                f"{op} in {trace.where()} has no ONNX mapping; replace that operation in the "
                f"module, or add it to supernet/lowering_ops.py"
            )
        args, kwargs = tree_map_only(torch.Tensor, _to_meta, (args, kwargs))
        out = func(*args, **kwargs)
        names = handler(trace, out, *_tensor_map(trace, args, tensors), **kwargs)
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
        real_args, real_kwargs = tree_map_only(
            torch.Tensor, lambda t: table[id(t)], (args, kwargs)
        )
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
            raise ValueError(
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


def _tensor_map(trace: Trace, args: Any, tensors: list[torch.Tensor]) -> Any:
    """Give handlers the tensors the trace knows, in place of their meta copies."""
    real = iter(tensors)
    return tree_map_only(torch.Tensor, lambda t: next(real), args)


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.device.type == "meta" else torch.empty_like(tensor, device="meta")


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def dtype_name(dtype: torch.dtype) -> str:
    """The numpy name of a torch dtype: ``"float32"``."""
    return str(dtype).removeprefix("torch.")


def _sentinel(module: nn.Module, inputs: Sequence[torch.Tensor]) -> int:
    sizes = {int(d) for t in inputs for d in t.shape[1:]}
    sizes |= {int(d) for p in module.parameters() for d in p.shape}
    sizes |= {int(d) for b in module.buffers() for d in b.shape}
    for candidate in _SENTINELS:
        if all(size % candidate or size == 0 for size in sizes):
            return candidate
    raise ValueError(f"every trial batch size {_SENTINELS} divides a layer size of this module")

"""What one trace of a module has recorded: tensor names, nodes, weights, constants and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from supernet.errors import InputError
from supernet.graph.language import BATCH, Attribute, Constant, Graph, Node, TensorSpec
from supernet.graph.lengths import Lengths
from supernet.quantization.tracking import find_layer, name_layer

# A prime no layer size is likely to be a multiple of: every dimension that is a multiple of it
# came from the batch.
_SENTINELS = (211, 223, 227, 229, 233, 239, 241, 251)


class Trace:
    """What one trace has recorded so far: tensor names, nodes, weights, constants and costs."""

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[torch.Tensor],
        scope: str,
        lengths: Mapping[str, Mapping[int, str]] | None = None,
    ) -> None:
        parameters = list(module.named_parameters(remove_duplicate=False))
        buffers = list(module.named_buffers(remove_duplicate=False))
        self.batch = _choose_sentinel(inputs, [t for _, t in (*parameters, *buffers)])
        sizes = {
            int(d) for t in (*inputs, *(t for _, t in (*parameters, *buffers))) for d in t.shape
        }
        self.lengths = Lengths(lengths or {}, sizes)
        self.inputs: list[TensorSpec] = []
        self.nodes: list[Node] = []
        self.constants: dict[str, Constant] = {}
        self.macs = 0
        self.shared: dict[str, Callable[[], Any]] = {}
        self.state: dict[str, torch.Tensor] = {}
        self._sources: dict[str, torch.Tensor] = {}
        self._weights: dict[str, TensorSpec] = {}
        self._made: dict[str, Callable[[], np.ndarray] | None] = {}
        self._producers: dict[str, Node] = {}
        self._parameters: set[str] = set()
        self._names: dict[int, str] = {}
        self._known: dict[int, torch.Tensor] = {}
        self._literals: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._alive: list[torch.Tensor] = []  # keeps ids unique while they are used as keys
        self._scopes = [(scope, type(module).__name__)]
        self._root = scope
        self._batch_vector = ""
        self._sizes: dict[int, str] = {}
        self._add_state(parameters, buffers)

    # -- tensors ---------------------------------------------------------------------------

    def _add_state(
        self,
        parameters: Sequence[tuple[str, torch.Tensor]],
        buffers: Sequence[tuple[str, torch.Tensor]],
    ) -> None:
        metas: dict[int, torch.Tensor] = {}
        named = [*((n, p, True) for n, p in parameters), *((n, b, False) for n, b in buffers)]
        for name, tensor, trainable in named:
            if id(tensor) not in metas:
                meta = _make_meta(tensor)
                name_layer(meta, find_layer(tensor))
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
        """Register a graph input shaped like ``example`` with sentinels where it is dynamic."""
        shape = self.lengths.fill(name, (self.batch, *example.shape[1:]))
        meta = torch.empty(shape, dtype=example.dtype, device="meta")
        self.inputs.append(TensorSpec(name, self.symbolic(meta.shape), name_dtype(example.dtype)))
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
            InputError: if the tensor was never written to.
        """
        name = self._names.get(id(tensor))
        if name is not None:
            if name in self._sources and name not in self._weights:
                shape = tuple(int(d) for d in tensor.shape)
                self._weights[name] = TensorSpec(name, shape, name_dtype(tensor.dtype))
            return name
        value = self.known(tensor)
        if value is None:
            raise InputError(
                f"{self.where()} reads a tensor whose values were made outside of the traced "
                f"forward; make it a parameter, a buffer, or compute it in forward()"
            )
        return self._materialise(value, broadcast)

    def find_source_name(self, tensor: torch.Tensor) -> str:
        """The path of a parameter or buffer of the module, without making it part of the graph.

        Raises:
            InputError: It is none.
        """
        name = self._names.get(id(tensor), "")
        if name not in self._sources:
            raise InputError(
                f"{self.where()} quantizes a weight that is made in its forward pass; only "
                "parameters can be stored as integers"
            )
        return name

    def find_source(self, name: str) -> torch.Tensor:
        """The parameter or buffer of a path, with its values."""
        return self._sources[name]

    def is_float_weight(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is a parameter or buffer as the module has it."""
        return self._names.get(id(tensor), "") in self._sources

    def name_stored(self, name: str) -> str:
        """The name of a parameter in another form: its own, unless floats of it are read, too."""
        read = name in self._weights and name not in self._made
        return f"{name}.integers" if read else name

    def add_weight(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        value: Callable[[], np.ndarray] | None = None,
        *,
        bits: int = 0,
    ) -> str:
        """Make a tensor that is stored in another form than the module has it part of the graph.

        Args:
            name: Its name in the graph; a parameter of that name is stored in this form alone.
            shape: Its shape.
            dtype: Its numpy dtype name, or ``"int4"``.
            value: Gives its values when they are asked for.
            bits: Stored bits of one entry, if fewer than those of the dtype.
        """
        self._weights[name] = TensorSpec(name, shape, dtype, bits)
        self._made[name] = value
        return name

    def find_weight(self, name: str) -> TensorSpec:
        """What is known of a weight of the graph."""
        return self._weights[name]

    def find_producer(self, name: str) -> Node | None:
        """The node that makes a tensor of the graph."""
        return self._producers.get(name)

    def skip(self, name: str, operators: Sequence[str]) -> str:
        """The tensor before some operators: what they would do is done in another way."""
        node = self._producers.get(name)
        while node is not None and node.op in operators:
            name = node.inputs[0]
            node = self._producers.get(name)
        return name

    def _materialise(self, value: torch.Tensor, broadcast: bool) -> str:
        full = tuple(value.shape)
        if self.lengths.are_in(full):
            raise InputError(f"{self.where()} makes a constant whose size follows a dynamic length")
        with _disable_current_modes():
            array = value.detach().cpu().numpy()
        for axis, size in enumerate(full):
            if size == self.batch:
                first = array.take([0], axis)
                if not (first == array).all():
                    raise InputError(f"{self.where()} makes a constant that differs by sample")
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
        return self.constant(np.asarray(value, dtype=name_dtype(dtype)))

    # -- batch and lengths ---------------------------------------------------------------------

    def symbolic(self, shape: Sequence[int]) -> tuple[int | str, ...]:
        """A traced shape with sentinels turned back into ``"batch"`` and the names of lengths."""
        return tuple(self._name_size(int(d)) for d in shape)

    def _name_size(self, size: int) -> int | str:
        if self.lengths.is_dynamic(size):
            return self.lengths.describe(size)
        if size == 0 or size % self.batch:
            return size
        times = size // self.batch
        return BATCH if times == 1 else f"{BATCH}*{times}"

    def size(self, size: int) -> str:
        """Name of an int64 vector of one entry that holds a size, dynamic or not."""
        if not self.lengths.is_dynamic(size):
            return self.constant([size])
        if size not in self._sizes:
            terms = [
                self.emit("Shape", [name], start=axis, end=axis + 1)
                for name, axis in self.lengths.find_places(size)
            ]
            self._sizes[size] = terms[0] if len(terms) == 1 else self.emit("Add", terms)
        return self._sizes[size]

    def shape_tensor(self, shape: Sequence[int]) -> str:
        """Name of an int64 vector holding ``shape``, computed from the input where dynamic.

        Raises:
            InputError: if a dimension is a multiple of the batch.
        """
        shape = [int(d) for d in shape]
        dynamic = [i for i, d in enumerate(shape) if d and d % self.batch == 0]
        if not dynamic and not self.lengths.are_in(shape):
            return self.constant(shape)
        if any(shape[i] != self.batch for i in dynamic):
            raise InputError(f"{self.where()} makes a tensor whose size is a multiple of the batch")
        if dynamic and not self._batch_vector:
            first = self.inputs[0].name
            self._batch_vector = self.emit("Shape", [first], start=0, end=1)
        parts: list[str] = []
        for d in shape:
            parts.append(self._batch_vector if d == self.batch else self.size(d))
        return parts[0] if len(parts) == 1 else self.emit("Concat", parts, axis=0)

    # -- nodes -----------------------------------------------------------------------------

    def emit(self, op: str, inputs: Sequence[str], **attributes: Attribute) -> str:
        """Append a node with one output and return the output's name."""
        return self.emit_many(op, inputs, 1, **attributes)[0]

    def emit_many(
        self, op: str, inputs: Sequence[str], count: int, **attributes: Attribute
    ) -> tuple[str, ...]:
        """Append a node with ``count`` outputs and return their names."""
        outputs = tuple(
            f"v{len(self.nodes)}_{i}" if i else f"v{len(self.nodes)}" for i in range(count)
        )
        pairs = tuple(sorted(attributes.items()))
        node = Node(op, tuple(inputs), outputs, pairs, self._scopes[-1][0])
        self.nodes.append(node)
        self._producers.update(dict.fromkeys(outputs, node))
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
            specs.append(TensorSpec(name, self.symbolic(tensor.shape), name_dtype(tensor.dtype)))
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
            # Of no use at lengths that nothing has.
            macs=0 if self.lengths.names else self.macs,
            parameters=sum(
                self._sources[n].numel() for n in self._weights if n in self._parameters
            ),
        )

    def values(self) -> dict[str, np.ndarray | None]:
        """Values of the graph's weights, None for those on meta."""
        return {
            n: None if t.device.type == "meta" else t.detach().cpu().contiguous().numpy()
            for n, t in self._sources.items()
            if n in self._weights and n not in self._made
        } | {
            n: None if write is None else write()
            for n, write in self._made.items()
            if n in self._weights
        }


def _make_meta(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_contiguous():
        # The same in a hundredth of the time: torch finds the strides in Python.
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return torch.empty_like(tensor, device="meta")


def name_dtype(dtype: torch.dtype) -> str:
    """Name a torch dtype as numpy does: ``"float32"``."""
    return str(dtype).removeprefix("torch.")


def _choose_sentinel(inputs: Sequence[torch.Tensor], state: Sequence[torch.Tensor]) -> int:
    sizes = {int(d) for t in inputs for d in t.shape[1:]}
    sizes |= {int(d) for t in state for d in t.shape}
    for candidate in _SENTINELS:
        if all(size % candidate or size == 0 for size in sizes):
            return candidate
    raise InputError(f"every trial batch size {_SENTINELS} divides a layer size of this module")

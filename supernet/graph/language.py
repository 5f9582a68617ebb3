"""The small graph language shared by export, cost counting and profiling; needs no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from supernet.errors import InputError

BATCH = "batch"
"""Name of the symbolic first dimension."""

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named tensor's shape and numpy dtype name; ``"batch"`` marks the dynamic dimension.

    Attributes:
        bits: stored bits of one entry where they are fewer than its dtype's; 0 for all of them.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    bits: int = 0


@dataclass(frozen=True, slots=True)
class Constant:
    """A small tensor whose values belong to the structure (shapes, masks, indices).

    Attributes:
        data: the values as little-endian bytes in C order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def from_array(cls, name: str, array: np.ndarray) -> Constant:
        """Store ``array`` (any shape) under ``name``."""
        array = np.asarray(array)
        return cls(name, array.dtype.name, tuple(array.shape), array.tobytes())

    def array(self) -> np.ndarray:
        """The values as a read-only array of shape ``self.shape``."""
        return np.frombuffer(self.data, dtype=self.dtype).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX operator; ``scope`` is the module path it came from.

    Attributes:
        op: ONNX operator type.
        inputs: tensor names, ``""`` for an omitted optional input.
        outputs: tensor names.
        attributes: sorted ``(name, value)`` pairs.
        scope: module path; becomes the prefix of the node's name.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()
    scope: str = ""


@dataclass(frozen=True)
class Graph:
    """A network or a piece of one: operators in execution order, without weight values.

    Attributes:
        inputs: graph inputs, first dimension usually ``"batch"``.
        outputs: graph outputs.
        nodes: operators in topological order.
        weights: tensors whose values come from a checkpoint.
        constants: tensors whose values are part of the structure.
        macs: multiply-accumulates of convolutions and matrix products for one sample.
        parameters: number of trainable weights (buffers excluded).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: tuple[Node, ...]
    weights: tuple[TensorSpec, ...]
    constants: tuple[Constant, ...]
    macs: int
    parameters: int

    @cached_property
    def digest(self) -> str:
        """12 hex digits of the structure: operators, attributes, shapes, dtypes and constants.

        Tensor names, module paths and weight values do not enter, so two blocks that cost the
        same have the same digest.
        """
        names: dict[str, str] = {"": ""}
        specs: dict[str, tuple[object, ...]] = {
            w.name: ("weight", list(w.shape), w.dtype) for w in self.weights
        }
        specs |= {
            c.name: ("constant", list(c.shape), c.dtype, hashlib.sha256(c.data).hexdigest())
            for c in self.constants
        }
        used: list[object] = []

        def rename(name: str) -> str:
            if name not in names:
                names[name] = f"t{len(names)}"
                used.append([names[name], specs.get(name)])
            return names[name]

        inputs = [[rename(i.name), list(i.shape), i.dtype] for i in self.inputs]
        nodes = [
            [
                n.op,
                [rename(i) for i in n.inputs],
                [rename(o) for o in n.outputs],
                [[key, value] for key, value in n.attributes],
            ]
            for n in self.nodes
        ]
        outputs = [[rename(o.name), list(o.shape), o.dtype] for o in self.outputs]
        text = json.dumps([inputs, nodes, outputs, used], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def fix_batch(graph: Graph, batch: int) -> Graph:
    """Set the symbolic batch dimension of a graph's inputs and outputs to ``batch``.

    Raises:
        InputError: if ``batch`` is not positive.
    """
    if batch < 1:
        raise InputError(f"batch = {batch} is not a batch size; it must be 1 or more")

    def fixed(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            replace(s, shape=tuple(batch if d == BATCH else d for d in s.shape)) for s in specs
        )

    return replace(graph, inputs=fixed(graph.inputs), outputs=fixed(graph.outputs))

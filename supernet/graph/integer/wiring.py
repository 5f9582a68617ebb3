"""Who makes and who reads each tensor of a graph, and between which quantizers a node stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from supernet.graph.integer import integer_kernels as kernels
from supernet.graph.integer.reference_operators import read_integer
from supernet.graph.language import Graph, Node

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Parameters:
    """Names of a quantizer's tensors.

    Attributes:
        values: the whole numbers.
        step: their scale.
        zero_point: their zero point, ``""`` if there is none.
        block: how many entries along the axis share a scale; 0 if it is not blockwise.
    """

    values: str
    step: str
    zero_point: str
    block: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the names that stand for a tensor."""
        return tuple(n for n in (self.values, self.step, self.zero_point) if n)

    def scale(self, tensors: Tensors) -> kernels.Scale:
        """The scale and zero point among ``tensors``."""
        zero_point = (
            tensors[self.zero_point] if self.zero_point else torch.zeros((), dtype=torch.int8)
        )
        return kernels.Scale(tensors[self.step], zero_point)

    def read(self, tensors: Tensors) -> kernels.Quantized:
        """The whole numbers among ``tensors`` and what they stand for."""
        return kernels.Quantized(tensors[self.values], self.scale(tensors))


class Wiring:
    """Who makes and who reads each tensor of a graph, as far as its outputs depend on it.

    Args:
        graph: the network.
        stored: values of the graph's weights and constants, by name.
    """

    def __init__(self, graph: Graph, stored: Tensors) -> None:
        self.graph = graph
        self.stored = stored

    @cached_property
    def makers(self) -> dict[str, Node]:
        """The node that makes each tensor."""
        return {output: node for node in self.graph.nodes for output in node.outputs}

    @cached_property
    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor; a node that reads it twice counts twice."""
        needed = set(self.outputs)
        readers: dict[str, list[Node]] = {}
        for node in reversed(self.graph.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                for name in node.inputs:
                    readers.setdefault(name, []).append(node)
        return readers

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the graph's outputs."""
        return frozenset(o.name for o in self.graph.outputs)

    def only_reader(self, name: str) -> Node | None:
        """The one node that reads a tensor; None if there are more, or the graph returns it."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def is_read(self, node: Node) -> bool:
        """Whether the graph's outputs depend on a node."""
        return any(name in self.readers or name in self.outputs for name in node.outputs)

    def stored_rank(self, name: str) -> int | None:
        """Rank of a stored tensor, or of what it was dequantized from; None if not stored."""
        found = self.dequantized(name)
        tensor = self.stored.get(name if found is None else found.values)
        return None if tensor is None else tensor.dim()

    def dequantized(self, name: str) -> Parameters | None:
        """What a tensor was dequantized from."""
        node = self.makers.get(name)
        if node is None or node.op != "DequantizeLinear":
            return None
        zero_point = node.inputs[2] if len(node.inputs) > 2 else ""
        block = read_integer(dict(node.attributes), "block_size", 0)
        return Parameters(node.inputs[0], node.inputs[1], zero_point, block)

    def activation(self, name: str) -> Parameters | None:
        """What a tensor was dequantized from, if that is uint8 with one scale."""
        found = self.dequantized(name)
        if found is None or not {found.step, found.zero_point} <= self.stored.keys():
            return None
        zero_point = self.stored[found.zero_point]
        return found if zero_point.dtype == torch.uint8 and zero_point.numel() == 1 else None

    def weight(self, name: str, dtype: torch.dtype = torch.int8) -> Parameters | None:
        """What a tensor was dequantized from, if that is stored whole numbers of ``dtype``."""
        found = self.dequantized(name)
        if found is None or found.block or found.values not in self.stored:
            return None
        return found if self.stored[found.values].dtype == dtype else None

    def quantizer(self, name: str) -> Parameters | None:
        """The uint8 quantizer that alone reads a tensor, past a Relu or Clip that it makes idle."""
        node = self.only_reader(name)
        bounds: list[Node] = []
        while node is not None and node.op in ("Relu", "Clip"):
            bounds.append(node)
            node = self.only_reader(node.outputs[0])
        if node is None or node.op != "QuantizeLinear" or len(node.inputs) < 3:
            return None
        found = Parameters(node.outputs[0], node.inputs[1], node.inputs[2])
        zero_point = self.stored.get(found.zero_point)
        if zero_point is None or zero_point.dtype != torch.uint8:
            return None
        return found if all(self._is_idle(b, found) for b in bounds) else None

    def _is_idle(self, bound: Node, quantizer: Parameters) -> bool:
        scale = quantizer.scale(self.stored)
        zero_point = scale.zero_point.to(torch.float32)
        low, high = -zero_point * scale.step, (kernels.LEVELS - 1 - zero_point) * scale.step
        if bound.op == "Relu":
            return bool(low == 0)
        below, above = (
            self.stored.get(name) if name else None for name in (*bound.inputs[1:], "", "")[:2]
        )
        return (below is None or bool(below <= low)) and (above is None or bool(above >= high))

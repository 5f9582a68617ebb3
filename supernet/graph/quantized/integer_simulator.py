"""Runs a quantized graph as ONNX Runtime's CPU provider does, without ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.graph.language import Graph, Node
from supernet.graph.quantized.fused_operators import FusedOperator, find_fused_operators
from supernet.graph.quantized.graph_values import read_inputs, read_stored
from supernet.graph.quantized.reference_operators import compute
from supernet.graph.quantized.runtime_rewrites import rewrite

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Step:
    """Something to run: which tensors it needs, which it makes, and how."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    run: Callable[[Tensors], Sequence[Tensor]]


def simulate(
    graph: Graph,
    values: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    *,
    keep: Collection[str] | None = None,
) -> dict[str, np.ndarray]:
    """Run a graph with whole-number arithmetic wherever ONNX Runtime's CPU provider has it.

    Nodes between DequantizeLinear and QuantizeLinear are run as the quantized operator that the
    runtime makes of them: exact sums, then float32 multiplications in the order of its kernels.
    Everything else is computed in float32 by torch. Graphs without any quantized tensor run as
    well. A tensor inside of a fused operator, which the runtime never makes, is the float32 one.

    Args:
        graph: the network.
        values: the graph's weights by name; whole numbers of 4 bits as int8 or ``int4``.
        inputs: a tensor per graph input, of the graph's element types.
        keep: names of the tensors to return, any of the graph; None for the graph's outputs.

    Returns:
        The kept tensors by name.

    Raises:
        InputError: if a weight, an input or a kept tensor is missing, or an operator is unknown.
    """
    wanted = [o.name for o in graph.outputs] if keep is None else list(keep)
    given = read_inputs(graph, inputs)
    with torch.no_grad():
        rewritten, stored = rewrite(graph, read_stored(graph, values))
        tensors = stored | given
        fused = find_fused_operators(rewritten, stored)
        _run(_plan(rewritten, fused, wanted, tensors), wanted, tensors)
    return {name: tensors[name].contiguous().numpy() for name in wanted}


def _plan(
    graph: Graph, fused: Sequence[FusedOperator], wanted: Sequence[str], given: Tensors
) -> list[_Step]:
    """The steps that the wanted tensors need, in order."""
    by_output = {operator.output: operator for operator in fused}
    steps = [
        _make_fused_step(by_output[node.outputs[0]])
        if node.outputs and node.outputs[0] in by_output
        else _make_step(node)
        for node in graph.nodes
    ]
    made = {name for step in steps for name in step.writes} | set(given)
    unknown = [name for name in wanted if name not in made]
    if unknown:
        raise InputError(f"tensor {unknown[0]!r} is to be kept but is not of this graph")
    needed = set(wanted)
    plan: list[_Step] = []
    for step in reversed(steps):
        if needed.intersection(step.writes):
            needed.update(step.reads)
            plan.append(step)
    return plan[::-1]


def _make_step(node: Node) -> _Step:
    def run(tensors: Tensors) -> Sequence[Tensor]:
        return compute(node, [tensors[name] if name else None for name in node.inputs])

    return _Step(tuple(name for name in node.inputs if name), node.outputs, run)


def _make_fused_step(operator: FusedOperator) -> _Step:
    return _Step(operator.reads, (operator.output,), lambda tensors: (operator.run(tensors),))


def _run(plan: Sequence[_Step], wanted: Sequence[str], tensors: Tensors) -> None:
    """Run the steps, forgetting each tensor after the last step that reads it."""
    last = {name: index for index, step in enumerate(plan) for name in step.reads}
    kept = set(wanted)
    for index, step in enumerate(plan):
        for name, tensor in zip(step.writes, step.run(tensors), strict=False):
            if name:
                tensors[name] = tensor
        for name in step.reads:
            if last[name] == index and name not in kept:
                tensors.pop(name, None)

"""Runs a quantized graph as ONNX Runtime's CPU provider does, without ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.graph.integer.fused_operators import FusedOperator, find_fused_operators
from supernet.graph.integer.graph_values import read_inputs, read_stored, to_tensor
from supernet.graph.integer.reference_operators import compute
from supernet.graph.integer.runtime_rewrites import rewrite
from supernet.graph.language import Graph, Node

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
    return _simulate(graph, values, inputs, wanted, {})


def simulate_layers(
    graph: Graph,
    values: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    observed: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Run each layer of a graph on what another runtime made of the layers before it.

    One whole number that a float operator rounds to the other side is enough to move many of
    those behind it, so two runtimes that agree on every layer may still drift apart over a whole
    network. Here every observed tensor is made from the observed ones before it.

    Args:
        graph: the network.
        values: the graph's weights by name.
        inputs: a tensor per graph input.
        observed: tensors of the graph as the other runtime made them, by name.

    Returns:
        The observed tensors as the simulator makes them, by name.

    Raises:
        InputError: as :func:`simulate`, with an observed tensor in the place of a kept one.
    """
    return _simulate(graph, values, inputs, list(observed), observed)


def _simulate(
    graph: Graph,
    values: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    wanted: Sequence[str],
    observed: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    given = read_inputs(graph, inputs)
    replacements = {name: to_tensor(array) for name, array in observed.items()}
    with torch.no_grad():
        rewritten, stored = rewrite(graph, read_stored(graph, values))
        tensors = stored | given
        plan = _plan(rewritten, find_fused_operators(rewritten, stored), wanted, tensors)
        made = _run(plan, wanted, tensors, replacements)
    return {name: made[name].contiguous().numpy() for name in wanted}


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


def _run(
    plan: Sequence[_Step], wanted: Sequence[str], tensors: Tensors, replacements: Tensors
) -> Tensors:
    """Run the steps, forgetting each tensor after the last step that reads it.

    Args:
        plan: what to run.
        wanted: names of the tensors to return.
        tensors: those that are known; changed in place.
        replacements: what later steps read in the place of what was made.

    Returns:
        The wanted tensors as they were made.
    """
    made = {name: tensors[name] for name in wanted if name in tensors}
    last = {name: index for index, step in enumerate(plan) for name in step.reads}
    for index, step in enumerate(plan):
        for name, tensor in zip(step.writes, step.run(tensors), strict=False):
            if name in wanted:
                made[name] = tensor
            tensors[name] = replacements.get(name, tensor)
        for name in step.reads:
            if last[name] == index:
                tensors.pop(name, None)
    return made

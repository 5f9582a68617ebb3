"""What ONNX Runtime does to a graph before it fuses quantized operators, where it changes results.

Found by experiment with ONNX Runtime 1.32 and in its sources
(https://github.com/microsoft/onnxruntime, onnxruntime/core/optimizer): ConvBNFusion,
CommonSubexpressionElimination, MatMulAddFusion, QDQPropagation and WeightBiasQuantization. The
last is a trap: a float convolution or Gemm between DequantizeLinear and QuantizeLinear gets 8-bit
weights, with one scale for all channels, without being asked.

A node whose output is replaced stays in the graph, unread, so that its float output can be asked
for; :class:`supernet.graph.integer.wiring.Wiring` does not count what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from supernet.graph.integer.reference_operators import compute, quantize, read_float
from supernet.graph.integer.wiring import Wiring
from supernet.graph.language import Graph, Node

Stored = dict[str, Tensor]

CARRYING = frozenset(
    {"Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators to whose other side the runtime moves Q and DQ."""


def rewrite(graph: Graph, stored: Mapping[str, Tensor]) -> tuple[Graph, Stored]:
    """Fold, merge, carry quantizers past what moves values, and quantize float weights, in order.

    Args:
        graph: the network as it was exported.
        stored: values of its weights and constants by name.

    Returns:
        The network as the runtime sees it when it looks for quantized operators, whose Gemm may
        have an input of any rank, and the values of all stored tensors.
    """
    graph, values = _fold_constants(graph, dict(stored))
    graph = _merge_quantizers(graph)
    graph = _fold_normalizations(graph, values)
    graph = _merge_biases(graph, values)
    graph = _carry_quantizers_up(graph, values)
    graph = _carry_quantizers_down(graph, values)
    return _quantize_float_weights(graph, values)


def _fold_constants(graph: Graph, stored: Stored) -> tuple[Graph, Stored]:
    """Compute what depends on stored tensors only, except dequantized weights."""
    outputs = {o.name for o in graph.outputs}
    nodes: list[Node] = []
    for node in graph.nodes:
        foldable = node.op != "DequantizeLinear" and not outputs.intersection(node.outputs)
        if foldable and node.inputs and all(n in stored for n in node.inputs if n):
            made = compute(node, [stored[name] if name else None for name in node.inputs])
            stored |= dict(zip(node.outputs, made, strict=False))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes)), stored


def _merge_quantizers(graph: Graph) -> Graph:
    """Whoever reads what is quantized a second time in the same way reads the first."""
    outputs = {o.name for o in graph.outputs}
    known: dict[tuple[object, ...], str] = {}
    merged: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        read = replace(node, inputs=tuple(merged.get(name, name) for name in node.inputs))
        nodes.append(read)
        if read.op == "QuantizeLinear" and read.outputs[0] not in outputs:
            first = known.setdefault((read.inputs, read.attributes), read.outputs[0])
            merged[read.outputs[0]] = first
    return replace(graph, nodes=tuple(nodes))


def _fold_normalizations(graph: Graph, stored: Stored) -> Graph:
    """A convolution of stored weights takes in the normalisation that alone reads it."""
    wiring = Wiring(graph, stored)
    nodes: list[Node] = []
    folded: dict[str, Node] = {}
    for node in graph.nodes:
        nodes.append(folded.get(node.outputs[0], node))
        norm = wiring.only_reader(node.outputs[0]) if node.op == "Conv" else None
        if norm is None or norm.op != "BatchNormalization":
            continue
        if all(name in stored for name in (*node.inputs[1:], *norm.inputs[1:])):
            names = _fold_normalization(node, norm, stored)
            folded[norm.outputs[0]] = replace(
                node, inputs=(node.inputs[0], *names), outputs=norm.outputs
            )
    return replace(graph, nodes=tuple(nodes))


def _fold_normalization(conv: Node, norm: Node, stored: Stored) -> tuple[str, str]:
    scale, shift, mean, variance = (stored[name] for name in norm.inputs[1:])
    factor = scale / torch.sqrt(variance + read_float(dict(norm.attributes), "epsilon", 1e-5))
    weight = stored[conv.inputs[1]]
    bias = stored[conv.inputs[2]] if len(conv.inputs) > 2 else torch.zeros_like(mean)
    names = (f"{norm.outputs[0]}/folded_weight", f"{norm.outputs[0]}/folded_bias")
    stored[names[0]] = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
    stored[names[1]] = (bias - mean) * factor + shift
    return names


def _merge_biases(graph: Graph, stored: Stored) -> Graph:
    """MatMul followed by Add of a stored vector becomes Gemm if no dimension is dynamic."""
    if any(isinstance(d, str) for i in graph.inputs for d in i.shape):
        return graph
    wiring = Wiring(graph, stored)
    nodes: list[Node] = []
    gemms: dict[str, Node] = {}
    for node in graph.nodes:
        nodes.append(gemms.get(node.outputs[0], node))
        add = wiring.only_reader(node.outputs[0]) if node.op == "MatMul" else None
        if add is None or add.op != "Add":
            continue
        other = add.inputs[1] if add.inputs[0] == node.outputs[0] else add.inputs[0]
        is_vector = other in stored and stored[other].dim() == 1 and stored[other].numel() > 1
        if is_vector and wiring.stored_rank(node.inputs[1]) == 2:
            gemms[add.outputs[0]] = Node("Gemm", (*node.inputs, other), add.outputs, (), node.scope)
    return replace(graph, nodes=tuple(nodes))


def _carry_quantizers_up(graph: Graph, stored: Stored) -> Graph:
    """Quantize before operators that move values what is quantized behind them."""
    carried = _carry_one_quantizer_up(graph, stored)
    while carried is not None:
        graph = carried
        carried = _carry_one_quantizer_up(graph, stored)
    return graph


def _carry_one_quantizer_up(graph: Graph, stored: Stored) -> Graph | None:
    wiring = Wiring(graph, stored)
    for mover in graph.nodes:
        if mover.op not in CARRYING or not wiring.is_read(mover):
            continue
        quantizer = wiring.only_reader(mover.outputs[0])
        if quantizer is None or quantizer.op != "QuantizeLinear":
            continue
        source = mover.inputs[0]
        maker = wiring.makers.get(source)
        if maker is None or maker.op == "DequantizeLinear" or wiring.only_reader(source) is None:
            continue
        if not _is_for_all(quantizer, stored):
            continue
        name = f"{quantizer.outputs[0]}/carried"
        early = replace(quantizer, inputs=(source, *quantizer.inputs[1:]), outputs=(name,))
        moved = replace(mover, inputs=(name, *mover.inputs[1:]), outputs=quantizer.outputs)
        replaced = {id(mover): (mover, early, moved), id(quantizer): ()}
        nodes = [n for old in graph.nodes for n in replaced.get(id(old), (old,))]
        return replace(graph, nodes=tuple(nodes))
    return None


def _carry_quantizers_down(graph: Graph, stored: Stored) -> Graph:
    """Dequantize behind operators that move values what is dequantized before them."""
    dequantizers: dict[str, Node] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op == "DequantizeLinear" and _is_for_all(node, stored):
            dequantizers[node.outputs[0]] = node
        before = dequantizers.get(node.inputs[0]) if node.op in CARRYING else None
        if before is None:
            nodes.append(node)
            continue
        name = f"{node.outputs[0]}/carried"
        late = replace(before, inputs=(name, *before.inputs[1:]), outputs=node.outputs)
        inputs = (before.inputs[0], *node.inputs[1:])
        nodes += [replace(node, inputs=inputs, outputs=(name,)), late]
        dequantizers[node.outputs[0]] = late
    return replace(graph, nodes=tuple(nodes))


def _is_for_all(quantizer: Node, stored: Stored) -> bool:
    """Whether a quantizer has one stored scale for all values."""
    return all(name in stored and stored[name].numel() == 1 for name in quantizer.inputs[1:])


def _quantize_float_weights(graph: Graph, stored: Stored) -> tuple[Graph, Stored]:
    """Stored float weights and biases of Conv and Gemm between DQ and Q become int8 and int32."""
    wiring = Wiring(graph, stored)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op in ("Conv", "Gemm") and _is_between_quantizers(wiring, node):
            nodes.extend(_quantize_weights_of(node, wiring, stored))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes)), stored


def _is_between_quantizers(wiring: Wiring, node: Node) -> bool:
    x = wiring.dequantized(node.inputs[0])
    if x is None or x.step not in wiring.stored or wiring.stored[x.step].numel() != 1:
        return False
    reader = wiring.only_reader(node.outputs[0])
    while reader is not None and reader.op in ("Relu", "Clip"):
        reader = wiring.only_reader(reader.outputs[0])
    return reader is not None and reader.op == "QuantizeLinear"


def _quantize_weights_of(node: Node, wiring: Wiring, stored: Stored) -> list[Node]:
    x = wiring.dequantized(node.inputs[0])
    weight = wiring.dequantized(node.inputs[1])
    has_bias = len(node.inputs) > 2 and node.inputs[2] != ""
    float_bias = has_bias and node.inputs[2] in stored
    float_weight = weight is None and node.inputs[1] in stored
    blockwise = weight is not None and weight.block > 0
    per_channel = weight is not None and stored[weight.step].numel() > 1
    if x is None or blockwise or (has_bias and not float_bias):
        return [node]
    if not float_weight and not (weight is not None and float_bias):
        return [node]
    added: list[Node] = []
    inputs = list(node.inputs)
    if weight is None:
        name = f"{node.outputs[0]}/weight"
        stored[name], stored[f"{name}.step"], stored[f"{name}.zero_point"] = _quantize_weight(
            stored[node.inputs[1]]
        )
        inputs[1] = f"{name}.dequantized"
        names = (name, f"{name}.step", f"{name}.zero_point")
        added.append(Node("DequantizeLinear", names, (inputs[1],), (), node.scope))
        step = stored[f"{name}.step"]
    else:
        step = stored[weight.step]
    if float_bias:
        name = f"{node.outputs[0]}/bias"
        scale = stored[x.step].reshape(()) * step
        stored[name] = torch.round(stored[node.inputs[2]] / scale).to(torch.int32)
        stored[f"{name}.step"] = scale
        inputs[2] = f"{name}.dequantized"
        axis = (("axis", 0),) if per_channel else ()
        added.append(
            Node("DequantizeLinear", (name, f"{name}.step"), (inputs[2],), axis, node.scope)
        )
    return [*added, replace(node, inputs=tuple(inputs))]


def _quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A weight as int8 with one scale and zero point, over the range that holds it and zero."""
    low, high = weight.min().clamp(max=0.0), weight.max().clamp(min=0.0)
    step = (high - low) / 255.0 if bool(high > low) else torch.ones(())
    zero_point = torch.round((-128.0 - low / step).clamp(-128, 127)).to(torch.int8)
    return quantize(weight, step, zero_point), step, zero_point

"""Pieces of quantized networks that take and give integers, as between two of them."""

from __future__ import annotations

from dataclasses import replace

from supernet.graph.language import Graph, Node


def pass_integers(graph: Graph) -> Graph:
    """Let a graph take and give integers where it would round its inputs and unround its outputs.

    Args:
        graph: A piece of a network. An input that is read by QuantizeLinear alone becomes what
            that gives; an output of DequantizeLinear becomes what that reads.
    """
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for name in node.inputs:
            readers.setdefault(name, []).append(index)
    makers = {name: index for index, node in enumerate(graph.nodes) for name in node.outputs}
    dropped: set[int] = set()
    renamed: dict[str, str] = {}
    inputs = []
    for spec in graph.inputs:
        places = readers.get(spec.name, [])
        firsts = [graph.nodes[i] for i in places]
        same = {node.inputs[1:] for node in firsts}
        if firsts and len(same) == 1 and all(n.op == "QuantizeLinear" for n in firsts):
            dropped.update(places)
            renamed.update({node.outputs[0]: spec.name for node in firsts})
            spec = replace(spec, dtype="uint8")
        inputs.append(spec)
    outputs = []
    for spec in graph.outputs:
        place = makers.get(spec.name)
        last = None if place is None else graph.nodes[place]
        if last is not None and last.op == "DequantizeLinear" and spec.name not in readers:
            dropped.add(makers[spec.name])
            renamed[last.inputs[0]] = spec.name
            spec = replace(spec, dtype="uint8")
        outputs.append(spec)
    nodes = tuple(
        Node(
            node.op,
            tuple(renamed.get(n, n) for n in node.inputs),
            tuple(renamed.get(n, n) for n in node.outputs),
            node.attributes,
            node.scope,
        )
        for index, node in enumerate(graph.nodes)
        if index not in dropped
    )
    used = {name for node in nodes for name in node.inputs}
    return replace(
        graph,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        nodes=nodes,
        weights=tuple(w for w in graph.weights if w.name in used),
        constants=tuple(c for c in graph.constants if c.name in used),
    )

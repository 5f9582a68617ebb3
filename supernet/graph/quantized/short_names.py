"""Quantized graphs with short names, so that a file holds weights and not what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from supernet.errors import InputError
from supernet.graph.language import Attribute, Graph, Node


def shorten_names(graph: Graph) -> dict[str, str]:
    """Names of a quantized graph's weights and constants in its ONNX model: ``w0``, ``c0``.

    They end in the place among ``graph.weights`` or ``graph.constants``, to base 36. Every
    activation has a scale and a zero point, each read two or three times: under names of forty
    letters they would take more room than what they name.

    Raises:
        InputError: if an input, an output or an activation has one of these names.
    """
    short = {spec.name: f"w{np.base_repr(i, 36).lower()}" for i, spec in enumerate(graph.weights)}
    short |= {c.name: f"c{np.base_repr(i, 36).lower()}" for i, c in enumerate(graph.constants)}
    others = {spec.name for spec in graph.inputs}.union(*(n.outputs for n in graph.nodes))
    if taken := sorted(others.intersection(short.values())):
        raise InputError(f"tensor {taken[0]!r} has a name that weights are given; use another")
    return short


def use_short_names(graph: Graph, short: Mapping[str, str]) -> Graph:
    """Rename weights and constants, and leave out what convolutions have by default.

    Args:
        graph: the graph under its own names.
        short: what :func:`shorten_names` returned for it.
    """
    return replace(
        graph,
        nodes=tuple(_shorten_node(node, short) for node in graph.nodes),
        weights=tuple(replace(w, name=short[w.name]) for w in graph.weights),
        constants=tuple(replace(c, name=short[c.name]) for c in graph.constants),
    )


def _shorten_node(node: Node, short: Mapping[str, str]) -> Node:
    attributes = node.attributes
    if node.op == "Conv":
        attributes = tuple(pair for pair in attributes if not _is_default(*pair))
    inputs = tuple(short.get(name, name) for name in node.inputs)
    return replace(node, inputs=inputs, attributes=attributes)


def _is_default(key: str, value: Attribute) -> bool:
    """Whether a Conv has the attribute's value where it is left out."""
    if key == "group":
        return value == 1
    default = {"dilations": 1, "strides": 1, "pads": 0}.get(key)
    return isinstance(value, tuple) and set(value) == {default}

"""A small fixed model that is timed around every measurement to tell how busy the machine is."""

from __future__ import annotations

from itertools import pairwise

from supernet.graph.language import BATCH, Attribute, Graph, Node, TensorSpec


def build_reference_graph() -> Graph:
    """Build an inverted bottleneck on 14 x 14 pixels: 16 -> 48 -> depthwise 3 x 3 -> 16 channels.

    It takes some 20 microseconds on a desktop core and uses the kernels that dominate
    convolutional networks, so what slows it down slows them down.
    """
    size = 14
    channels = (16, 48, 48, 16)
    nodes: list[Node] = []
    weights: list[TensorSpec] = []
    tensor = "input"
    for index, (before, after) in enumerate(pairwise(channels)):
        kernel, group = (3, after) if index == 1 else (1, 1)
        attributes: tuple[tuple[str, Attribute], ...] = (
            ("group", group),
            ("kernel_shape", (kernel, kernel)),
            ("pads", (kernel // 2,) * 4),
        )
        weight = f"weight{index}"
        weights.append(TensorSpec(weight, (after, before // group, kernel, kernel), "float32"))
        nodes.append(Node("Conv", (tensor, weight), (f"conv{index}",), attributes))
        tensor = f"conv{index}"
        if index < 2:
            nodes.append(Node("HardSwish", (tensor,), (f"act{index}",)))
            tensor = f"act{index}"
    return Graph(
        inputs=(TensorSpec("input", (BATCH, 16, size, size), "float32"),),
        outputs=(TensorSpec(tensor, (BATCH, 16, size, size), "float32"),),
        nodes=tuple(nodes),
        weights=tuple(weights),
        constants=(),
        macs=size * size * (16 * 48 + 48 * 9 + 48 * 16),
        parameters=16 * 48 + 48 * 9 + 48 * 16,
    )

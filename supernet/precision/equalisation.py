"""Weights of an extracted network made equal across layers, so that few levels serve all channels.

Which layers follow one another is read from the network's graph; the arithmetic is that of
:mod:`supernet.quantization.equalisation`. Between two layers lies nothing, or an activation that is
positively homogeneous, and nobody else reads what the first one gives.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from supernet.graph.language import Graph, Node
from supernet.graph.lowering import lower
from supernet.quantization.equalisation import FoldedLayer, equalise
from supernet.quantization.execution import Execution

LAYERS, HOMOGENEOUS = ("Conv", "Gemm"), ("Relu",)


@dataclass(frozen=True)
class Pair:
    """Two layers of which one reads what the other gives.

    Attributes:
        first: Module path of the layer whose outputs can be scaled.
        second: Module path of the layer whose inputs can be scaled in return.
    """

    first: str
    second: str


def equalise_network(network: nn.Module, execution: Execution, example: Any) -> int:
    """Equalise the weights of layers that follow one another; the float function stays.

    Only what a layer with one scale for all channels reads is scaled: scales per channel have no
    need of it (measured, they lose by it). Trained steps and ranges belong to the weights they were
    trained with: a network that has any is left as it is.

    Args:
        network: Extracted, in eval mode, its normalisation folded; changed in place.
        execution: Its number formats.
        example: A batch it runs on; only its shape is read.

    Returns:
        How many pairs of layers were equalised.
    """
    shared = [path for path, form in execution.formats.items() if form.granularity == "tensor"]
    if execution.trained or not shared:
        return 0
    # Inference mode hides operators from the trace.
    with execution.suspended(), torch.inference_mode(False):
        graph, _ = lower(network, (example,), structure_only=True)
    pairs = [
        pair
        for pair in find_pairs(graph)
        if any(f"{pair.second}.".startswith(f"{path}." if path else "") for path in shared)
    ]
    folded = {path: _view(network, path) for pair in pairs for path in (pair.first, pair.second)}
    equalise([(folded[pair.first], folded[pair.second]) for pair in pairs])
    execution.forget_rounded()
    return len(pairs)


def find_pairs(graph: Graph) -> list[Pair]:
    """Find the pairs of convolutions or linear layers between which channels can be scaled.

    ReLU passes such factors on and ReLU6, HardSwish or a pooling with another reader does not; nor
    does normalisation that is not folded.

    Args:
        graph: Of a network in float, with module paths as names of weights.

    Returns:
        Pairs in the order of the network; a layer may end one and begin the next.
    """
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    reads.update(spec.name for spec in graph.outputs)
    makers = {name: node for node in graph.nodes for name in node.outputs}
    weights = {spec.name for spec in graph.weights}
    pairs = []
    for node in graph.nodes:
        if not _is_own_layer(node, weights, reads):
            continue
        before = makers.get(node.inputs[0])
        while before is not None and before.op in HOMOGENEOUS and reads[before.outputs[0]] == 1:
            before = makers.get(before.inputs[0])
        if (
            before is not None
            and _is_own_layer(before, weights, reads)
            and reads[before.outputs[0]] == 1
        ):
            pairs.append(Pair(_name_layer(before), _name_layer(node)))
    return pairs


def _is_own_layer(node: Node, weights: set[str], reads: Counter[str]) -> bool:
    """Whether a node is a layer with a weight, and bias, that no other node uses."""
    return (
        node.op in LAYERS
        and node.inputs[1].endswith(".weight")
        and all(name in weights and reads[name] == 1 for name in node.inputs[1:] if name)
    )


def _name_layer(node: Node) -> str:
    return node.inputs[1].removesuffix(".weight")


def _view(network: nn.Module, path: str) -> FoldedLayer:
    layer = network.get_submodule(path)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    return FoldedLayer(layer.weight.data, None if layer.bias is None else layer.bias.data)

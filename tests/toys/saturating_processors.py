"""Whether this processor's 8-bit sums are exact, and which layers it may compute wrong.

ONNX Runtime multiplies uint8 by int8 with an instruction that saturates the sums of pairs where a
processor has no 8-bit dot products (:mod:`supernet.graph.integer.saturation`). There a comparison
with exact sums holds for the layers that are proven safe, and for no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest

from supernet.graph.integer.saturation import LARGEST_ACTIVATION, check_graph
from supernet.graph.language import Graph, Node, TensorSpec
from supernet.graph.onnx_model import to_onnx

ROWS, LENGTH, COLUMNS = 8, 64, 32
"""Of a product that is large enough for the kernels that networks meet."""


def multiply_here(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Multiply uint8 (rows, k) by int8 (k, columns) in ONNX Runtime on this processor, int32."""
    import onnxruntime

    graph = Graph(
        inputs=(TensorSpec("x", activations.shape, "uint8"),),
        outputs=(TensorSpec("y", (len(activations), weights.shape[1]), "int32"),),
        nodes=(Node("MatMulInteger", ("x", "weight"), ("y",)),),
        weights=(TensorSpec("weight", weights.shape, "int8"),),
        constants=(),
        macs=0,
        parameters=0,
    )
    model = to_onnx(graph, {"weight": weights}).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    sums: np.ndarray = session.run(None, {"x": activations})[0]
    return sums


@cache
def pairs_saturate() -> bool:
    """Whether the largest products of 8 bits add up to something wrong on this processor."""
    activations = np.full((ROWS, LENGTH), LARGEST_ACTIVATION, np.uint8)
    weights = np.full((LENGTH, COLUMNS), 127, np.int8)
    return bool((multiply_here(activations, weights) != LARGEST_ACTIVATION * 127 * LENGTH).any())


def find_inexact_layers(graph: Graph, values: Mapping[str, np.ndarray]) -> list[str]:
    """Layers of a graph that this processor may compute wrong, by the names of their weights.

    None where pairs do not saturate.
    """
    if not pairs_saturate():
        return []
    return [name for name, verdict in check_graph(graph, values).items() if not verdict.safe]


def skip_unless_exact(graph: Graph, values: Mapping[str, np.ndarray]) -> None:
    """Skip a comparison with exact sums if this processor may compute a layer of it wrong."""
    layers = find_inexact_layers(graph, values)
    if layers:
        pytest.skip(
            "this processor saturates sums of pairs of 8-bit products, and "
            f"{len(layers)} layers are not proven safe from it, the first is {layers[0]}"
        )

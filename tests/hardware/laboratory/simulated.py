"""A device that runs nothing: a model takes 4 us, 0.5 us for each node and 1 ns for each MAC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import shape_inference

from hardware.backend import DeviceSettings, Timer
from supernet.errors import InputError

SUMMARY = "a simulated device whose latency is a sum over the nodes of a model"
TITLE = "Simulator"
VERSION_FIELD = "simulator"
DEFAULT_PROVIDER = "multiplier"

CALL_NS, NODE_NS, MAC_NS = 4000, 500, 1


def explain_absence() -> str | None:
    """It is always there."""
    return None


def list_providers() -> tuple[str, ...]:
    """Its only unit."""
    return (DEFAULT_PROVIDER,)


def choose_clock(device: DeviceSettings) -> str:
    """The simulated time is that of a wall clock."""
    return "wall"


def describe(device: DeviceSettings) -> dict[str, Any]:
    """Version and constants, in place of this machine's processor."""
    return {VERSION_FIELD: "1.0", "cpu": "none", "constants": [CALL_NS, NODE_NS, MAC_NS]}


def load(model: bytes, feeds: Mapping[str, np.ndarray], device: DeviceSettings) -> Timer:
    """Count a model's work once; every run takes the same time."""
    try:
        graph = shape_inference.infer_shapes(onnx.load_from_string(model), strict_mode=True).graph
    except Exception as error:  # protobuf and onnx raise classes of their own
        raise InputError(f"the simulator cannot read the model: {type(error).__name__}") from error
    elapsed = CALL_NS + NODE_NS * len(graph.node) + MAC_NS * count_macs(graph)
    return lambda: elapsed


def count_macs(graph: onnx.GraphProto) -> int:
    """Multiply-accumulates of convolutions and matrix products, from the inferred shapes."""
    shapes = {w.name: tuple(w.dims) for w in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    total = 0
    for node in graph.node:
        outputs = int(np.prod(shapes[node.output[0]], dtype=np.int64))
        if node.op_type == "Conv":
            total += outputs * int(np.prod(shapes[node.input[1]][1:], dtype=np.int64))
        elif node.op_type in ("MatMul", "Gemm"):
            total += outputs * shapes[node.input[0]][-1]
    return total

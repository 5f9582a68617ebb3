"""A quantized graph's weights as safetensors: integers at their bits, with their scales."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from supernet.errors import InputError
from supernet.graph.language import Graph
from supernet.graph.onnx_model import check_weights
from supernet.graph.quantized.packing import NIBBLES, is_packed, pack, unpack

_LAYOUT = "integer_weights"


def write_integer_weights(graph: Graph, values: Mapping[str, np.ndarray]) -> bytes:
    """Write all weights of a graph as one safetensors file.

    Weights of two to seven bits, and int4 as four, are uint8 vectors, packed as in the ONNX model.
    The metadata's ``integer_weights`` is JSON: by weight, ``bits`` and ``shape`` of those, and of
    all that have scales the ``axis`` these run along and their ``block_size``, where they have one.

    Args:
        graph: whose weights to write.
        values: values by weight name, int4 ones as int8.

    Raises:
        InputError: if a weight is missing, has the wrong shape or does not fit its bits.
    """
    tensors = check_weights(graph, values)
    layout: dict[str, dict[str, object]] = {
        node.inputs[0]: {k: v for k, v in node.attributes if k in ("axis", "block_size")}
        for node in graph.nodes
        if node.op == "DequantizeLinear" and node.inputs[0] in tensors
    }
    for spec in graph.weights:
        if spec.dtype == NIBBLES or is_packed(spec):
            bits = spec.bits or 4
            layout.setdefault(spec.name, {}).update(bits=bits, shape=spec.shape)
            tensors[spec.name] = pack(tensors[spec.name], bits)
    return bytes(save(tensors, {_LAYOUT: json.dumps(layout, separators=(",", ":"))}))


def load_integer_weights(path: Path) -> dict[str, np.ndarray]:
    """Read what :func:`write_integer_weights` wrote.

    Returns:
        Values by weight name, in their shapes; those that were packed as int8.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is no such file; the message says why.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names, metadata = file.keys(), file.metadata() or {}
            weights: dict[str, np.ndarray] = {name: file.get_tensor(name) for name in names}
        for name, about in json.loads(metadata[_LAYOUT]).items():
            if "bits" in about:
                bits, shape = about["bits"], about["shape"]
                weights[name] = unpack(weights[name], bits, math.prod(shape)).reshape(shape)
    # What somebody else wrote may have any JSON there, or none.
    except (
        SafetensorError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as e:
        raise InputError(f"{path} does not hold the weights of a quantized graph: {e}") from None
    return weights

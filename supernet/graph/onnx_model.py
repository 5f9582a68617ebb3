"""Graph values written as ONNX models, with real or random weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from supernet.errors import InputError
from supernet.graph.language import BATCH, Graph, TensorSpec, fix_batch

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8

# Random weights repeat a pool of this many normal numbers: drawing millions for every network of
# a latency table takes longer than measuring it. Prime, so that rows of a matrix differ.
_POOL = 65_537


def to_onnx(
    graph: Graph,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    seed: int = 0,
    batch: int | None = None,
) -> onnx.ModelProto:
    """Build an ONNX model (opset 17) from a graph.

    Args:
        graph: what to write.
        weights: values by weight name; None fills in random He-scaled ones, which is enough to
            measure time.
        seed: seed of the random weights.
        batch: fixes the batch dimension; None leaves it dynamic.

    Raises:
        InputError: if a weight is missing or has the wrong shape.
    """
    from onnx import helper, numpy_helper

    if batch is not None:
        graph = fix_batch(graph, batch)
    values = draw_random_weights(graph, seed) if weights is None else _check_weights(graph, weights)
    constants = [numpy_helper.from_array(c.array(), c.name) for c in graph.constants]
    nodes = [
        helper.make_node(
            node.op,
            list(node.inputs),
            list(node.outputs),
            name=f"{node.scope}/{node.op}_{index}",
            **{
                key: list(value) if isinstance(value, tuple) else value
                for key, value in node.attributes
            },
        )
        for index, node in enumerate(graph.nodes)
    ]
    body = helper.make_graph(
        nodes,
        "network",
        [_make_value_info(i) for i in graph.inputs],
        [_make_value_info(o) for o in graph.outputs],
        initializer=constants,
    )
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="supernet",
    )
    # Added in place: make_graph and make_model would copy every weight once more.
    for spec in graph.weights:
        tensor = model.graph.initializer.add()
        tensor.name = spec.name
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values[spec.name].dtype)
        tensor.dims.extend(values[spec.name].shape)
        tensor.raw_data = values[spec.name].tobytes()
    return model


def draw_random_weights(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """He-scaled random values of exactly the graph's dtypes; variances positive, scales near 1."""
    rng = np.random.default_rng(seed)
    pool = np.tile(rng.standard_normal(_POOL, dtype=np.float32), 2)
    roles: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "BatchNormalization":
            for name, role in zip(
                node.inputs[1:], ("scale", "shift", "shift", "scale"), strict=True
            ):
                roles[name] = role
        elif node.op == "LayerNormalization":
            roles[node.inputs[1]] = "scale"
    return {w.name: _draw_random_weight(w, roles.get(w.name, ""), rng, pool) for w in graph.weights}


def draw_random_inputs(graph: Graph, seed: int, batch: int = 1) -> dict[str, np.ndarray]:
    """Inputs to time a graph with: floats uniform in 0..1, integers zero, booleans true."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, np.ndarray] = {}
    for spec in graph.inputs:
        shape = tuple(batch if d == BATCH else int(d) for d in spec.shape)
        if spec.dtype.startswith("float"):
            feeds[spec.name] = rng.random(shape, dtype=np.float32).astype(spec.dtype)
        else:
            feeds[spec.name] = np.full(shape, spec.dtype == "bool", dtype=spec.dtype)
    return feeds


def _draw_random_weight(
    spec: TensorSpec, role: str, rng: np.random.Generator, pool: np.ndarray
) -> np.ndarray:
    shape = tuple(int(d) for d in spec.shape)
    if not spec.dtype.startswith("float"):
        return np.zeros(shape, dtype=spec.dtype)
    if role == "scale":
        return rng.uniform(0.5, 1.5, shape).astype(spec.dtype)
    # numpy 2 promotes float32 * float64 scalar to float64, which is an invalid mixed-type model;
    # the scale is therefore a Python float.
    scale = float((2.0 / max(1, int(np.prod(shape[1:])))) ** 0.5) if len(shape) > 1 else 0.1
    size = int(np.prod(shape))
    start = int(rng.integers(_POOL))
    if start + size > 2 * _POOL:
        return (np.resize(pool, shape) * scale).astype(spec.dtype, copy=False)
    return (pool[start : start + size] * scale).reshape(shape).astype(spec.dtype, copy=False)


def _check_weights(graph: Graph, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    values: dict[str, np.ndarray] = {}
    for spec in graph.weights:
        value = weights.get(spec.name)
        if value is None:
            raise InputError(
                f"weight {spec.name!r} has no values; pass all weights, or None for random ones"
            )
        if tuple(value.shape) != spec.shape:
            raise InputError(
                f"weight {spec.name!r} has shape {tuple(value.shape)}; the graph needs {spec.shape}"
            )
        values[spec.name] = np.ascontiguousarray(value, dtype=spec.dtype)
    return values


def _make_value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    from onnx import helper

    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, dtype, list(spec.shape))

"""Graph values written as ONNX models, with real or random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from supernet.errors import InputError
from supernet.graph.language import BATCH, Constant, Graph, Node, TensorSpec, fix_batch
from supernet.graph.quantized.channel_padding import pad_channels
from supernet.graph.quantized.packing import NIBBLES, is_packed, list_limits, pack_nibbles
from supernet.graph.quantized.random_weights import draw_random_integers
from supernet.graph.quantized.short_names import shorten_names, use_short_names
from supernet.graph.quantized.unpacking import add_packed_weights

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8

# Block-wise scales and int4 came with opset 21.
QUANTIZED_OPSET = 21
QUANTIZED_IR_VERSION = 10

_QUANTIZED = {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
}
_UNNAMED = {"QuantizeLinear", "DequantizeLinear"}
_PRODUCTS = {"Conv", "Gemm", "MatMul", "MatMulInteger"}
_REDUCTIONS = {"ReduceMean", "ReduceMax", "ReduceMin"}

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
    """Build an ONNX model from a graph: opset 17, or 21 if it computes with integers.

    Weights of two to seven bits are packed (:mod:`supernet.graph.quantized.packing`) and come with
    the operators that unpack them; int4 has its own ONNX type. Weights and constants of a
    quantized graph get short names (:func:`shorten_names`).

    Args:
        graph: what to write.
        weights: values by weight name, int4 ones as int8; None fills in random He-scaled ones,
            which is enough to measure time.
        seed: seed of the random weights.
        batch: fixes the batch dimension; None leaves it dynamic.

    Raises:
        InputError: if a weight is missing, has the wrong shape or does not fit its bits, or a
            tensor of a quantized graph is named like a weight (:func:`shorten_names`).
    """
    from onnx import helper

    if batch is not None:
        graph = fix_batch(graph, batch)
    values = draw_random_weights(graph, seed) if weights is None else check_weights(graph, weights)
    quantized = is_quantized(graph)
    body = helper.make_graph(
        [],
        "network",
        [_make_value_info(i) for i in graph.inputs],
        [_make_value_info(o) for o in graph.outputs],
    )
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", QUANTIZED_OPSET if quantized else OPSET)],
        ir_version=QUANTIZED_IR_VERSION if quantized else IR_VERSION,
        producer_name="supernet",
    )
    # Added in place: make_graph and make_model would copy every weight once more.
    body = model.graph
    if quantized:
        graph = pad_channels(_turn_axes_into_inputs(graph))
        short = shorten_names(graph)
        graph = use_short_names(graph, short)
        values = {short[name]: value for name, value in values.items()}
    packed = [spec for spec in graph.weights if is_packed(spec)]
    add_packed_weights(body, packed, values)
    _add_operators(body, graph, _name_shortly if quantized else _name)
    for spec in graph.weights:
        if not is_packed(spec):
            _add_initializer(body, spec, values[spec.name])
    return model


def is_quantized(graph: Graph) -> bool:
    """Whether a graph computes with or holds integers that need the later operator set."""
    return any(node.op in _QUANTIZED for node in graph.nodes) or any(
        is_packed(spec) or spec.dtype == NIBBLES for spec in graph.weights
    )


def _add_operators(body: onnx.GraphProto, graph: Graph, name: Callable[[Node, int], str]) -> None:
    from onnx import helper, numpy_helper

    body.initializer.extend(numpy_helper.from_array(c.array(), c.name) for c in graph.constants)
    body.node.extend(
        helper.make_node(
            node.op,
            list(node.inputs),
            list(node.outputs),
            name=name(node, index),
            **{
                key: list(value) if isinstance(value, tuple) else value
                for key, value in node.attributes
            },
        )
        for index, node in enumerate(graph.nodes)
    )


def _name(node: Node, index: int) -> str:
    return f"{node.scope}/{node.op}_{index}"


def _name_shortly(node: Node, index: int) -> str:
    """Products by their modules, others by their places: a thousand paths take too much room."""
    if node.op in _PRODUCTS:
        return _name(node, index)
    return "" if node.op in _UNNAMED else f"{node.op}_{index}"


def _turn_axes_into_inputs(graph: Graph) -> Graph:
    """Give reductions their axes as opset 18 and later want them, the one difference to 17."""
    constants: dict[tuple[int, ...], Constant] = {}
    nodes = []
    for node in graph.nodes:
        attributes = dict(node.attributes)
        axes = attributes.pop("axes", None) if node.op in _REDUCTIONS else None
        if isinstance(axes, tuple):
            key = tuple(int(a) for a in axes)
            name = f"0axes/{','.join(str(a) for a in key)}"
            constants[key] = Constant.from_array(name, np.array(key, dtype=np.int64))
            node = replace(node, inputs=(*node.inputs, name), attributes=tuple(attributes.items()))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=(*graph.constants, *constants.values()))


def _add_initializer(body: onnx.GraphProto, spec: TensorSpec, value: np.ndarray) -> None:
    from onnx import TensorProto, helper

    tensor = body.initializer.add()
    tensor.name = spec.name
    tensor.dims.extend(value.shape)
    if spec.dtype == NIBBLES:
        tensor.data_type = TensorProto.INT4
        tensor.raw_data = pack_nibbles(value).tobytes()
    else:
        tensor.data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor.raw_data = value.tobytes()


def draw_random_weights(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """He-scaled random values of exactly the graph's dtypes; variances positive, scales near 1.

    Integers use all levels of their bits, int4 ones come as int8, and steps fit them.
    """
    rng = np.random.default_rng(seed)
    integers = draw_random_integers(graph, rng) if is_quantized(graph) else {}
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
    floats = [w for w in graph.weights if w.name not in integers]
    drawn = {w.name: _draw_random_weight(w, roles.get(w.name, ""), rng, pool) for w in floats}
    return integers | drawn


def draw_random_inputs(graph: Graph, seed: int, batch: int = 1) -> dict[str, np.ndarray]:
    """Inputs to time a graph with: floats uniform in 0..1, uint8 in 0..255, booleans true.

    Other integers are zero, which is an index of any table.
    """
    rng = np.random.default_rng(seed)
    feeds: dict[str, np.ndarray] = {}
    for spec in graph.inputs:
        shape = tuple(batch if d == BATCH else int(d) for d in spec.shape)
        if spec.dtype.startswith("float"):
            feeds[spec.name] = rng.random(shape, dtype=np.float32).astype(spec.dtype)
        elif spec.dtype == "uint8":
            feeds[spec.name] = rng.integers(0, 256, shape, dtype=np.uint8)
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


def check_weights(graph: Graph, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values of a graph's weights in their dtypes and C order, int4 ones as int8.

    Raises:
        InputError: if a weight is missing, has the wrong shape or does not fit its bits.
    """
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
        values[spec.name] = _check_weight(spec, value)
    return values


def _check_weight(spec: TensorSpec, value: np.ndarray) -> np.ndarray:
    dtype = np.dtype("int8" if spec.dtype == NIBBLES else spec.dtype)
    if dtype.kind not in "iu":
        return np.asarray(value, dtype=dtype, order="C")
    if value.dtype.kind not in "iu":
        raise InputError(
            f"weight {spec.name!r} has {value.dtype} values; the graph needs {spec.dtype}"
        )
    low, high = list_limits(spec)
    if value.size and not low <= value.min() <= value.max() <= high:
        raise InputError(
            f"weight {spec.name!r} has values in {value.min()}..{value.max()}; its bits hold "
            f"{low}..{high}"
        )
    return np.asarray(value, dtype=dtype, order="C")


def _make_value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    from onnx import helper

    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, dtype, list(spec.shape))

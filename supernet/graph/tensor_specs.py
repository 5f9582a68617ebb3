"""Shapes and dtypes of all tensors of a graph, as ONNX infers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from supernet.graph.language import Graph, TensorSpec

if TYPE_CHECKING:
    import onnx

# Operators that only the newer set has in the form in which graphs have them.
_NEWER = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_OPSET, _OLDER_OPSET = 21, 17


def infer_tensor_specs(graph: Graph) -> dict[str, TensorSpec]:
    """Infer what is known of every tensor of a graph without running it.

    Args:
        graph: a network or a piece of one; batch sizes may be symbols.

    Returns:
        By name, inputs and weights included; a dimension that does not follow from the graph is 0,
        a symbolic one too.
    """
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    def describe(spec: TensorSpec) -> onnx.ValueInfoProto:
        four_bits = spec.dtype == "int4"
        kind = (
            TensorProto.INT4 if four_bits else helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        )
        shape: Sequence[int | str] = spec.shape
        return helper.make_tensor_value_info(spec.name, kind, list(shape))

    nodes = [
        helper.make_node(
            n.op,
            n.inputs,
            n.outputs,
            **{key: list(v) if isinstance(v, tuple) else v for key, v in n.attributes},
        )
        for n in graph.nodes
    ]
    body = helper.make_graph(
        nodes,
        "tensors",
        [describe(spec) for spec in (*graph.inputs, *graph.weights)],
        [],
        initializer=[numpy_helper.from_array(c.array(), c.name) for c in graph.constants],
    )
    newer = any(n.op in _NEWER for n in graph.nodes)
    opset = helper.make_opsetid("", _OPSET if newer else _OLDER_OPSET)
    model = helper.make_model(body, opset_imports=[opset])
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    found = {}
    for value in (*inferred.input, *inferred.value_info):
        kind = value.type.tensor_type
        four_bits = kind.elem_type == TensorProto.INT4
        dtype = "int4" if four_bits else helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        shape = tuple(int(d.dim_value) for d in kind.shape.dim)
        found[value.name] = TensorSpec(value.name, shape, dtype)
    return found

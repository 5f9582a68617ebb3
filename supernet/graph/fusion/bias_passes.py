"""Which products with weights a runtime turns into Gemm, by the vectors that are added to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supernet.graph.fusion.workspace import DQ, Q, Step, Stored, Workspace

_ATTENTION = ["Add", "MatMul", "MatMul", "MatMul"]


def merge_bias(work: Workspace) -> None:
    """Make Gemm of MatMul and the Add of a vector; beyond two dimensions for fixed sizes only."""
    candidates = [(s, m) for s in work.steps if (m := _find_bias(work, s)) is not None]
    if not candidates:
        return
    attention = _list_attention(work)
    ranks = _infer_ranks(work)
    fixed = all(isinstance(d, int) for i in work.graph.inputs for d in i.shape)
    for product, (add, bias) in candidates:
        rank = ranks.get(_find_original_name(work, product.inputs[0]))
        if rank == 2 or (rank is not None and fixed and product not in attention):
            _make_gemm(work, product, add, bias, reshape=rank != 2)


def _find_original_name(work: Workspace, name: str) -> str:
    """The name in the original graph of what a copy of a DequantizeLinear makes."""
    maker = work.makers.get(name)
    if maker is None or maker.op != DQ or not maker.nodes:
        return name
    return maker.nodes[0].outputs[0]


def _make_gemm(work: Workspace, product: Step, add: Step, bias: str, *, reshape: bool) -> None:
    nodes = (*product.nodes, *add.nodes)
    made = Step("Gemm", [*product.inputs, bias], list(add.outputs), {}, nodes)
    new = [made]
    if reshape:
        inner, outer, shape = (work.name_value() for _ in range(3))
        work.stored[shape] = Stored((2,), "int64", None)
        made.inputs[0], made.outputs = inner, [outer]
        before = Step("Reshape", [product.inputs[0], shape], [inner])
        new = [before, made, Step("Reshape", [outer, shape], list(add.outputs))]
    at = work.steps.index(add)
    work.steps[at : at + 1] = new
    work.remove([product])


def _list_attention(work: Workspace) -> list[Step]:
    """Products that the runtime leaves alone, as they may be part of an attention it knows.

    That is a normalisation read by three products and by the addition of what the attention
    made, whose last product is the fourth.
    """
    found = []
    for step in work.steps:
        readers = [r for r, _ in work.readers.get(step.outputs[0], []) if r.op != "Shape"]
        if step.op != "LayerNormalization" or sorted(r.op for r in readers) != _ATTENTION:
            continue
        residual = next(r for r in readers if r.op == "Add")
        other = next((i for i in residual.inputs if i != step.outputs[0]), "")
        last = work.find_maker(other, "Add")
        if last is None:
            continue
        makers = [work.find_maker(i, "MatMul") for i in last.inputs]
        found += [r for r in readers if r.op == "MatMul"] + [m for m in makers if m is not None]
    return found


def _find_bias(work: Workspace, product: Step) -> tuple[Step, str] | None:
    """The addition of a vector to a product with a matrix of weights, and the vector."""
    add = work.find_sole_reader(product.outputs[0]) if product.op == "MatMul" else None
    if add is None or add.op != "Add":
        return None
    weight = work.find_maker(product.inputs[1], DQ)
    matrix = work.stored.get(product.inputs[1] if weight is None else weight.inputs[0])
    other = next((i for i in add.inputs if i != product.outputs[0]), "")
    vector = work.stored.get(other)
    if matrix is None or vector is None or matrix.shape is None or vector.shape is None:
        return None
    fits = len(matrix.shape) == 2 and vector.shape == matrix.shape[1:]
    return (add, other) if fits else None


def _infer_ranks(work: Workspace) -> dict[str, int]:
    """Numbers of dimensions of the original graph's values, by ONNX's own rules."""
    import onnx
    from onnx import helper, numpy_helper, shape_inference

    def describe(name: str, dtype: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
        if dtype == "int4":
            return helper.make_tensor_value_info(name, onnx.TensorProto.INT4, list(shape))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, kind, list(shape))

    graph = work.graph
    nodes = [
        helper.make_node(
            n.op,
            n.inputs,
            n.outputs,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in n.attributes},
        )
        for n in graph.nodes
    ]
    body = helper.make_graph(
        nodes,
        "ranks",
        [describe(i.name, i.dtype, i.shape) for i in (*graph.inputs, *graph.weights)],
        [],
        initializer=[numpy_helper.from_array(c.array(), c.name) for c in graph.constants],
    )
    quantized = any(n.op in (Q, DQ) for n in graph.nodes)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", 21 if quantized else 17)]
    )
    inferred = shape_inference.infer_shapes(model).graph
    values = [*inferred.input, *inferred.value_info]
    return {v.name: len(v.type.tensor_type.shape.dim) for v in values}

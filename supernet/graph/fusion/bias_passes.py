"""Which products with weights a runtime turns into Gemm, by the vectors that are added to them."""

from __future__ import annotations

from supernet.graph.fusion.workspace import DQ, Step, Stored, Workspace
from supernet.graph.tensor_specs import infer_tensor_specs

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
    return {name: len(spec.shape) for name, spec in infer_tensor_specs(work.graph).items()}

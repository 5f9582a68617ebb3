"""What ONNX Runtime's optimiser does to quantized graphs, pass by pass and in its order.

Which operators have int8 kernels and which let borders through is read from the contract; what
is written here is the optimiser's own structure (``graph_transformer_utils.cc`` and the folder
``qdq_transformer`` of microsoft/onnxruntime). Only what changes the counts of
:func:`supernet.graph.quantized.kernels.expand_kernel` is here: fusions of float operators do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from supernet.graph.quantized.contract import CARRYING, COMPUTING, MOVED, FusionContract
from supernet.graph.quantized.workspace import Step, Stored, Workspace

Q, DQ = "QuantizeLinear", "DequantizeLinear"
_CLIPS = ("Relu", "Clip")
_ROUNDS = 6
_LEVELS = 255
# Types and largest size of constants that the runtime stores once where they are equal.
_SHARED = ("float32", "int32", "int64")
_SHARED_SIZE = 8
_ATTENTION = ["Add", "MatMul", "MatMul", "MatMul"]
# How far a bias's scale may be from the product of the two others.
_BIAS_TOLERANCE = 0.02


def optimise(work: Workspace, contract: FusionContract) -> list[Step]:
    """Rewrite a graph as the runtime does when it loads it.

    Args:
        work: The graph; changed in place.
        contract: What the runtime makes of each pattern.

    Returns:
        Float layers that the runtime has quantized by itself.
    """
    taken: list[Step] = []
    remove_identities(work)
    split_dequantize(work)
    for _ in range(_ROUNDS):
        before = _describe(work)
        fold_layers(work)
        remove_double_pairs(work)
        merge_equal(work)
        fold_stored(work)
        merge_bias(work)
        carry_quantize(work, contract)
        carry_dequantize(work, contract)
        taken += quantize_float_layers(work, contract)
        split_dequantize(work)
        if _describe(work) == before:
            break
    remove_clips(work)
    fuse_quantized(work, contract)
    fuse_dynamic(work, contract)
    remove_cancelling(work)
    return taken


def _describe(work: Workspace) -> list[tuple[str, tuple[str, ...]]]:
    return [(step.op, tuple(step.inputs)) for step in work.steps]


# -- before the graph is divided among kernels -------------------------------------------------


def remove_identities(work: Workspace) -> None:
    """Read what an Identity copies; one that makes a graph output stays."""
    gone = [s for s in work.steps if s.op == "Identity" and s.outputs[0] not in work.outputs]
    _bypass(work, gone)


def fold_layers(work: Workspace) -> None:
    """Fold what follows a float convolution and is linear in it into its weights."""
    gone = []
    for step in work.steps:
        if step.op != "Conv" or not all(work.is_stored(i) for i in step.inputs[1:] if i):
            continue
        follower = work.find_sole_reader(step.outputs[0])
        while follower is not None and _is_foldable(work, step, follower):
            gone.append(follower)
            if len(step.inputs) < 3:
                step.inputs.append(work.name_value())
                size = work.stored[step.inputs[1]].shape
                shape = None if size is None else size[:1]
                work.stored[step.inputs[2]] = Stored(shape, "float32", None)
            if follower.outputs[0] in work.outputs:
                break
            follower = work.find_sole_reader(follower.outputs[0])
    _bypass(work, gone)


def _is_foldable(work: Workspace, conv: Step, follower: Step) -> bool:
    if follower.op == "BatchNormalization":
        return all(work.is_stored(i) for i in follower.inputs[1:])
    if follower.op not in ("Mul", "Add"):
        return False
    others = [work.stored.get(i) for i in follower.inputs if work.is_stored(i)]
    weight = work.stored[conv.inputs[1]].shape
    if len(others) != 1 or others[0] is None or others[0].shape is None or weight is None:
        return False
    per_channel = (weight[0], *[1] * (len(weight) - 2))
    allowed = [per_channel, (1, *per_channel)] + ([()] if follower.op == "Mul" else [])
    return others[0].shape in allowed


def remove_double_pairs(work: Workspace) -> None:
    """Make one pair of two that follow each other and have no other reader between them."""
    for step in list(work.steps):
        if step.op != DQ:
            continue
        parent, child = work.makers.get(step.inputs[0]), work.find_sole_reader(step.outputs[0])
        if parent is None or parent.op != Q or child is None or child.op != Q:
            continue
        if work.find_sole_reader(parent.outputs[0]) is not step:
            continue
        last = work.find_sole_reader(child.outputs[0])
        if last is None or last.op != DQ:
            continue
        if work.have_same_levels(parent, step) and work.have_same_levels(child, last):
            if not work.have_same_levels(step, child):
                levels = _intersect_levels(work, step, child)
                parent.inputs[1:] = levels
                last.inputs[1:] = levels
            last.inputs[0] = parent.outputs[0]
            work.remove([step, child])


def _intersect_levels(work: Workspace, first: Step, second: Step) -> list[str]:
    """Store the scale and zero point of the range that two quantizers have in common."""
    names = [work.name_value(), work.name_value()]
    numbers = [work.find_number(i) for s in (first, second) for i in s.inputs[1:]]
    scale: np.ndarray | None = None
    zero: np.ndarray | None = None
    if all(n is not None for n in numbers):
        a, a_zero, b, b_zero = (np.float32(n) for n in numbers if n is not None)
        low = max(-a_zero * a, -b_zero * b)
        high = min((_LEVELS - a_zero) * a, (_LEVELS - b_zero) * b)
        scale = np.float32((high - low) / np.float32(_LEVELS))
        zero = np.uint8(np.round(-low / scale))
    work.stored[names[0]] = Stored((), "float32", None if scale is None else np.asarray(scale))
    work.stored[names[1]] = Stored((), "uint8", None if zero is None else np.asarray(zero))
    return names


def merge_equal(work: Workspace) -> None:
    """Compute once what several operators compute from the same values."""
    first: dict[tuple[object, ...], Step] = {}
    same: dict[str, str] = {}
    kept = []
    for step in work.steps:
        step.inputs = [same.get(i, i) for i in step.inputs]
        key = (
            step.op,
            tuple(_identify(work, i) for i in step.inputs),
            tuple(sorted(step.attributes.items())),
        )
        found = None if step.op == DQ else first.get(key)
        if found is None or work.outputs.intersection(step.outputs):
            first.setdefault(key, step)
            kept.append(step)
            continue
        same |= dict(zip(step.outputs, found.outputs, strict=True))
    work.keep(kept)


def _identify(work: Workspace, name: str) -> object:
    stored = work.stored.get(name)
    known = stored is not None and stored.value is not None and stored.dtype in _SHARED
    if stored is None or stored.value is None or not known or stored.value.size > _SHARED_SIZE:
        return name
    return (stored.dtype, stored.shape, stored.value.tobytes())


def fold_stored(work: Workspace) -> None:
    """Compute what depends on no input once; dequantized weights stay as they are."""
    kept = []
    for step in work.steps:
        inputs = [i for i in step.inputs if i]
        fixed = bool(inputs) and all(work.is_stored(i) for i in inputs)
        fixed = fixed or (step.op == "Shape" and _has_fixed_sizes(work, step))
        if step.op == DQ or not fixed or work.outputs.intersection(step.outputs):
            kept.append(step)
            continue
        for output in step.outputs:
            shape = _infer_stored_shape(work, step)
            known = work.stored.get(inputs[0])
            dtype = "int8" if step.op == Q or known is None else known.dtype
            work.stored[output] = Stored(shape, dtype, None)
    work.keep(kept)


def _has_fixed_sizes(work: Workspace, step: Step) -> bool:
    """Whether a Shape describes dimensions of a graph input that are numbers."""
    shape = next((i.shape for i in work.graph.inputs if i.name == step.inputs[0]), None)
    if shape is None:
        return False
    start, end = step.attributes.get("start", 0), step.attributes.get("end", len(shape))
    if not isinstance(start, int) or not isinstance(end, int):
        return False
    return all(isinstance(size, int) for size in shape[start:end])


def _infer_stored_shape(work: Workspace, step: Step) -> tuple[int, ...] | None:
    known = work.stored.get(step.inputs[0])
    shape = None if known is None else known.shape
    if step.op == "Transpose" and shape is not None:
        order = step.attributes.get("perm", tuple(reversed(range(len(shape)))))
        return tuple(shape[int(a)] for a in order) if isinstance(order, tuple) else None
    return shape if step.op in (Q, "Identity") else None


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


# -- borders move ------------------------------------------------------------------------------


def carry_quantize(work: Workspace, contract: FusionContract) -> None:
    """Quantize before an operator that moves values what is quantized behind it."""
    for step in [s for s in work.steps if s.op == Q and _has_fixed_levels(work, s)]:
        edge: tuple[Step, int] | None = (step, 0)
        while edge is not None:
            reader, position = edge
            name = reader.inputs[position]
            mover = work.makers.get(name)
            alone = work.count_edges(name) == 1 and name not in work.outputs
            if mover is None or not alone or not _carries(contract, mover):
                break
            source = mover.inputs[0]
            maker = work.makers.get(source)
            shared = work.find_sole_reader(source) is None
            if maker is not None and (shared or maker.op == DQ):
                break
            _insert_pair(work, source, [(mover, 0)], step.inputs[1:])
            made = work.makers[mover.inputs[0]]
            edge = (work.makers[made.inputs[0]], 0)


def carry_dequantize(work: Workspace, contract: FusionContract) -> None:
    """Dequantize behind an operator that moves values what is dequantized before it."""
    for step in [s for s in work.steps if s.op == DQ and _has_fixed_levels(work, s)]:
        first = work.find_sole_reader(step.outputs[0])
        waiting = [] if first is None else [first]
        while waiting:
            mover = waiting.pop()
            if not _carries(contract, mover):
                continue
            name = mover.outputs[0]
            readers = [r for r in work.readers.get(name, []) if r[0].op != Q]
            if name in work.outputs:
                if not work.readers.get(name):
                    _insert_output_pair(work, mover, step.inputs[1:])
                continue
            if readers:
                _insert_pair(work, name, readers, step.inputs[1:])
                waiting += [reader for reader, _ in readers]


def _carries(contract: FusionContract, step: Step) -> bool:
    return step.op in CARRYING and contract.keeps(CARRYING[step.op])


def _has_fixed_levels(work: Workspace, step: Step) -> bool:
    return all(work.is_scalar(i) for i in step.inputs[1:])


def _insert_pair(
    work: Workspace, name: str, readers: Sequence[tuple[Step, int]], levels: Sequence[str]
) -> None:
    """Quantize and dequantize a value for some of its readers."""
    quantized = work.name_value()
    new = [Step(Q, [name, *levels], [quantized])]
    for reader, position in readers:
        result = work.name_value()
        new.append(Step(DQ, [quantized, *levels], [result]))
        reader.inputs[position] = result
    maker = work.makers.get(name)
    at = 0 if maker is None else work.steps.index(maker) + 1
    work.keep([*work.steps[:at], *new, *work.steps[at:]])


def _insert_output_pair(work: Workspace, mover: Step, levels: Sequence[str]) -> None:
    name, before, quantized = mover.outputs[0], work.name_value(), work.name_value()
    mover.outputs[0] = before
    new = [Step(Q, [before, *levels], [quantized]), Step(DQ, [quantized, *levels], [name])]
    at = work.steps.index(mover) + 1
    work.keep([*work.steps[:at], *new, *work.steps[at:]])


def split_dequantize(work: Workspace) -> None:
    """Give every reader of a dequantized value a DequantizeLinear of its own."""
    kept: list[Step] = []
    for step in work.steps:
        kept.append(step)
        if step.op != DQ:
            continue
        readers = work.readers.get(step.outputs[0], [])
        for reader, position in readers if step.outputs[0] in work.outputs else readers[1:]:
            copy = Step(
                DQ, list(step.inputs), [work.name_value()], dict(step.attributes), step.nodes
            )
            reader.inputs[position] = copy.outputs[0]
            kept.append(copy)
    work.keep(kept)


def quantize_float_layers(work: Workspace, contract: FusionContract) -> list[Step]:
    """Quantize float weights and biases of layers between quantized values, as the runtime does."""
    taken = []
    for step in list(work.steps):
        pattern = {"Conv": "float_conv_between", "Gemm": "float_gemm_between"}.get(step.op)
        if pattern is None or not contract.keeps(pattern) or not _leads_to_quantize(work, step):
            continue
        source = work.find_maker(step.inputs[0], DQ)
        if source is None or not work.is_scalar(source.inputs[1]):
            continue
        weight, bias = work.find_maker(step.inputs[1], DQ), (*step.inputs, "")[2]
        if weight is None and not work.is_stored(step.inputs[1]):
            continue
        shape = work.stored[bias].shape if work.is_stored(bias) else None
        if (bias and (shape is None or len(shape) != 1)) or (weight is not None and not bias):
            continue
        if weight is not None and not _has_scale_per_output(work, step, weight, shape):
            continue
        if weight is None:
            _dequantize_stored(work, step, 1, "int8")
            taken.append(step)
        if bias:
            _dequantize_stored(work, step, 2, "int32")
    return taken


def _leads_to_quantize(work: Workspace, step: Step) -> bool:
    reader = work.find_sole_reader(step.outputs[0])
    while reader is not None and reader.op in _CLIPS:
        reader = work.find_sole_reader(reader.outputs[0])
    return reader is not None and reader.op == Q


def _has_scale_per_output(
    work: Workspace, step: Step, weight: Step, bias: tuple[int, ...] | None
) -> bool:
    if work.is_scalar(weight.inputs[1]):
        return True
    if weight.attributes.get("block_size", 0) or work.stored[weight.inputs[1]].shape != bias:
        return False
    by_rows = step.op == "Conv" or bool(step.attributes.get("transB", 0))
    return weight.attributes.get("axis", 1) == (0 if by_rows else 1)


def _dequantize_stored(work: Workspace, step: Step, position: int, dtype: str) -> None:
    names = [work.name_value() for _ in range(3)]
    work.stored[names[0]] = Stored(work.stored[step.inputs[position]].shape, dtype, None)
    work.stored[names[1]] = Stored((), "float32", None)
    made = Step(DQ, names[:2], names[2:])
    step.inputs[position] = made.outputs[0]
    at = work.steps.index(step)
    work.keep([*work.steps[:at], made, *work.steps[at:]])


# -- kernels -----------------------------------------------------------------------------------


def remove_clips(work: Workspace) -> None:
    """Leave out a Relu or Clip that the quantizer behind it does by saturating."""
    _bypass(work, [s for s in work.steps if s.op in _CLIPS and _is_redundant(work, s)])


def _is_redundant(work: Workspace, clip: Step) -> bool:
    quantizer = work.find_sole_reader(clip.outputs[0])
    if quantizer is None or quantizer.op != Q or not _has_fixed_levels(work, quantizer):
        return False
    zero = work.find_number(quantizer.inputs[2])
    if clip.op == "Relu":
        # Nothing below zero is ever measured behind a Relu, so that calibrated ranges start at 0.
        return zero in (None, 0)
    scale = work.find_number(quantizer.inputs[1])
    low, high = (work.find_number(i) for i in (*clip.inputs, "", "")[1:3])
    if scale is None or zero is None:
        return True
    below = low is None or round(low / scale) + zero <= 0
    return below and (high is None or round(high / scale) + zero >= _LEVELS)


def fuse_quantized(work: Workspace, contract: FusionContract) -> None:
    """Replace operators between quantized values by the runtime's int8 kernels."""
    for step in list(work.steps):
        kernel = _choose_kernel(work, contract, step)
        if kernel is None:
            continue
        gone = [work.makers[i] for i in step.inputs if work.find_maker(i, DQ) is not None]
        if _is_weight_only(work, step):
            gone = [work.makers[step.inputs[1]]]
            # Its further inputs are scales, zero points and an order before the bias.
            step.inputs = [*step.inputs[:2], "", "", "", *step.inputs[2:]]
        for source in gone:
            step.inputs = [source.inputs[0] if i in source.outputs else i for i in step.inputs]
        quantizers = [q for q in _list_quantizers(work, step) if q is not None]
        step.outputs = [q.outputs[0] for q in quantizers] or step.outputs
        step.op, step.quantized = kernel, True
        work.remove([*gone, *quantizers])


Check = Callable[[Workspace, FusionContract, Step, list[Step]], str | None]


def _choose_kernel(work: Workspace, contract: FusionContract, step: Step) -> str | None:
    sources = [m for i in step.inputs if (m := work.find_maker(i, DQ)) is not None]
    if not sources or step.op in (Q, DQ) or _is_clipped(work, step):
        return None
    if step.op in MOVED:
        return _check_moved(work, contract, step, sources)
    if step.op == "MatMul":
        return _check_product(work, contract, step, sources)
    if step.op == "Gemm":
        return _check_gemm(work, contract, step, sources)
    if step.op not in COMPUTING or not contract.keeps(COMPUTING[step.op]):
        return None
    if not _is_quantized(work, step):
        return None
    needed = {"Where": 2, "Concat": len(step.inputs)}.get(
        step.op, len([i for i in step.inputs if i])
    )
    if len(sources) != needed:
        return None
    if step.op == "Conv" and not _fits_bias(work, contract, sources):
        return None
    return _find_kernel(contract, COMPUTING[step.op], step.op)


def _fits_bias(work: Workspace, contract: FusionContract, sources: list[Step]) -> bool:
    """Whether a bias's scale is that of the products it is added to, as far as they are known."""
    if len(sources) < 3 or contract.keeps("conv_bias_scale_off"):
        return True
    scales = [work.stored.get(s.inputs[1]) for s in sources]
    values = [s.value for s in scales if s is not None and s.value is not None]
    if len(values) < 3:
        return True
    product = values[0].reshape(-1) * values[1].reshape(-1)
    off = np.abs(values[2].reshape(-1) / product - 1)
    return bool((off <= _BIAS_TOLERANCE).all())


def _find_kernel(contract: FusionContract, pattern: str, op: str) -> str:
    """The kernel of a pattern; Concat's pattern holds a Sigmoid beside it."""
    made = [k for k, _ in contract.find(pattern).operators if k.startswith(("QLinear", "QGemm"))]
    matching = [k for k in made if k.endswith(op)]
    return matching[0] if matching else contract.find_kernel(pattern)


def _is_clipped(work: Workspace, step: Step) -> bool:
    """Whether a Relu or Clip that does something follows: such an operator is never fused."""
    reader = work.find_sole_reader(step.outputs[0])
    return (
        reader is not None
        and reader.op in _CLIPS
        and work.find_sole_reader(reader.outputs[0]) is not None
    )


def _list_quantizers(work: Workspace, step: Step) -> list[Step | None]:
    """For each output the QuantizeLinear that alone reads it."""
    readers = [work.find_sole_reader(o) for o in step.outputs]
    return [r if r is not None and r.op == Q else None for r in readers]


def _is_quantized(work: Workspace, step: Step) -> bool:
    return all(q is not None for q in _list_quantizers(work, step))


def _reads_quantize(work: Workspace, step: Step) -> bool:
    return any(r.op == Q for o in step.outputs for r, _ in work.readers.get(o, []))


def _is_blockwise(source: Step) -> bool:
    return bool(source.attributes.get("block_size", 0))


def _check_moved(
    work: Workspace, contract: FusionContract, step: Step, sources: list[Step]
) -> str | None:
    if len(sources) != 1 or not contract.keeps(MOVED[step.op]):
        return None
    if work.makers.get(step.inputs[0]) is not sources[0]:
        return None
    quantizers = _list_quantizers(work, step)
    same = all(q is not None and work.have_same_levels(q, sources[0]) for q in quantizers)
    return step.op if same else None


def _check_product(
    work: Workspace, contract: FusionContract, step: Step, sources: list[Step]
) -> str | None:
    if len(sources) == 1:
        return _check_weight_only(work, contract, step, sources[0])
    if len(sources) != 2 or any(_is_blockwise(s) for s in sources):
        return None
    weighted = work.is_stored(sources[1].inputs[0])
    if _reads_quantize(work, step):
        pattern = "matmul_q" if weighted else "act_matmul"
        if not _is_quantized(work, step) or not contract.keeps(pattern):
            return None
        return contract.find_kernel(pattern)
    pattern = "matmul_float_out" if weighted else "act_matmul_float_out"
    return contract.find_kernel("act_matmul_float_out") if contract.keeps(pattern) else None


def _is_weight_only(work: Workspace, step: Step) -> bool:
    """Whether a product reads float activations and dequantized weights."""
    return (
        step.op in ("MatMul", "Gemm")
        and work.find_maker(step.inputs[1], DQ) is not None
        and work.find_maker(step.inputs[0], DQ) is None
    )


def _check_weight_only(
    work: Workspace, contract: FusionContract, step: Step, source: Step
) -> str | None:
    form = "matmul" if step.op == "MatMul" else "gemm"
    pattern = f"block4_{form}" if _is_blockwise(source) else f"weight_only_{form}"
    alone = work.makers.get(step.inputs[1]) is source and work.is_stored(source.inputs[0])
    if not _is_blockwise(source) and source.attributes.get("axis", 1) != 1:
        return None
    if not alone or _reads_quantize(work, step) or not contract.keeps(pattern):
        return None
    return contract.find_kernel(pattern)


def _check_gemm(
    work: Workspace, contract: FusionContract, step: Step, sources: list[Step]
) -> str | None:
    if _is_weight_only(work, step):
        weight = work.makers[step.inputs[1]]
        plain = not step.attributes.get("transB", 0) and not step.attributes.get("transA", 0)
        return _check_weight_only(work, contract, step, weight) if plain else None
    if len(sources) != len([i for i in step.inputs if i]) or any(_is_blockwise(s) for s in sources):
        return None
    if not _reads_quantize(work, step):
        return contract.find_kernel("gemm_float_out") if contract.keeps("gemm_float_out") else None
    if not _is_quantized(work, step) or not contract.keeps("gemm_q"):
        return None
    return contract.find_kernel("gemm_q")


def fuse_dynamic(work: Workspace, contract: FusionContract) -> None:
    """Replace products whose input is quantized when they run by the runtime's kernels."""
    if not contract.keeps("dynamic_matmul"):
        return
    for step in list(work.steps):
        if step.op != "Mul":
            continue
        cast = next((m for i in step.inputs if (m := work.find_maker(i, "Cast"))), None)
        factor = next((m for i in step.inputs if (m := work.find_maker(i, "Mul"))), None)
        product = None if cast is None else work.find_maker(cast.inputs[0], "MatMulInteger")
        if cast is None or factor is None or product is None:
            continue
        between = (cast, factor, product)
        if any(work.find_sole_reader(s.outputs[0]) is None for s in between):
            continue
        _fuse_dynamic_product(work, contract, step, between)


def _fuse_dynamic_product(
    work: Workspace, contract: FusionContract, step: Step, between: tuple[Step, Step, Step]
) -> None:
    product = between[2]
    source = work.find_maker(product.inputs[0], "DynamicQuantizeLinear")
    alone = source is not None and sum(work.count_edges(o) for o in source.outputs) == 3
    gone = list(between)
    step.quantized = True
    step.nodes = tuple(n for s in (product, *between[:2], step) for n in s.nodes)
    if source is not None and alone:
        step.op = contract.find_kernel("dynamic_matmul")
        step.inputs = [source.inputs[0], product.inputs[1]]
        gone.append(source)
    else:
        step.op = contract.find_kernel("act_matmul_float_out")
        step.inputs = [*product.inputs, *between[1].inputs]
    work.remove(gone)


def remove_cancelling(work: Workspace) -> None:
    """Leave out a DequantizeLinear that is undone at once."""
    for step in list(work.steps):
        if step.op != DQ:
            continue
        follower = work.find_sole_reader(step.outputs[0])
        if follower is None or follower.op != Q or not work.have_same_levels(step, follower):
            continue
        if follower.outputs[0] in work.outputs:
            if work.readers.get(follower.outputs[0]):
                continue
            maker = work.makers.get(step.inputs[0])
            if maker is not None:
                maker.outputs = [
                    follower.outputs[0] if o == step.inputs[0] else o for o in maker.outputs
                ]
        for reader, position in work.readers.get(follower.outputs[0], []):
            reader.inputs[position] = step.inputs[0]
        work.remove([step, follower])


def _bypass(work: Workspace, gone: Sequence[Step]) -> None:
    """Remove steps, and let the readers of their results read their first inputs."""
    for step in gone:
        before, after = step.inputs[0], step.outputs[0]
        if after in work.outputs:
            maker = work.makers[before]
            maker.outputs = [after if o == before else o for o in maker.outputs]
            for reader, position in work.readers.get(before, []):
                reader.inputs[position] = after
        else:
            for reader, position in work.readers.get(after, []):
                reader.inputs[position] = before
        work.remove([step])

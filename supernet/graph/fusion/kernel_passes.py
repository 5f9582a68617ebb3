"""Which operators between quantized values a runtime replaces by kernels on integers."""

from __future__ import annotations

import numpy as np

from supernet.graph.fusion.contract import COMPUTING, MOVED, FusionContract
from supernet.graph.fusion.workspace import CLIPS, DQ, Q, Step, Workspace

# How far a bias's scale may be from the product of the two others.
_BIAS_TOLERANCE = 0.02


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


def note_integer_clips(work: Workspace) -> None:
    """Note which Clips read integers, before a QuantizeLinear that makes them is gone.

    Such is the factor of hard swish; the runtime leaves it as it is.
    """
    for step in work.steps:
        if step.op == "Clip" and work.find_maker(step.inputs[0], Q) is not None:
            step.quantized = True


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
        and reader.op in CLIPS
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

"""How a runtime moves, adds and removes the borders between float and quantized values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supernet.graph.fusion.contract import CARRYING, FusionContract
from supernet.graph.fusion.workspace import CLIPS, DQ, LEVELS, Q, Step, Stored, Workspace


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
        high = min((LEVELS - a_zero) * a, (LEVELS - b_zero) * b)
        scale = np.float32((high - low) / np.float32(LEVELS))
        zero = np.uint8(np.round(-low / scale))
    work.stored[names[0]] = Stored((), "float32", None if scale is None else np.asarray(scale))
    work.stored[names[1]] = Stored((), "uint8", None if zero is None else np.asarray(zero))
    return names


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
    while reader is not None and reader.op in CLIPS:
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


def remove_clips(work: Workspace) -> None:
    """Leave out a Relu or Clip that the quantizer behind it does by saturating."""
    work.bypass([s for s in work.steps if s.op in CLIPS and _is_redundant(work, s)])


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
        # Ranges are measured within the bounds of an activation. Bounds that are weights belong
        # to a quantizer of fewer bits, and are narrower than its eight.
        return all(i in work.constants for i in clip.inputs[1:] if i)
    below = low is None or round(low / scale) + zero <= 0
    return below and (high is None or round(high / scale) + zero >= LEVELS)


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

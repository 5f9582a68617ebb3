"""What a runtime computes once, merges and leaves out before it looks for quantized operators."""

from __future__ import annotations

import numpy as np

from supernet.graph.fusion.workspace import DQ, Q, Step, Stored, Workspace

# Types and largest size of constants that the runtime stores once where they are equal.
_SHARED = ("float32", "int32", "int64")
_SHARED_SIZE = 8


def remove_identities(work: Workspace) -> None:
    """Read what an Identity copies; one that makes a graph output stays."""
    gone = [s for s in work.steps if s.op == "Identity" and s.outputs[0] not in work.outputs]
    work.bypass(gone)


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
                weight = work.stored[step.inputs[1]].shape
                channels = None if weight is None else weight[:1]
                work.stored[step.inputs[2]] = Stored(channels, "float32", None)
            if follower.outputs[0] in work.outputs:
                break
            follower = work.find_sole_reader(follower.outputs[0])
    work.bypass(gone)


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
    """The shape of what stored values are made into, where it is known without computing them."""
    shapes = [s.shape for i in step.inputs if (s := work.stored.get(i)) is not None]
    first = shapes[0] if shapes else None
    if first is None:
        return None
    if step.op == "Transpose":
        order = step.attributes.get("perm", tuple(reversed(range(len(first)))))
        return tuple(first[int(a)] for a in order) if isinstance(order, tuple) else None
    if step.op == "Unsqueeze":
        axes = work.stored[step.inputs[1]].value
        return None if axes is None else np.expand_dims(np.empty(first), tuple(axes)).shape
    if step.op == "Expand":
        sizes = work.stored[step.inputs[1]].value
        return None if sizes is None else np.broadcast_shapes(first, tuple(int(d) for d in sizes))
    if step.op in ("Add", "Sub", "Mul", "Div"):
        known = [shape for shape in shapes if shape is not None]
        return np.broadcast_shapes(*known) if len(known) == len(step.inputs) else None
    return first if step.op in (Q, "Cast", "Identity") else None

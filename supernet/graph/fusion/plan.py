"""What a runtime will make of a quantized graph: its kernels, and the islands left in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from supernet.graph.fusion.contract import COMPUTING, MOVED, FusionContract
from supernet.graph.fusion.kernels import MOVING, expand_kernel
from supernet.graph.fusion.runtime_passes import optimise
from supernet.graph.fusion.workspace import DQ, Q, Step, Workspace
from supernet.graph.language import Graph

NO_KERNEL = "no kernel"
NOT_FUSED = "not fused"
FLOAT = "float"
REASONS = (NO_KERNEL, NOT_FUSED, FLOAT)
"""Why operators stay in float: the runtime has no int8 kernel; the pattern around them is not one
that it fuses; or they were never quantized."""

_LAYERS = ("Conv", "Gemm", "MatMul")
_BORDERS = (Q, DQ, "DynamicQuantizeLinear")


@dataclass(frozen=True, slots=True)
class Island:
    """Connected float operators of a graph, with quantized ones around them.

    Attributes:
        scope: The module path that all of them have in common.
        operators: Their types in execution order.
        reason: One of :data:`REASONS`, for the operators that decide.
        because: What decides, as a clause: ``"ONNX Runtime 1.32 has no int8 kernel for Erf"``.
    """

    scope: str
    operators: tuple[str, ...]
    reason: str
    because: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a runtime will execute for a graph.

    Attributes:
        runtime: Name and version of the runtime that the plan is for.
        operators: Kernels as :func:`supernet.graph.fusion.kernels.expand_kernel` counts them,
            and how many of each, sorted.
        islands: What stays in float between quantized operators.
        requantized: Module paths of float layers that the runtime quantizes by itself, to 8 bits
            per tensor, because they stand between quantized values.
    """

    runtime: str
    operators: tuple[tuple[str, int], ...]
    islands: tuple[Island, ...]
    requantized: tuple[str, ...]

    def count(self) -> Counter[str]:
        """Count the operators by type."""
        return Counter(dict(self.operators))

    def explain(self) -> list[str]:
        """Say what the islands are, and the layers quantized unasked: one sentence each.

        Islands of the same operators and reason are one sentence, with all their scopes.
        """
        alike: dict[tuple[str, str], list[str]] = {}
        for island in self.islands:
            listed = ", ".join(f"{n} {op}" for op, n in Counter(island.operators).items())
            scope = island.scope or "the network"
            alike.setdefault((listed, island.because), []).append(scope)
        lines = []
        for (listed, because), scopes in alike.items():
            times = f" ({len(scopes)} times)" if len(scopes) > 1 else ""
            named = ", ".join(dict.fromkeys(scopes))
            lines.append(f"{named}: {listed} in float{times}, because {because}.")
        lines += [
            f"{scope}: {self.runtime} quantizes its float weights, because it stands between "
            "quantized values."
            for scope in self.requantized
        ]
        return lines


def plan_operators(
    graph: Graph,
    contract: FusionContract,
    *,
    weights: Mapping[str, np.ndarray] | None = None,
) -> Plan:
    """Predict what a runtime makes of a graph, without it.

    Args:
        graph: A graph whose quantized values are written with QuantizeLinear and
            DequantizeLinear of uint8; a float graph is one without them.
        contract: What the runtime makes of each pattern.
        weights: Values of scales and zero points by name. Without them a Relu in front of a
            quantizer counts as part of it, a Clip does where its bounds are constants, and scales
            of different names count as different.

    Returns:
        The kernels, the islands of float, and the float layers that become quantized unasked.
    """
    work = Workspace(graph, weights)
    taken = optimise(work, contract)
    counts: Counter[str] = Counter()
    for step in work.steps:
        counts += expand_kernel(step.op, tuple(step.inputs), step.attributes)
    return Plan(
        runtime=f"{contract.runtime} {contract.version}",
        operators=tuple(sorted(counts.items())),
        islands=tuple(_list_islands(work, contract)),
        requantized=tuple(_join_scopes([step]) for step in taken),
    )


def _list_islands(work: Workspace, contract: FusionContract) -> list[Island]:
    groups = _connect(work, [s for s in work.steps if _is_float(s)])
    found = []
    for group in groups:
        computing = [s for s in group if s.op not in MOVING]
        if computing and any(_touches_quantized(work, s) for s in group):
            found.append(_describe_island(work, contract, group, computing))
    return found


def _is_float(step: Step) -> bool:
    return not step.quantized and step.op not in _BORDERS


def _connect(work: Workspace, steps: list[Step]) -> list[list[Step]]:
    """Divide steps into groups that read each other's results, in execution order."""
    group = {id(step): [step] for step in steps}
    for step in steps:
        for name in step.inputs:
            maker = work.makers.get(name)
            if maker is None or id(maker) not in group:
                continue
            ours, theirs = group[id(step)], group[id(maker)]
            if ours is not theirs:
                theirs += ours
                for moved in ours:
                    group[id(moved)] = theirs
    order = {id(step): at for at, step in enumerate(steps)}
    unique = {id(g): g for g in group.values()}
    return [sorted(g, key=lambda s: order[id(s)]) for g in unique.values()]


def _touches_quantized(work: Workspace, step: Step) -> bool:
    before = [work.makers.get(i) for i in step.inputs]
    after = [r for o in step.outputs for r, _ in work.readers.get(o, [])]
    return any(
        other is not None and (other.quantized or other.op in _BORDERS)
        for other in (*before, *after)
    )


def _describe_island(
    work: Workspace, contract: FusionContract, group: list[Step], computing: list[Step]
) -> Island:
    judged = [_judge(work, contract, step) for step in computing]
    deciding = min(judged)[0]
    reasons = list(dict.fromkeys(text for cause, text in judged if cause == deciding))
    because = "; ".join(reasons)
    if deciding == _WITHOUT_KERNEL:
        runtime = f"{contract.runtime} {contract.version}"
        because = f"{runtime} has no int8 kernel for {' and '.join(reasons)}"
    operators = tuple(step.op for step in computing)
    return Island(_join_scopes(group), operators, _CAUSES[deciding], because)


# Causes in the order in which they decide about an island, and what they are called.
_UNFUSED_LAYER, _FLOAT_LAYER, _WITHOUT_KERNEL, _UNFUSED, _FOLLOWING = range(5)
_CAUSES = (NOT_FUSED, FLOAT, NO_KERNEL, NOT_FUSED, FLOAT)


def _judge(work: Workspace, contract: FusionContract, step: Step) -> tuple[int, str]:
    """Say why one operator stays in float; of one without a kernel, what it is called."""
    if step.op in _LAYERS:
        weight = work.find_maker(step.inputs[1], DQ)
        if weight is not None and work.is_stored(weight.inputs[0]):
            return _UNFUSED_LAYER, _explain_layer(work, step, weight)
        if work.is_stored(step.inputs[1]):
            return _FLOAT_LAYER, f"the weights of {step.op} are not quantized"
    pattern = COMPUTING.get(step.op) or MOVED.get(step.op)
    if pattern is None or not contract.keeps(pattern):
        return _WITHOUT_KERNEL, step.op
    given = [i for i in step.inputs if i and not work.is_stored(i)]
    if all(work.find_maker(i, DQ) is not None for i in given):
        return _UNFUSED, _explain_result(work, step)
    return _FOLLOWING, "what is read there is not quantized"


def _explain_layer(work: Workspace, step: Step, weight: Step) -> str:
    if weight.attributes.get("block_size", 0):
        return f"{step.op} with weights in blocks reads or makes a quantized value"
    if work.find_maker(step.inputs[0], DQ) is None:
        return f"the weights of {step.op} are quantized, what it reads is not"
    return _explain_result(work, step)


def _explain_result(work: Workspace, step: Step) -> str:
    readers = [r for o in step.outputs for r, _ in work.readers.get(o, [])]
    kinds = sorted({r.op for r in readers} - {Q})
    if not kinds and len(readers) == 1:
        return f"the quantizer behind {step.op} does not fit its inputs"
    if not kinds:
        return f"what {step.op} makes is quantized in {len(readers)} ways"
    return f"what {step.op} makes is not quantized before {' and '.join(kinds)}"


def _join_scopes(steps: list[Step]) -> str:
    """The module path that all nodes of some steps have in common."""
    paths = [node.scope.split(".") for step in steps for node in step.nodes]
    common = paths[0] if paths else []
    for path in paths[1:]:
        same = 0
        while same < min(len(common), len(path)) and common[same] == path[same]:
            same += 1
        common = common[:same]
    return ".".join(common)

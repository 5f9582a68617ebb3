"""What graphs work with: shapes of all their tensors, bytes alive at once, and bit operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from supernet.graph.language import BATCH, Graph, Node, TensorSpec, fix_batch
from supernet.graph.quantized.packing import NIBBLES
from supernet.graph.tensor_specs import infer_tensor_specs
from supernet.quantization.formats import FLOAT_BITS, FP32, Format, find_format

Q, DQ = "QuantizeLinear", "DequantizeLinear"
# What gives another view of the same bytes.
_VIEWS = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"))
# What runtimes write over an input that nobody else reads.
_IN_PLACE = frozenset(
    (
        *("Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Erf", "Tanh", "Sqrt", "Neg"),
        *("Softmax", "BatchNormalization", "Add", "Sub", "Mul", "Div", "Pow"),
    )
)
_PRODUCTS = frozenset(("Conv", "Gemm", "MatMul", "MatMulInteger"))
# What reads integers and gives float, as well as integers.
_TO_FLOAT = frozenset(("Gemm", "MatMul"))
# What has a kernel from integers to integers, within which its float result is spent.
_KERNELS = frozenset(
    (
        *("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool"),
        *("MaxPool", "Sigmoid", "Softmax", "Transpose", "Slice", "Split", "Relu", "Clip"),
        *_VIEWS,
    )
)


def infer_tensors(graph: Graph) -> dict[str, tuple[tuple[int, ...], str]]:
    """Infer shape and numpy dtype of every tensor of a graph, for a batch of one.

    Args:
        graph: With or without a symbolic batch.

    Returns:
        By name; tensors whose shape depends on values are left out.
    """
    if any(BATCH in spec.shape for spec in (*graph.inputs, *graph.outputs)):
        graph = fix_batch(graph, 1)
    specs = infer_tensor_specs(graph).values()
    return {spec.name: (tuple(int(d) for d in spec.shape), spec.dtype) for spec in specs}


def count_bit_operations(graph: Graph, precision: str) -> int:
    """Count multiply-adds, each times the bits of its two factors (32 for float).

    As "bit operations" of HAQ (Wang et al. 2019, section 3) and of most work on mixed precision.

    Args:
        graph: A unit of a network.
        precision: Names of its formats, joined by ``+`` where every layer has one of its own.
    """
    if not graph.macs:
        return 0
    tensors = infer_tensors(graph)
    stored = {spec.name: spec for spec in graph.weights}
    makers = {name: node for node in graph.nodes for name in node.outputs}
    forms = _list_formats(precision)
    total, place = 0, 0
    for node in graph.nodes:
        if node.op not in _PRODUCTS:
            continue
        form = forms[min(place, len(forms) - 1)]
        bits = [_count_bits(name, node, makers, stored, form) for name in node.inputs[:2]]
        place += min(bits) < FLOAT_BITS
        total += count_product_macs(node, tensors) * bits[0] * bits[1]
    return total


def count_product_macs(node: Node, tensors: Mapping[str, tuple[tuple[int, ...], str]]) -> int:
    """Count the multiply-adds of a convolution or matrix product for one sample.

    Args:
        node: Conv, Gemm, MatMul or MatMulInteger.
        tensors: As :func:`infer_tensors` gives them.
    """
    results = prod(tensors[node.outputs[0]][0])
    if node.op == "Conv":
        return results * prod(tensors[node.inputs[1]][0][1:])
    return results * tensors[node.inputs[0]][0][-1]


def _list_formats(precision: str) -> list[Format]:
    names = [name for name in precision.split("+") if name != FP32.name]
    return [find_format(name) for name in names] or [FP32]


def _count_bits(
    name: str,
    reader: Node,
    makers: Mapping[str, Node],
    stored: Mapping[str, TensorSpec],
    form: Format,
) -> int:
    """Bits of one factor of a product."""
    maker = makers.get(name)
    if maker is not None and maker.op == DQ:
        name = maker.inputs[0]
        if name not in stored:
            return form.activation_bits
    elif reader.op != "MatMulInteger":
        return FLOAT_BITS
    return (stored[name].bits or _count_dtype_bits(stored[name].dtype)) if name in stored else 8


def measure_live_bytes(graph: Graph) -> int:
    """Measure the most bytes of activations that are alive at once, for one sample.

    Operators run in the order of the graph; a tensor is alive from its operator to its last
    reader. Reshaping gives another view of the same bytes, an elementwise operator writes over an
    input that nobody else reads, and a kernel that reads and gives integers never holds the floats
    between them. What a kernel needs for itself is not counted.

    Args:
        graph: A network or a unit of one, whose inputs and outputs count, too.
    """
    sizes = {
        name: prod(shape) * _count_dtype_bits(dtype) // 8
        for name, (shape, dtype) in infer_tensors(graph).items()
    }
    steps = _list_steps(graph)
    reads = Counter(name for step in steps for name in step.inputs)
    reads.update(spec.name for spec in graph.outputs)
    place = {spec.name: spec.name for spec in graph.inputs}
    alive = {spec.name: sizes[spec.name] for spec in graph.inputs}
    peak = sum(alive.values())
    for step in steps:
        for name in step.outputs:
            place[name] = _choose_place(step, name, reads, place, sizes)
            alive.setdefault(place[name], sizes[name])
        peak = max(peak, sum(alive.values()))
        reads.subtract(step.inputs)
        used = {place[name] for name in place if reads[name] > 0}
        alive = {name: size for name, size in alive.items() if name in used}
    return peak


@dataclass(frozen=True)
class _Step:
    """An operator as a runtime executes it: what it reads and gives, of activations."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _choose_place(
    step: _Step,
    name: str,
    reads: Mapping[str, int],
    place: Mapping[str, str],
    sizes: Mapping[str, int],
) -> str:
    """The tensor in whose bytes a result is written: its own, or one that it takes over."""
    for source in step.inputs:
        if step.op in _VIEWS:
            return place[source]
        others = [other for other in place if place[other] == place[source] and reads[other] > 0]
        same = sizes[source] == sizes[name] and others == [source]
        if step.op in _IN_PLACE and same and reads[source] == step.inputs.count(source):
            return place[source]
    return name


def _list_steps(graph: Graph) -> list[_Step]:
    """Operators with the quantizers around integer kernels taken in."""
    makers = {name: node for node in graph.nodes for name in node.outputs}
    known = {spec.name for spec in graph.weights} | {c.name for c in graph.constants}
    for node in graph.nodes:
        # What follows from weights alone is computed when a runtime loads the model.
        if set(node.inputs) <= known | {""}:
            known.update(node.outputs)
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    given = {spec.name for spec in graph.outputs}

    def reads_integers(node: Node) -> bool:
        floats = [name for name in node.inputs if name and name not in known]
        sources = [makers.get(name) for name in floats]
        return bool(sources) and all(s is not None and s.op == DQ for s in sources)

    def gives_integers(node: Node) -> bool:
        return all(
            name not in given and all(r.op == Q for r in readers.get(name, ()))
            for name in node.outputs
        )

    def is_kernel(node: Node) -> bool:
        fused = node.op in _TO_FLOAT or (node.op in _KERNELS and gives_integers(node))
        return fused and reads_integers(node)

    steps = []
    for node in graph.nodes:
        if set(node.outputs) <= known:
            continue
        kernel = is_kernel(node)
        inside = node.op == DQ and node.outputs[0] not in given
        if inside and all(is_kernel(r) for r in readers.get(node.outputs[0], ())):
            continue
        inputs = [name for name in node.inputs if name and name not in known]
        maker = makers.get(inputs[0]) if inputs else None
        if node.op == Q and maker is not None and is_kernel(maker) and gives_integers(maker):
            continue
        outputs = list(node.outputs)
        if kernel:
            inputs = [makers[name].inputs[0] for name in inputs]
        if kernel and gives_integers(node):
            outputs = [r.outputs[0] for name in node.outputs for r in readers.get(name, ())]
        steps.append(_Step(node.op, tuple(inputs), tuple(outputs)))
    return steps


def _count_dtype_bits(dtype: str) -> int:
    return 4 if dtype == NIBBLES else 8 * np.dtype(dtype).itemsize

"""Random integers, scales and zero points for a graph's weights: enough to measure time with."""

from __future__ import annotations

import math

import numpy as np

from supernet.graph.language import Graph, Node, TensorSpec
from supernet.graph.quantized.packing import NIBBLES, list_limits

# Activations are about one in size, so that most of them lie in what eight bits hold.
_LIMIT = 4.0
_MIDDLE = 128
# Levels from -3 to 3.
_BEND = 192
# Fresh in every layer, so that no stack of layers drives its activations to zero.
_BIAS = 0.5


def draw_random_integers(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw what the quantized operators of a graph read.

    Names tell what a tensor is: ``K.scale`` and ``K.zero_point`` belong to activations,
    ``W.scale`` and ``W.zero_point`` to a weight ``W`` of integers, ``K.sixth`` and ``K.factor`` are
    a sixth of ``K.scale``, bounds of integers are as far from 0 as 6. Scales of biases are the
    products that the runtime takes them for.

    Returns:
        Values by weight name, int4 ones as int8; weights that stay float are left out.
    """
    specs = {spec.name: spec for spec in graph.weights}
    makers = {output: node for node in graph.nodes for output in node.outputs}
    readers = {name: node for node in reversed(graph.nodes) for name in node.inputs}
    values = {name: _draw_levels(spec, rng) for name, spec in specs.items() if _is_level(spec)}
    for name, spec in specs.items():
        owner = specs.get(name.removesuffix(".scale"), spec)
        if not name.endswith(".scale"):
            bound = _find_bound(spec, readers.get(name))
            if bound is not None:
                values[name] = np.full(_list_sizes(spec), bound, dtype=spec.dtype)
        elif owner.dtype != "int32":
            size = 2 * _LIMIT / 256 if owner is spec else _choose_scale(owner, readers)
            values[name] = _draw_near(size, spec, rng)
    for name in specs:
        if name.endswith((".sixth", ".factor")):
            scale = values[f"{name.rpartition('.')[0]}.scale"]
            values[name] = np.asarray(scale / np.float32(6))
    known = {c.name: c.array() for c in graph.constants} | values
    for name, spec in specs.items():
        if spec.dtype == "int32":
            product = _multiply_scales(name, makers, readers, known)
            steps = rng.standard_normal(_list_sizes(spec)) * _BIAS / product
            values[name] = np.asarray(steps).round().astype(np.int32)
            if f"{name}.scale" in specs:
                sizes = _list_sizes(specs[f"{name}.scale"])
                values[f"{name}.scale"] = np.broadcast_to(product, sizes).copy()
    return values


def _is_level(spec: TensorSpec) -> bool:
    return spec.dtype in ("uint8", "int8", NIBBLES)


def _draw_levels(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    shape = _list_sizes(spec)
    if spec.dtype == "uint8":
        return np.full(shape, _MIDDLE, dtype=np.uint8)
    if spec.name.endswith(".zero_point"):
        return np.zeros(shape, dtype=np.int8)
    high = list_limits(spec)[1]
    return rng.integers(-high, high, shape, dtype=np.int8, endpoint=True)


def _draw_near(size: float, spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """Positive numbers around ``size``, none equal: equal scales may be fused away."""
    return np.asarray(size * rng.uniform(0.9, 1.1, _list_sizes(spec)), dtype=spec.dtype)


def _choose_scale(spec: TensorSpec, readers: dict[str, Node]) -> float:
    """A scale that gives random levels the variance of He's initialisation."""
    shape = _list_sizes(spec)
    reader = readers[spec.name]
    if reader.op == "DequantizeLinear":
        reader = readers[reader.outputs[0]]
    terms = shape[0] if reader.op.startswith("MatMul") else math.prod(shape[1:])
    levels = 2 * list_limits(spec)[1] + 1
    return math.sqrt(2 / terms) / math.sqrt((levels**2 - 1) / 12)


def _find_bound(spec: TensorSpec, reader: Node | None) -> float | None:
    """The value of a weight that is a bound of a Clip: of floats, or of hard swish's factor."""
    clips = [name for name in reader.inputs[1:] if name] if reader and reader.op == "Clip" else []
    if spec.name not in clips:
        return None
    if spec.dtype == "uint8":
        return _BEND
    return -_LIMIT if clips[0] == spec.name else _LIMIT


def _multiply_scales(
    bias: str, makers: dict[str, Node], readers: dict[str, Node], known: dict[str, np.ndarray]
) -> np.ndarray:
    """Product of the scales of what a bias is added to; a small step where they are not told."""
    small = np.array(1e-3, dtype=np.float32)
    quantized = readers.get(bias)
    reader = readers.get(quantized.outputs[0]) if quantized else None
    if reader is None or len(reader.inputs) < 3:
        return small
    sources = [makers.get(name) for name in reader.inputs[:2]]
    names = [s.inputs[1] for s in sources if s and s.op == "DequantizeLinear"]
    if len(names) != 2 or not all(name in known for name in names):
        return small
    product: np.ndarray = known[names[0]] * known[names[1]]
    return product


def _list_sizes(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(int(d) for d in spec.shape)

"""Graphs of integers as ONNX: right numbers, fused by the runtime, stored at their bits."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supernet.errors import InputError
from supernet.graph.language import Graph, Node, TensorSpec
from supernet.graph.onnx_model import (
    OPSET,
    QUANTIZED_OPSET,
    draw_random_inputs,
    draw_random_weights,
    to_onnx,
)
from supernet.graph.quantized.overhead import itemise_overhead
from supernet.graph.quantized.packing import is_packed, measure_overhead, stored_bytes
from supernet.graph.quantized.short_names import shorten_names
from tests.timing import least_seconds

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from tests.toys.quantized_graphs import (  # noqa: E402
    QuantizedGraph,
    list_optimised,
    load_session,
    make_blocks,
    run,
)
from tests.toys.saturating_processors import skip_unless_exact  # noqa: E402

BITS = (2, 3, 4, 5, 6, 7)
UNPACKING = {"Cast", "Gather", "BitwiseOr", "Split"}


def conv(bits: int = 0) -> Graph:
    g = QuantizedGraph((16, 7, 7))
    y = g.conv(g.quantize("x", "input"), "conv", (12, 16, 3, 3), bits)
    return g.finish(g.quantize(y, "bn"), (12, 7, 7))


def depthwise(bits: int = 0) -> Graph:
    g = QuantizedGraph((15, 7, 7))
    y = g.conv(g.quantize("x", "input"), "conv", (15, 1, 3, 3), bits, group=15)
    return g.finish(g.quantize(y, "bn"), (15, 7, 7))


def gemm(bits: int = 0) -> Graph:
    g = QuantizedGraph((32,))
    return g.finish(g.gemm(g.quantize("x", "input"), "linear", (10, 32), bits), (10,))


def matmul(bits: int = 0) -> Graph:
    g = QuantizedGraph((5, 32))
    return g.finish(g.matmul(g.quantize("x", "input"), "linear", (32, 24), bits), (5, 24))


def dynamic(bits: int = 0) -> Graph:
    g = QuantizedGraph((5, 32))
    return g.finish(g.matmul_dynamic("x", "linear", (32, 24), bits), (5, 24))


def residual(bits: int = 0) -> Graph:
    g = QuantizedGraph((16, 7, 7))
    x = g.quantize("x", "input")
    y = g.quantize(g.conv(x, "conv", (16, 16, 1, 1), bits), "bn")
    return g.finish(g.quantize(g.add("Add", y, x), "bn/add"), (16, 7, 7))


def hardswish() -> Graph:
    g = QuantizedGraph((16, 7, 7))
    return g.finish(g.hardswish(g.quantize("x", "input"), "input", "act"), (16, 7, 7))


def attention() -> Graph:
    g = QuantizedGraph((5, 32))
    x = g.quantize("x", "input")
    turned = g.quantize(g.add("Transpose", x, perm=(0, 2, 1)), "input")
    return g.finish(g.quantize(g.add("MatMul", x, turned), "scores"), (5, 5))


def blocks4() -> Graph:
    g = QuantizedGraph((5, 64))
    return g.finish(g.matmul_blocks("x", "linear", (64, 24)), (5, 24))


def network(bits: int = 0) -> Graph:
    return make_blocks(2, 8, (bits,), squeeze=True)


def unpacked(graph: Graph) -> Graph:
    """The same graph with its integers stored as int8."""
    return replace(graph, weights=tuple(replace(w, bits=0) for w in graph.weights))


def draw_inputs(graph: Graph, batch: int = 2) -> np.ndarray:
    return draw_random_inputs(graph, 0, batch)["x"] * 6 - 3


@pytest.mark.parametrize(
    ("build", "fused"),
    [
        (conv, {"QLinearConv": 1}),
        (depthwise, {"QLinearConv": 1}),
        (gemm, {"QGemm": 1}),
        (matmul, {"MatMulIntegerToFloat": 1}),
        (residual, {"QLinearConv": 1, "QLinearAdd": 1}),
        (hardswish, {"QLinearAdd": 1, "QLinearMul": 1}),
        (attention, {"QLinearMatMul": 1}),
        (dynamic, {"DynamicQuantizeMatMul": 1}),
        (network, {"QLinearConv": 8, "QLinearAdd": 7, "QLinearMul": 5, "QGemm": 1}),
    ],
)
def test_runtime_fuses_graphs_and_agrees_with_onnx(
    build: Callable[[], Graph], fused: dict[str, int], tmp_path: Path
) -> None:
    check_fusion(build(), fused, tmp_path)


@pytest.mark.parametrize(
    ("build", "fused"),
    [
        (conv, {"QLinearConv": 1}),
        (gemm, {"QGemm": 1}),
        (matmul, {"MatMulIntegerToFloat": 1}),
        (residual, {"QLinearConv": 1, "QLinearAdd": 1}),
        (dynamic, {"DynamicQuantizeMatMul": 1}),
        (network, {"QLinearConv": 8, "QLinearAdd": 7, "QLinearMul": 5, "QGemm": 1}),
    ],
)
def test_runtime_agrees_with_onnx_on_weights_that_every_processor_multiplies_exactly(
    build: Callable[[int], Graph], fused: dict[str, int], tmp_path: Path
) -> None:
    check_fusion(build(6), fused, tmp_path)


def check_fusion(graph: Graph, fused: dict[str, int], tmp_path: Path) -> None:
    """Hold a graph with random weights against onnx where the processor is exact.

    Args:
        graph: what the runtime runs.
        fused: quantized operators that the runtime must make of it, by how many.
        tmp_path: for the optimised model.
    """
    values = draw_random_weights(graph, 1)
    model = to_onnx(graph, values)
    assert (model.opset_import[0].version, model.ir_version) == (QUANTIZED_OPSET, 10)
    onnx.checker.check_model(model, full_check=True)
    data, x = model.SerializeToString(), draw_inputs(graph)
    found = list_optimised(data, tmp_path)
    assert {op: found[op] for op in fused} == fused
    assert not {"Conv", "MatMul", "Gemm", "Mul"}.intersection(found)
    skip_unless_exact(graph, values)
    got = load_session(data).run(None, {"x": x})[0]
    # Float arithmetic on what DequantizeLinear gives, in numpy.
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    assert got.std() > 0.3
    assert np.abs(got - expected).max() < 1e-4


def test_products_in_blocks_of_four_bits_are_one_operator(tmp_path: Path) -> None:
    graph = blocks4()
    values = draw_random_weights(graph, 1)
    x = draw_inputs(graph)
    steps = np.repeat(values["linear.weight.scale"], 32, axis=0)
    expected = x @ (values["linear.weight"] * steps) + values["linear.bias"]
    data = to_onnx(graph, values).SerializeToString()
    assert list_optimised(data, tmp_path) == {"MatMulNBits": 1}
    # The runtime rounds activations to eight bits in blocks.
    assert np.abs(run(graph, values, x) - expected).max() < 0.02 * np.abs(expected).max()
    assert measure_overhead(data, graph) < 400


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("build", [conv, depthwise, gemm, matmul, dynamic, residual, network])
def test_packed_weights_are_unpacked_while_loading(
    build: Callable[[int], Graph], bits: int, tmp_path: Path
) -> None:
    graph = build(bits)
    values = draw_random_weights(graph, 2)
    x = draw_inputs(graph)
    assert np.array_equal(run(graph, values, x), run(unpacked(graph), values, x))
    packed = list_optimised(to_onnx(graph, values).SerializeToString(), tmp_path)
    assert packed == list_optimised(to_onnx(unpacked(graph), values).SerializeToString(), tmp_path)
    assert not UNPACKING.intersection(packed)


def test_unpacking_means_the_same_to_onnx() -> None:
    graph = make_blocks(6, 5, BITS)
    values = draw_random_weights(graph, 2)
    model = to_onnx(graph, values)
    onnx.checker.check_model(model, full_check=True)
    names = [w.name for w in graph.weights if is_packed(w)]
    short = shorten_names(graph)
    for name in names:
        spec = next(w for w in graph.weights if w.name == name)
        info = onnx.helper.make_tensor_value_info(
            short[name], onnx.TensorProto.INT8, list(spec.shape)
        )
        model.graph.output.append(info)
    outputs = [short[name] for name in names]
    got = ReferenceEvaluator(model).run(outputs, {"x": draw_inputs(graph)})
    for name, value in zip(names, got, strict=True):
        assert np.array_equal(value, values[name])


def test_initialisers_hold_exactly_the_stored_bytes() -> None:
    graph = make_blocks(6, 5, BITS)
    model = to_onnx(graph, draw_random_weights(graph, 2))
    sizes = {i.name: len(i.raw_data) for i in model.graph.initializer}
    scalars = [spec for spec in graph.weights if not spec.shape]
    structure = {shorten_names(graph)[c.name] for c in (*graph.constants, *scalars)}
    for node in model.graph.node:
        if node.op_type in ("Reshape", "Split", "Pad"):
            structure.add(node.input[1])  # shapes, sizes and numbers of zeros
        if node.op_type == "Gather":
            structure.add(node.input[0])  # tables
    assert sum(n for name, n in sizes.items() if name not in structure) == stored_bytes(graph)
    data = model.SerializeToString()
    assert measure_overhead(data, graph) == len(data) - stored_bytes(graph)


def test_overhead_is_named_to_the_byte() -> None:
    for graph in (make_blocks(6, 5, BITS), make_blocks(2, 8), blocks4(), dynamic(3)):
        model = to_onnx(graph, seed=1)
        items = itemise_overhead(model.SerializeToString(), graph)
        assert sum(items.values()) == measure_overhead(model.SerializeToString(), graph)
        assert bool(items["unpacking"]) == any(is_packed(w) for w in graph.weights)
        # Inputs, outputs and versions: what is left of the model without operators and weights.
        del model.graph.node[:]
        del model.graph.initializer[:]
        assert 0 <= items["interface"] - model.ByteSize() <= 8  # lengths of what holds the rest


def test_overhead_of_a_network_of_eighty_layers_is_below_64_kb() -> None:
    graph = make_blocks(20, 16, BITS, squeeze=True)
    layers = sum(n.op in ("Conv", "Gemm") for n in graph.nodes)
    assert layers == 81
    packed = measure_overhead(to_onnx(graph).SerializeToString(), graph)
    plain = measure_overhead(to_onnx(unpacked(graph)).SerializeToString(), unpacked(graph))
    assert packed <= 64 * 1024
    assert packed - plain < 150 * layers


def test_writing_five_million_weights_takes_three_tenths_of_a_second() -> None:
    g = QuantizedGraph((5, 1000))
    x = g.quantize("x", "input")
    for bits in (3, 4, 5, 6, 7):
        y = g.matmul(x, f"linear{bits}", (1000, 1000), bits)
        x = g.quantize(y, f"linear{bits}")
    graph = g.finish(x, (5, 1000))
    values = draw_random_weights(graph, 0)
    everything = np.ones(5_000_000, dtype=np.int8)
    copying = least_seconds(everything.copy)
    seconds = least_seconds(lambda: to_onnx(graph, values).SerializeToString(), 2)
    assert seconds < max(0.3, 300 * copying)


def test_float_graphs_stay_as_they_were() -> None:
    spec = TensorSpec("x", ("batch", 4), "float32")
    nodes = (Node("ReduceMax", ("x",), ("y",), (("axes", (1,)), ("keepdims", 1)), "a.b"),)
    graph = Graph((spec,), (TensorSpec("y", ("batch", 1), "float32"),), nodes, (), (), 0, 0)
    model = to_onnx(graph)
    assert (model.opset_import[0].version, model.ir_version) == (OPSET, 8)
    assert model.graph.node[0].name == "a.b/ReduceMax_0"
    assert list(model.graph.node[0].input) == ["x"]
    assert not model.graph.initializer


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceMin"])
def test_reductions_of_quantized_graphs_read_their_axes(op: str) -> None:
    g = QuantizedGraph((3, 4))
    graph = g.finish(g.add(op, g.quantize("x", "input"), axes=(-2, -1), keepdims=0), ())
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    x = draw_inputs(graph)
    assert np.allclose(
        load_session(model.SerializeToString()).run(None, {"x": x})[0],
        ReferenceEvaluator(model).run(None, {"x": x})[0],
    )


def test_no_other_operator_changed_between_the_two_operator_sets() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    folder = Path(__file__).parents[2] / "supernet" / "graph" / "operators"
    trees = [ast.parse(file.read_text()) for file in folder.glob("*.py")]
    strings = {n.value for t in trees for n in ast.walk(t) if isinstance(n, ast.Constant)}
    emitted = {s for s in strings if isinstance(s, str) and s in known}
    assert len(emitted) > 50
    changed = set()
    for op in emitted:
        old, new = (onnx.defs.get_schema(op, v) for v in (OPSET, QUANTIZED_OPSET))
        inputs = [[i.name for i in schema.inputs] for schema in (old, new)]
        required = [a for a in new.attributes.values() if a.required]
        if (
            inputs[1][: len(inputs[0])] != inputs[0]
            or not set(old.attributes) <= set(new.attributes)
            or any(a.name not in old.attributes for a in required)
        ):
            changed.add(op)
    assert changed == {"ReduceMean", "ReduceMax", "ReduceMin"}


def test_names_are_short_and_must_be_free() -> None:
    graph = make_blocks(3, 8)
    short = shorten_names(graph)
    assert len(set(short.values())) == len(graph.weights) + len(graph.constants)
    assert {name for name, value in short.items() if value == "w10"} == {graph.weights[36].name}
    names = {i.name for i in to_onnx(graph).graph.initializer}
    assert names == set(short.values())
    products = [n.name for n in to_onnx(graph).graph.node if n.op_type == "Conv"]
    assert products[0].startswith("stages.0.0.expand.conv/Conv_")
    clashing = replace(graph, inputs=(TensorSpec("w3", ("batch", 8, 7, 7), "float32"),))
    with pytest.raises(InputError, match="tensor 'w3' has a name that weights are given"):
        to_onnx(clashing)


def test_values_that_do_not_fit_their_bits_are_refused() -> None:
    for graph, low, high in ((conv(3), -4, 3), (blocks4(), -8, 7)):
        name = next(w.name for w in graph.weights if w.name.endswith("weight"))
        values = draw_random_weights(graph, 0)
        for value in (low - 1, high + 1):
            wrong = values[name].copy()
            wrong.flat[0] = value
            with pytest.raises(InputError, match=f"{name!r} has values in .*hold {low}..{high}"):
                to_onnx(graph, values | {name: wrong})


def test_floats_are_not_taken_for_integers() -> None:
    graph = conv()
    values = draw_random_weights(graph, 0)
    wrong = values | {"conv.weight": values["conv.weight"] / 2}
    with pytest.raises(InputError, match=r"'conv.weight' has float.* values; the graph needs int8"):
        to_onnx(graph, wrong)
    wrong = values | {"input.zero_point": np.array(-1)}
    with pytest.raises(InputError, match=r"'input.zero_point' has values in -1..-1.* 0..255"):
        to_onnx(graph, wrong)


def test_scalars_stay_scalars() -> None:
    graph = conv()
    shapes = {
        i.name: tuple(i.dims)
        for i in to_onnx(graph, draw_random_weights(graph, 0)).graph.initializer
    }
    short = shorten_names(graph)
    assert all(shapes[short[w.name]] == w.shape for w in graph.weights)


def test_random_values_have_the_graphs_types_and_are_reproducible() -> None:
    graph = make_blocks(3, 8, (0, 2, 5), squeeze=True)
    first, second = draw_random_weights(graph, 4), draw_random_weights(graph, 4)
    assert first.keys() == {w.name for w in graph.weights}
    for spec in graph.weights:
        value = first[spec.name]
        assert value.dtype == spec.dtype
        assert value.shape == spec.shape
        assert np.array_equal(value, second[spec.name])
    other = draw_random_weights(graph, 5)
    assert not np.array_equal(first["classifier.weight"], other["classifier.weight"])


def test_random_values_use_their_bits_and_fit_each_other() -> None:
    graph = make_blocks(3, 8, (0, 2, 5))
    values = draw_random_weights(graph, 4)
    for i, high in enumerate((127, 1, 15)):
        levels = values[f"stages.0.{i}.expand.conv.weight"]
        assert -high <= levels.min() < -0.9 * high
        assert 0.9 * high < levels.max() <= high
    scale = values["stages.0.1.expand.bn.scale"]
    assert values["stages.0.1.expand.bn.sixth"] == np.float32(scale / np.float32(6))
    # The convolution reads what the block before adds up; its bias is in steps of the product.
    step = values["stages.0.0.project.bn/add.scale"] * values["stages.0.1.expand.conv.weight.scale"]
    assert np.array_equal(values["stages.0.1.expand.conv.bias.scale"], step)
    assert 0.2 < (values["stages.0.1.expand.conv.bias"] * step).std() < 1


def test_random_activations_neither_saturate_nor_vanish() -> None:
    graph = make_blocks(12, 16, (0, 3), squeeze=True)
    model = to_onnx(graph, seed=6)
    names = [n.outputs[0] for n in graph.nodes if n.op == "QuantizeLinear"]
    for name in names:
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None)
        model.graph.output.append(info)
    session = load_session(model.SerializeToString())
    for q in session.run(names, {"x": draw_inputs(graph, 1)}):
        assert np.isin(q, (0, 255)).mean() < 0.7
        assert len(np.unique(q)) > min(q.size, 64) / 4


def test_units_between_quantized_neighbours_read_and_write_bytes() -> None:
    g = QuantizedGraph((4, 6, 6), "uint8")
    y = g.conv(g.add("DequantizeLinear", "x", *g.steps("input")), "conv", (8, 4, 3, 3), 5)
    y = g.add("QuantizeLinear", y, *g.steps("bn"))
    graph = g.finish(y, (8, 6, 6))
    graph = replace(graph, outputs=(replace(graph.outputs[0], dtype="uint8"),))
    got = run(graph, draw_random_weights(graph, 0), draw_random_inputs(graph, 0)["x"])
    assert got.dtype == np.uint8
    assert len(np.unique(got)) > 64


def test_random_inputs_of_bytes_are_bytes() -> None:
    g = QuantizedGraph((3, 8, 8), "uint8")
    graph = g.finish(g.add("DequantizeLinear", "x", *g.steps("input")), (3, 8, 8))
    x = draw_random_inputs(graph, 0)["x"]
    assert x.dtype == np.uint8
    assert len(np.unique(x)) > 60
    assert run(graph, draw_random_weights(graph, 0), x).std() > 1


def test_clips_of_fewer_levels_have_bounds_in_order() -> None:
    g = QuantizedGraph((8,))
    bounds = [g.weight(f"input.{name}", (), "float32") for name in ("low", "high")]
    graph = g.finish(g.quantize(g.add("Clip", "x", *bounds), "input"), (8,))
    values = draw_random_weights(graph, 0)
    assert values["input.low"] < 0 < values["input.high"]
    assert Counter(v.dtype.name for v in values.values()) == {"float32": 3, "uint8": 1}

"""The integer simulator gives what ONNX Runtime gives, layer by layer, for every kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from supernet.errors import InputError
from supernet.graph.integer.fused_operators import find_fused_operators
from supernet.graph.integer.graph_values import read_stored
from supernet.graph.integer.integer_simulator import simulate, simulate_layers
from supernet.graph.integer.runtime_rewrites import rewrite
from supernet.graph.integer.saturation import check_graph
from supernet.graph.language import Graph, Node
from supernet.graph.lowering import lower
from tests.toys.integer_layers import (
    LAYERS,
    QdqBuilder,
    biased_product_that_stays_float,
    float_convolution_before_an_activation,
    float_convolution_behind_a_scale_per_channel,
    float_convolution_between_quantizers,
    four_bit_weights_after_a_quantizer,
    four_bit_weights_before_a_quantizer,
    normalised_float_convolution_between_quantizers,
    product_with_a_bias_row,
    product_with_a_bias_vector,
    product_with_four_bit_weights,
)
from tests.toys.saturating_processors import skip_unless_exact

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

EQUAL = 0.999
"""Share of a layer's whole numbers that must be those of ONNX Runtime; kernels differ by machine
in where they round."""


def write_onnx(graph: Graph, values: dict[str, np.ndarray]) -> bytes:
    """A QDQ graph as an ONNX file."""
    helper = onnx.helper

    def element(dtype: str) -> int:
        if dtype == "int4":
            return int(onnx.TensorProto.INT4)
        return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def tensor(name: str, array: np.ndarray, dtype: str) -> Any:
        return helper.make_tensor(name, element(dtype), array.shape, array.flatten().tolist())

    body = helper.make_graph(
        [
            helper.make_node(
                n.op,
                n.inputs,
                n.outputs,
                name=f"{n.scope}/{n.op}",
                **{k: list(v) if isinstance(v, tuple) else v for k, v in n.attributes},
            )
            for n in graph.nodes
        ],
        "network",
        [helper.make_tensor_value_info(i.name, element(i.dtype), i.shape) for i in graph.inputs],
        [helper.make_tensor_value_info(o.name, element(o.dtype), None) for o in graph.outputs],
        [tensor(w.name, values[w.name], w.dtype) for w in graph.weights]
        + [tensor(c.name, c.array(), c.dtype) for c in graph.constants],
    )
    opset = [helper.make_opsetid("", 21)]
    data: bytes = helper.make_model(body, opset_imports=opset, ir_version=10).SerializeToString()
    return data


def run_onnx_runtime(
    builder: QdqBuilder, graph: Graph, optimized: Path
) -> tuple[dict[str, np.ndarray], Counter[str]]:
    """A graph's outputs by ONNX Runtime at its default options, and the operators it ran."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = str(optimized)
    session = ort.InferenceSession(
        write_onnx(graph, builder.values), options, providers=["CPUExecutionProvider"]
    )
    names = [o.name for o in graph.outputs]
    outputs = dict(zip(names, session.run(names, builder.feeds), strict=True))
    return outputs, Counter(n.op_type for n in onnx.load(optimized).graph.node)


def count_fused(builder: QdqBuilder, graph: Graph) -> Counter[str]:
    """The quantized operators that the simulator found."""
    rewritten, stored = rewrite(graph, read_stored(graph, builder.values))
    return Counter(o.kind for o in find_fused_operators(rewritten, stored))


KINDS = (
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QLinearAdd",
    "QLinearMul",
    "QLinearGlobalAveragePool",
    "QLinearAveragePool",
    "QLinearSoftmax",
)


def compare(
    build: Callable[[QdqBuilder], None],
    tmp_path: Path,
    *,
    dynamic: bool = False,
    reduce_range: bool = False,
    seeds: int = 4,
    fewest_levels: int = 9,
) -> Counter[str]:
    """Hold the simulator against ONNX Runtime layer by layer; the operators both of them ran.

    Skips where the processor may compute a layer wrong; with reduced ranges there is none.
    """
    differences: dict[int, list[np.ndarray]] = {}
    levels: dict[int, set[int]] = {}
    for seed in range(seeds):
        builder = QdqBuilder(seed, dynamic=dynamic, reduce_range=reduce_range)
        build(builder)
        graph = builder.graph(builder.kept)
        if reduce_range:
            assert all(v.safe for v in check_graph(graph, builder.values).values())
        skip_unless_exact(graph, builder.values)
        expected, ran = run_onnx_runtime(builder, graph, tmp_path / "optimized.onnx")
        found = simulate(graph, builder.values, builder.feeds)
        for layer, name in enumerate(builder.kept):
            assert found[name].dtype == np.uint8
            assert found[name].shape == expected[name].shape
            levels.setdefault(layer, set()).update(expected[name].reshape(-1).tolist())
            difference = np.abs(found[name].astype(int) - expected[name].astype(int))
            differences.setdefault(layer, []).append(difference.reshape(-1))
        fused = count_fused(builder, graph)
        assert fused == Counter({k: n for k, n in ran.items() if k in KINDS})
    assert all(len(found) >= fewest_levels for found in levels.values())
    for parts in differences.values():
        whole = np.concatenate(parts)
        assert (whole == 0).mean() >= EQUAL
        assert whole.max() <= 1
    return fused


PRODUCTS = [name for name in LAYERS if "product" in name or "four" in name]


def depends_on_range(name: str) -> bool:
    """Whether a layer has weights that a reduced range makes other ones."""
    builders = QdqBuilder(0), QdqBuilder(0, reduce_range=True)
    for builder in builders:
        LAYERS[name](builder)
    full, reduced = (builder.values for builder in builders)
    return any(not np.array_equal(full[weight], reduced[weight]) for weight in full)


@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_onnx_runtime(name: str, tmp_path: Path) -> None:
    compare(LAYERS[name], tmp_path)


@pytest.mark.parametrize("name", filter(depends_on_range, LAYERS))
def test_layer_of_reduced_range_equals_onnx_runtime(name: str, tmp_path: Path) -> None:
    compare(LAYERS[name], tmp_path, reduce_range=True)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_an_open_batch_equal_onnx_runtime(name: str, tmp_path: Path) -> None:
    compare(LAYERS[name], tmp_path, dynamic=True)


@pytest.mark.parametrize("name", filter(depends_on_range, PRODUCTS))
def test_products_of_reduced_range_with_an_open_batch_equal_onnx_runtime(
    name: str, tmp_path: Path
) -> None:
    compare(LAYERS[name], tmp_path, dynamic=True, reduce_range=True)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_onnx_runtime_on_many_scales(name: str, dynamic: bool, tmp_path: Path) -> None:
    compare(LAYERS[name], tmp_path, dynamic=dynamic, seeds=50)


# -- what the runtime does by itself --------------------------------------------------------------

both_ranges = pytest.mark.parametrize(
    "weights", [{}, {"reduce_range": True}], ids=["full_range", "reduced_range"]
)


@both_ranges
def test_bias_vector_becomes_int32_only_before_a_quantizer(
    weights: dict[str, bool], tmp_path: Path
) -> None:
    assert compare(product_with_a_bias_vector, tmp_path, **weights) == {"QGemm": 1}
    assert compare(product_with_a_bias_row, tmp_path, **weights) == {"MatMulIntegerToFloat": 1}
    assert compare(product_with_a_bias_vector, tmp_path, dynamic=True, **weights) == {
        "MatMulIntegerToFloat": 1
    }
    assert compare(biased_product_that_stays_float, tmp_path, **weights) == {}


@both_ranges
def test_float_convolution_between_quantizers_is_quantized(
    weights: dict[str, bool], tmp_path: Path
) -> None:
    normalised = normalised_float_convolution_between_quantizers
    assert compare(float_convolution_between_quantizers, tmp_path, **weights) == {"QLinearConv": 1}
    assert compare(normalised, tmp_path, **weights) == {"QLinearConv": 1}
    assert compare(float_convolution_before_an_activation, tmp_path, **weights) == {}
    assert compare(float_convolution_behind_a_scale_per_channel, tmp_path, **weights) == {}


def test_four_bit_weights_need_float_neighbours(tmp_path: Path) -> None:
    assert compare(product_with_four_bit_weights, tmp_path) == {"MatMulNBits": 1}
    assert compare(four_bit_weights_before_a_quantizer, tmp_path) == {}
    assert compare(four_bit_weights_after_a_quantizer, tmp_path) == {}


def convolution_with_a_bias(b: QdqBuilder, bias: int, factor: float) -> None:
    """A convolution whose bias is in ``factor`` times the steps of its products."""
    x = b.activation((2, 16, 12, 12))
    weight, steps = b.stored((24, 16, 3, 3), 0)
    products = b.values[b.step_of(x)] * steps
    parameters = b.weight(np.full(24, bias, np.int32)), b.weight(products * np.float32(factor))
    zeros = b.constant(np.zeros(24, np.int32))
    offset = b.node("DequantizeLinear", *parameters, zeros, axis=0)
    b.quantize(b.node("Conv", x, weight, offset, pads=(1,) * 4), 0.5, 128)


@both_ranges
def test_sums_wrap_around_as_in_the_runtime(weights: dict[str, bool], tmp_path: Path) -> None:
    def build(b: QdqBuilder) -> None:
        convolution_with_a_bias(b, 2**31 - 1, 1.0)

    assert compare(build, tmp_path, fewest_levels=2, **weights) == {"QLinearConv": 1}


@both_ranges
def test_convolution_whose_bias_has_other_steps_stays_float(
    weights: dict[str, bool], tmp_path: Path
) -> None:
    def build(factor: float) -> Callable[[QdqBuilder], None]:
        return lambda b: convolution_with_a_bias(b, 90, factor)

    assert compare(build(1.005), tmp_path, **weights) == {"QLinearConv": 1}
    assert compare(build(3.0), tmp_path, **weights) == {}


# -- blocks ---------------------------------------------------------------------------------------


def inverted_residual(b: QdqBuilder) -> None:
    """Expansion, depthwise convolution, squeeze-excite, projection and residual sum."""
    x = b.activation((2, 16, 12, 12))
    y = b.hardswish(b.quantize(b.convolve(x, 16, 48, 1), b.step(0.1, 1.0)))
    y = b.hardswish(b.quantize(b.convolve(y, 48, 48, 3, groups=48), b.step(0.1, 1.0)))
    squeezed = b.quantize(b.node("GlobalAveragePool", y))
    gate = b.quantize(b.node("Relu", b.convolve(squeezed, 48, 12, 1)), b.step(), 0)
    gate = b.quantize(b.convolve(gate, 12, 48, 1), b.step(0.02, 0.1), 128)
    gate = b.quantize(b.node("Sigmoid", gate), 1 / 256, 0)
    y = b.quantize(b.node("Mul", y, gate))
    y = b.quantize(b.convolve(y, 48, 16, 1), b.step(0.1, 1.0))
    b.quantize(b.node("Add", x, y))


def attention(b: QdqBuilder) -> None:
    """Scores, softmax and the weighted sum of two heads, all in int8."""
    heads = [b.quantize(b.node("MatMul", b.activation((2, 4, 12, 16)), b.stored((16, 16), 1)[0]))]
    heads += [b.activation((2, 4, 16, 12)), b.activation((2, 4, 12, 16))]
    scores = b.quantize(b.node("MatMul", heads[0], heads[1]), 0.04)
    shares = b.quantize(b.node("Softmax", scores, axis=-1), 1 / 256, 0)
    b.quantize(b.node("MatMul", shares, heads[2]))


@both_ranges
@pytest.mark.parametrize("build", [inverted_residual, attention])
def test_block_equals_onnx_runtime(
    build: Callable[[QdqBuilder], None], weights: dict[str, bool], tmp_path: Path
) -> None:
    compare(build, tmp_path, **weights)


# -- float graphs ---------------------------------------------------------------------------------


class _Images(nn.Module):
    """Operators on images that networks of this package are lowered to."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 6, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.norm(self.convolution(x)))
        pooled = F.max_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 3, 2, 1)
        x = F.interpolate(pooled, size=(5, 5), mode="bilinear") * F.hardsigmoid(x[:, :, :5, :5])
        x = F.leaky_relu(x) + F.elu(x) + F.softplus(x) + F.relu6(x * 9) + F.pad(x, [1, 0])[..., 1:]
        return self.head(x.mean((2, 3)))


class _Sequences(nn.Module):
    """Operators on sequences that networks of this package are lowered to."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.gate = nn.Linear(8, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embedding(tokens))
        x = F.rms_norm(x, (8,)) + F.gelu(self.gate(x)) + F.silu(x)
        x = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        first, second = x.split([3, 5], -1)
        mask = (x > 0) & (x <= 2)
        x = torch.where(mask, x.exp(), x.abs().sqrt()) + x.tril() + torch.erf(x)
        joined = torch.cat([first.cumsum(1), second.sin(), x.log_softmax(-1)], -1)
        return joined.transpose(1, 2).flatten(1) - tokens.float().sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (_Images(), torch.randn(3, 4, 20, 20)),
        (_Sequences(), torch.arange(24).reshape(3, 8) % 11),
    ],
    ids=["images", "sequences"],
)
def test_float_graph_equals_torch(module: nn.Module, x: torch.Tensor) -> None:
    graph, values = lower(module.eval(), [x])
    with torch.no_grad():
        expected = module(x).numpy()
    found = simulate(
        graph, {k: v for k, v in values.items() if v is not None}, {"input": x.numpy()}
    )
    np.testing.assert_allclose(found["output"], expected, rtol=1e-4, atol=1e-5)


# -- what is kept and refused ---------------------------------------------------------------------


def build_small() -> tuple[QdqBuilder, Graph]:
    builder = QdqBuilder(0)
    product_with_a_bias_vector(builder)
    return builder, builder.graph(builder.kept)


def test_any_tensor_can_be_kept() -> None:
    builder, graph = build_small()
    product = next(n for n in graph.nodes if n.op == "MatMul")
    asked = [product.outputs[0], product.inputs[0], *builder.kept, "x0"]
    found = simulate(graph, builder.values, builder.feeds, keep=asked)
    assert list(found) == asked
    assert found[product.outputs[0]].dtype == np.float32
    alone = simulate(graph, builder.values, builder.feeds)
    assert np.array_equal(found[builder.kept[0]], alone[builder.kept[0]])
    np.testing.assert_array_equal(found["x0"], builder.feeds["x0"])


def test_layers_are_made_from_what_was_observed_before_them() -> None:
    builder = QdqBuilder(0)
    inverted_residual(builder)
    graph = builder.graph(builder.kept)
    alone = simulate(graph, builder.values, builder.feeds)
    same = simulate_layers(graph, builder.values, builder.feeds, alone)
    assert all(np.array_equal(same[name], alone[name]) for name in builder.kept)
    moved = alone | {builder.kept[0]: 255 - alone[builder.kept[0]]}
    found = simulate_layers(graph, builder.values, builder.feeds, moved)
    changed = [n for n in builder.kept if not np.array_equal(found[n], moved[n])]
    # The first layer, which was tampered with, and the two that read it: HardSwish's sum and
    # product.
    assert changed == builder.kept[:3]


def test_bad_arguments_are_named() -> None:
    builder, graph = build_small()
    with pytest.raises(InputError, match="tensor 'nowhere' is to be kept but is not of this graph"):
        simulate(graph, builder.values, builder.feeds, keep=["nowhere"])
    with pytest.raises(InputError, match="graph input 'x0' has no values"):
        simulate(graph, builder.values, {})
    with pytest.raises(InputError, match="graph input 'x0' is float32; the graph needs uint8"):
        simulate(graph, builder.values, {"x0": np.zeros((4, 20, 96), np.float32)})
    with pytest.raises(InputError, match="weight 'w0' has no values"):
        simulate(graph, {}, builder.feeds)
    with pytest.raises(InputError, match=r"weight 'w0' has shape \(2,\); the graph needs \(\)"):
        simulate(graph, builder.values | {"w0": np.ones(2, np.float32)}, builder.feeds)
    odd = replace(graph, nodes=(*graph.nodes, Node("Unheard", ("x0",), ("odd",), (), "layer")))
    with pytest.raises(InputError, match="operator 'Unheard' of 'layer' cannot be simulated"):
        simulate(odd, builder.values, builder.feeds, keep=["odd"])

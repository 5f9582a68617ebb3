"""The saturation proof is right both ways, on random layers and on the border of what is safe."""

from __future__ import annotations

import numpy as np
import pytest

from supernet.errors import InputError
from supernet.graph.integer.integer_simulator import simulate
from supernet.graph.integer.saturation import (
    REMEDY,
    Layout,
    check_graph,
    emulate_pairs,
    find_worst_activations,
    order_reduction,
    prove_no_saturation,
)
from supernet.graph.language import Constant, Graph, Node, TensorSpec
from supernet.graph.onnx_model import to_onnx
from supernet.quantization.formats import FLOAT_BITS, WEIGHT_BITS, find_format
from supernet.testing.saturation_layers import compare_proof_with_emulation, draw_layer
from tests.toys.integer_layers import QdqBuilder, float_convolution_read_twice
from tests.toys.saturating_processors import pairs_saturate


def rows(*weights: list[int]) -> np.ndarray:
    """Weights of a Gemm, an output feature each."""
    return np.array(weights, dtype=np.int8)


@pytest.mark.parametrize(
    ("pair", "safe", "worst"),
    [
        ([64, 64], True, 255 * 128),
        ([64, 65], False, 255 * 129),
        ([-64, -64], True, -255 * 128),
        ([-64, -65], False, -255 * 129),
        ([127, -128], True, -255 * 128),
        ([-128, 127], True, -255 * 128),
        ([127, 1], True, 255 * 128),
        ([127, 2], False, 255 * 129),
        ([127], True, 255 * 127),
        ([0, 0], True, 0),
    ],
)
def test_border_of_what_is_safe(pair: list[int], safe: bool, worst: int) -> None:
    verdict = prove_no_saturation(rows(pair), Layout.ROWS)
    assert (verdict.safe, verdict.worst, verdict.pairs) == (safe, worst, 1)
    assert verdict.remedy == ("" if safe else REMEDY)
    weights = rows(pair)
    worst_case = find_worst_activations(weights)
    exact = worst_case.astype(np.int64) @ weights.T.astype(np.int64)
    assert np.array_equal(emulate_pairs(worst_case, weights), exact) is safe


def test_only_neighbours_are_pairs() -> None:
    apart = prove_no_saturation(rows([100, 0, 100, 0]), Layout.ROWS)
    shifted = prove_no_saturation(rows([0, 100, 100, 0]), Layout.ROWS)
    together = prove_no_saturation(rows([100, 100, 0, 0], [1, 1, 1, 1]), Layout.ROWS)
    assert apart.safe
    assert shifted.safe
    assert (together.safe, together.pairs, together.unsafe_pairs) == (False, 4, 1)
    assert together.unsafe_channels == (0,)


def test_matrix_products_pair_input_features() -> None:
    weight = rows([100, 100], [1, 1])
    assert not prove_no_saturation(weight, Layout.ROWS).safe
    assert prove_no_saturation(weight, Layout.COLUMNS).safe
    assert not prove_no_saturation(weight.T, Layout.COLUMNS).safe


def test_convolutions_pair_input_channels_of_one_position() -> None:
    weight = np.zeros((1, 2, 3, 3), np.int8)
    weight[0, 0, 1, 1] = weight[0, 0, 1, 2] = 100
    assert prove_no_saturation(weight, Layout.CONVOLUTION).safe
    weight[0, 1, 1, 1] = 100
    verdict = prove_no_saturation(weight, Layout.CONVOLUTION)
    assert (verdict.safe, verdict.pairs, verdict.unsafe_pairs) == (False, 9, 1)


def test_pairs_of_an_odd_number_of_channels_span_positions() -> None:
    weight = np.zeros((1, 3, 1, 2), np.int8)
    weight[0, 2, 0, 0] = weight[0, 0, 0, 1] = 100
    assert order_reduction(weight, Layout.CONVOLUTION).tolist() == [[0, 0, 100, 100, 0, 0]]
    assert not prove_no_saturation(weight, Layout.CONVOLUTION).safe


def test_depthwise_convolutions_have_no_pairs() -> None:
    weight = np.full((8, 1, 3, 3), -128, np.int8)
    verdict = prove_no_saturation(weight, Layout.DEPTHWISE)
    assert (verdict.safe, verdict.pairs) == (True, 0)
    assert not prove_no_saturation(weight, Layout.CONVOLUTION).safe
    with pytest.raises(InputError, match="a depthwise convolution has no pairs"):
        order_reduction(weight, Layout.DEPTHWISE)


def test_seven_bits_make_any_layer_safe() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        weight, layout = draw_layer(rng)
        assert prove_no_saturation(weight.clip(-64, 64), layout).safe


def test_emulation_saturates_each_pair_before_it_adds() -> None:
    weights = rows([127, 127, -127, -127, 10])
    activations = np.full((1, 5), 255, np.uint8)
    assert emulate_pairs(activations, weights).tolist() == [[32767 - 32768 + 2550]]
    assert emulate_pairs(activations, weights).dtype == np.int32


@pytest.mark.parametrize("layers", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_proof_agrees_with_emulation(layers: int) -> None:
    rng = np.random.default_rng(0)
    results = [compare_proof_with_emulation(*draw_layer(rng), rng) for _ in range(layers)]
    assert all(result.agrees for result in results)
    assert 0.2 < np.mean([result.proved for result in results]) < 0.9


def test_weights_that_are_not_int8_are_refused() -> None:
    with pytest.raises(
        InputError, match="rows weight is int8 with 2 axes; this one is uint8 with 2"
    ):
        prove_no_saturation(np.zeros((2, 2), np.uint8), Layout.ROWS)
    with pytest.raises(InputError, match="convolution weight is int8 with 3 axes or more"):
        prove_no_saturation(np.zeros((2, 2), np.int8), Layout.CONVOLUTION)


def build_layers() -> tuple[Graph, dict[str, np.ndarray]]:
    """Pointwise, depthwise and float convolutions between quantizers, and a dynamic product."""
    values: dict[str, np.ndarray] = {
        "step": np.float32(0.1),
        "zero": np.uint8(0),
        "pointwise": np.full((4, 4, 1, 1), 60, np.int8),
        "depthwise": np.full((4, 1, 3, 3), 127, np.int8),
        "float": np.ones((4, 4, 1, 1), np.float32),
        "dynamic": np.full((4, 5), 100, np.int8),
        "steps": np.full(4, 0.01, np.float32),
    }
    values = {name: np.asarray(value) for name, value in values.items()}
    quantizer = ("step", "zero")
    axis = (("axis", 0),)
    nodes = [
        Node("DequantizeLinear", ("x", *quantizer), ("a",)),
        Node("DequantizeLinear", ("pointwise", "steps", "zeros"), ("p",), axis),
        Node("Conv", ("a", "p"), ("b",)),
        Node("QuantizeLinear", ("b", *quantizer), ("c",)),
        Node("DequantizeLinear", ("c", *quantizer), ("d",)),
        Node("DequantizeLinear", ("depthwise", "steps", "zeros"), ("w",), axis),
        Node("Conv", ("d", "w"), ("e",), (("group", 4),)),
        Node("QuantizeLinear", ("e", *quantizer), ("f",)),
        Node("DequantizeLinear", ("f", *quantizer), ("g",)),
        Node("Conv", ("g", "float"), ("h",)),
        Node("QuantizeLinear", ("h", *quantizer), ("y",)),
        Node("DynamicQuantizeLinear", ("rows",), ("q", "s", "z")),
        Node("MatMulInteger", ("q", "dynamic", "z"), ("sums",)),
    ]
    graph = Graph(
        inputs=(TensorSpec("x", (1, 4, 5, 5), "uint8"), TensorSpec("rows", (3, 4), "float32")),
        outputs=(TensorSpec("y", (1, 4, 3, 3), "uint8"), TensorSpec("sums", (3, 5), "int32")),
        nodes=tuple(nodes),
        weights=tuple(TensorSpec(n, v.shape, v.dtype.name) for n, v in values.items()),
        constants=(Constant.from_array("zeros", np.zeros(4, np.int8)),),
        macs=0,
        parameters=0,
    )
    return graph, values


def test_layers_of_a_graph_are_checked_by_their_layout() -> None:
    graph, values = build_layers()
    verdicts = check_graph(graph, values)
    assert {name: v.safe for name, v in verdicts.items()} == {
        "pointwise": True,
        "depthwise": True,
        "h/weight": False,
        "dynamic": False,
    }
    assert verdicts["dynamic"].unsafe_channels == (0, 1, 2, 3, 4)
    assert verdicts["pointwise"].pairs == 8


def build_convolution_of_images(
    weight: np.ndarray,
) -> tuple[Graph, dict[str, np.ndarray]]:
    """A convolution of an image with as many pixels as the kernel has, all in whole numbers."""
    found = {
        "weight": weight,
        "steps": np.ones(len(weight), np.float32),
        "step": np.float32(1),
        "zero": np.uint8(0),
        "output_step": np.float32(400),
    }
    values = {name: np.asarray(value) for name, value in found.items()}
    nodes = (
        Node("DequantizeLinear", ("x", "step", "zero"), ("image",)),
        Node("DequantizeLinear", ("weight", "steps", "zeros"), ("kernel",), (("axis", 0),)),
        Node("Conv", ("image", "kernel"), ("sums",), (("kernel_shape", weight.shape[2:]),)),
        Node("QuantizeLinear", ("sums", "output_step", "zero"), ("y",)),
    )
    graph = Graph(
        inputs=(TensorSpec("x", (1, *weight.shape[1:]), "uint8"),),
        outputs=(TensorSpec("y", (1, len(weight), 1, 1), "uint8"),),
        nodes=nodes,
        weights=tuple(TensorSpec(n, v.shape, v.dtype.name) for n, v in values.items()),
        constants=(Constant.from_array("zeros", np.zeros(len(weight), np.int8)),),
        macs=0,
        parameters=0,
    )
    return graph, values


@pytest.mark.parametrize(
    ("outputs", "large", "safe"),
    [
        # Of sixteen outputs the runtime reads four channels a pixel: the last is paired with zero.
        (16, [(0, 1), (1, 1)], False),
        (16, [(2, 0), (0, 1)], True),
        # Of seventeen it reads three, and the last has its neighbour in the next pixel.
        (17, [(0, 1), (1, 1)], True),
        (17, [(2, 0), (0, 1)], False),
    ],
)
def test_images_are_paired_with_the_channels_that_they_are_written_with(
    outputs: int, large: list[tuple[int, int]], safe: bool
) -> None:
    weight = np.zeros((outputs, 3, 1, 2), np.int8)
    for channel, column in large:
        weight[:, channel, 0, column] = 100
    graph, values = build_convolution_of_images(weight)
    verdicts = check_graph(graph, values)
    assert {name: v.safe for name, v in verdicts.items()} == {"weight": safe}
    image = {"x": np.full((1, 3, 1, 2), 255, np.uint8)}
    exact = simulate(graph, values, image)["y"]
    ort = pytest.importorskip("onnxruntime")
    model = to_onnx(graph, values).SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(None, image)[0]
    assert np.array_equal(found, exact) is (safe or not pairs_saturate())


def test_float_weights_whose_output_is_read_twice_are_checked() -> None:
    builder = QdqBuilder(0)
    float_convolution_read_twice(builder)
    verdicts = check_graph(builder.graph(builder.kept), builder.values)
    assert [verdict.safe for verdict in verdicts.values()] == [False]


def test_the_remedy_is_a_format_on_offer_whose_weights_cannot_saturate() -> None:
    form = find_format(REMEDY.rpartition(" ")[2])
    highest = 2 ** (form.weight_bits - 1) - 1
    weights = rows([highest, highest], [-highest, -highest])
    assert prove_no_saturation(weights, Layout.ROWS).safe
    larger = [bits for bits in WEIGHT_BITS if form.weight_bits < bits < FLOAT_BITS]
    assert larger == [8], "it has the most bits that there are below those at risk"

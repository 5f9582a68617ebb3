"""Channels are filled up where the runtime then takes its fast kernels, and outputs stay equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supernet.graph import onnx_model
from supernet.graph.fusion.building import QdqGraphBuilder, QuantizedGraph
from supernet.graph.language import Graph, Node
from supernet.graph.onnx_model import to_onnx
from supernet.graph.quantized.channel_padding import pad_channels

onnx = pytest.importorskip("onnx")


def write_plainly(built: QuantizedGraph, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Write a model whose channels are as the graph has them."""
    with monkeypatch.context() as patch:
        patch.setattr(onnx_model, "pad_channels", lambda graph: graph)
        return to_onnx(built.graph, built.weights).SerializeToString()


def build_block(hidden: int, *, images: int = 8, squeeze: bool = False) -> QuantizedGraph:
    """Expansion, HardSwish, depthwise convolution, squeeze-and-excitation and projection."""
    b = QdqGraphBuilder(seed=1)
    x = b.quantize(b.add_input("x", ("batch", images, 9, 9)), "input")
    b.scope = "stages.0.1.expand.conv"
    y = b.quantize(b.add_conv(x, "expand", (images, hidden)), "expand")
    y = b.add_hard_swish(y, "swish")
    b.scope = "stages.0.1.depthwise.conv"
    y = b.quantize(b.add_conv(y, "depthwise", (hidden, hidden), 3, hidden), "depthwise", 0.02, 0)
    if squeeze:
        b.scope = "stages.0.1.squeeze.reduce"
        gate = b.quantize(b.add("GlobalAveragePool", (y,)), "pool")
        gate = b.quantize(b.add_conv(gate, "reduce", (hidden, 24)), "reduce", 0.02, 0)
        gate = b.quantize(b.add_conv(gate, "gate", (24, hidden)), "gate")
        y = b.quantize(b.add("Mul", (y, b.add_hard_sigmoid(gate))), "excite")
    b.scope = "stages.0.1.project.conv"
    y = b.quantize(b.add_conv(y, "project", (hidden, 8)), "project", 0.002)
    return b.finish({y: (("batch", 8, 9, 9), "float32")})


def list_depthwise(graph: Graph) -> list[object]:
    """Groups of the convolutions that have several."""
    groups = [dict(n.attributes)["group"] for n in graph.nodes if n.op == "Conv"]
    return [g for g in groups if g != 1]


def list_pads(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op == "Pad"]


@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize(("hidden", "filled"), [(4, 16), (33, 48), (72, 80), (120, 128)])
def test_hidden_channels_are_filled_up_and_outputs_stay_equal(
    hidden: int, filled: int, squeeze: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    built = build_block(hidden, squeeze=squeeze)
    padded = pad_channels(built.graph)
    assert list_depthwise(padded) == [filled]
    assert padded.weights == built.graph.weights
    x = np.random.default_rng(0).normal(size=(2, 8, 9, 9)).astype(np.float32)
    models = (
        write_plainly(built, monkeypatch),
        to_onnx(built.graph, built.weights).SerializeToString(),
    )
    outputs = [runtime.InferenceSession(m).run(None, {"x": x})[0] for m in models]
    assert len(np.unique(outputs[0])) > 30
    assert np.array_equal(*outputs)


def test_nothing_but_the_kernels_is_left_once_the_model_is_loaded(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    built = build_block(72, squeeze=True)
    options = runtime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    model = to_onnx(built.graph, built.weights)
    assert any(node.op_type == "Pad" for node in model.graph.node)
    runtime.InferenceSession(model.SerializeToString(), options)
    body = onnx.load(tmp_path / "optimised.onnx").graph
    assert not any(node.op_type == "Pad" for node in body.node)
    shapes = {tuple(tensor.dims) for tensor in body.initializer}
    assert (80, 1, 3, 3) in shapes
    assert (72, 1, 3, 3) not in shapes


@pytest.mark.parametrize("hidden", [16, 48, 96])
def test_channels_that_fit_stay(hidden: int) -> None:
    graph = build_block(hidden).graph
    assert pad_channels(graph) is graph


def test_channels_that_somebody_else_counts_stay() -> None:
    b = QdqGraphBuilder()
    x = b.quantize(b.add_input("x", ("batch", 8, 9, 9)), "input")
    b.scope = "stages.0.1.expand.conv"
    y = b.quantize(b.add_conv(x, "expand", (8, 72)), "expand")
    y = b.quantize(b.add_conv(y, "depthwise", (72, 72), 3, 72), "depthwise")
    z = b.quantize(b.add_conv(y, "project", (72, 8)), "project")
    graph = b.finish({z: (("batch", 8, 9, 9), "float32"), y: (("batch", 72, 9, 9), "float32")})
    assert pad_channels(graph.graph) is graph.graph


def test_channels_of_several_blocks_stay() -> None:
    graph = build_block(72).graph
    nodes = [replace(n, scope=n.scope.replace("0.1.expand", "0.0.expand")) for n in graph.nodes]
    graph = replace(graph, nodes=tuple(nodes))
    assert pad_channels(graph) is graph


@pytest.mark.parametrize("images", [1, 3])
def test_images_get_four_channels(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("onnxruntime")
    built = build_block(32, images=images)
    pads = list_pads(pad_channels(built.graph))
    assert sorted(pad.inputs[0] in built.weights for pad in pads) == [False, True]
    x = np.random.default_rng(0).normal(size=(2, images, 9, 9)).astype(np.float32)
    models = (
        write_plainly(built, monkeypatch),
        to_onnx(built.graph, built.weights).SerializeToString(),
    )
    outputs = [runtime.InferenceSession(m).run(None, {"x": x})[0] for m in models]
    assert np.array_equal(*outputs)
    four = build_block(32, images=4).graph
    assert pad_channels(four) is four


def test_float_graphs_stay() -> None:
    b = QdqGraphBuilder()
    b.scope = "stages.0.1.expand.conv"
    y = b.add_float_conv(b.add_input("x", ("batch", 3, 9, 9)), "expand", (3, 72))
    y = b.add_float_conv(y, "depthwise", (72, 72), 3, 72)
    y = b.add_float_conv(y, "project", (72, 8))
    graph = b.finish({y: (("batch", 8, 9, 9), "float32")}).graph
    assert pad_channels(graph) is graph

"""What the plan says a runtime will do is what it does, and what stays in float is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from hardware.fusion_probe import count_operators, probe_contract
from hardware.reference_model import build_reference_graph
from supernet.errors import InputError
from supernet.graph.fusion.building import QdqGraphBuilder, QuantizedGraph
from supernet.graph.fusion.contract import BORDERS, FusionContract
from supernet.graph.fusion.plan import FLOAT, NO_KERNEL, NOT_FUSED, Island, Plan, plan_operators
from supernet.graph.onnx_model import to_onnx
from supernet.testing.qdq_graphs import (
    CHANNELS,
    Block,
    add_downsampling,
    add_inverted_residual,
    add_residual,
    build_image_network,
    build_token_network,
    draw_image_network,
    draw_token_network,
)


@pytest.fixture(scope="module")
def contract() -> FusionContract:
    return probe_contract()


def check(built: QuantizedGraph, contract: FusionContract) -> Plan:
    """Plan a graph and compare with what the runtime makes of it."""
    plan = plan_operators(built.graph, contract, weights=built.weights)
    assert plan.count() == count_operators(to_onnx(built.graph, built.weights).SerializeToString())
    return plan


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize("block", [add_inverted_residual, add_residual, add_downsampling])
def test_int8_blocks_have_no_islands(
    block: Block, batch: int | str, contract: FusionContract
) -> None:
    plan = check(build_image_network([(block, "int8")] * 2, batch=batch), contract)
    counts = plan.count()
    assert plan.islands == () == plan.requantized
    borders = {op: n for op, n in counts.items() if op in BORDERS}
    assert borders == {"QuantizeLinear": 1}
    assert {"QLinearConv", "QLinearAdd", "QGemm"} <= counts.keys()
    assert not counts.keys() & {"Conv", "MatMul", "Add", "Mul", "Relu", "HardSigmoid"}


@pytest.mark.parametrize("batch", [1, "batch"])
def test_random_mixtures_of_image_blocks_are_as_planned(
    batch: int | str, contract: FusionContract
) -> None:
    for seed in range(25):
        check(draw_image_network(seed, batch=batch), contract)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_random_mixtures_of_transformer_blocks_are_as_planned(
    batch: int | str, contract: FusionContract
) -> None:
    for seed in range(12):
        check(draw_token_network(seed, batch=batch), contract)


def test_transformer_in_int8_has_islands_of_what_has_no_kernel(contract: FusionContract) -> None:
    plan = check(build_token_network(["int8"]), contract)
    texts = " ".join(plan.explain())
    assert f"{contract.runtime} {contract.version} has no int8 kernel for" in texts
    operators = [op for island in plan.islands for op in island.operators]
    assert [operators.count(op) for op in ("Erf", "LayerNormalization")] == [1, 2]
    assert any(i.scope == "layers.0.ffn" and "Erf" in i.operators for i in plan.islands)


def test_products_with_other_formats_have_their_kernels(contract: FusionContract) -> None:
    dynamic = check(build_token_network(["int8-dynamic"]), contract).count()
    # Three layers read one normalised value, which is quantized once for them.
    assert [dynamic[op] for op in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat")] == [3, 3]
    blocks = check(build_token_network(["weights4"]), contract).count()
    assert [blocks[op] for op in ("MatMulNBits", "DequantizeLinear")] == [6, 0]


def drop_quantizer(built: QuantizedGraph, key: str) -> QuantizedGraph:
    """Let the readers of a quantized value read it in float."""
    nodes = built.graph.nodes
    q = next(n for n in nodes if n.op == "QuantizeLinear" and n.inputs[1] == f"{key}.scale")
    gone = [n for n in nodes if n is q or n.inputs[:1] == q.outputs]
    renamed = {n.outputs[0]: q.inputs[0] for n in gone}
    kept = [
        replace(n, inputs=tuple(renamed.get(i, i) for i in n.inputs))
        for n in nodes
        if n not in gone
    ]
    return replace(built, graph=replace(built.graph, nodes=tuple(kept)))


def test_convolution_without_a_quantizer_behind_it_is_an_island(contract: FusionContract) -> None:
    whole = build_image_network([(add_residual, "int8")])
    broken = drop_quantizer(whole, "blocks.0.second")
    plan = check(broken, contract)
    assert check(whole, contract).count()["QLinearConv"] == 2
    assert [plan.count()[op] for op in ("QLinearConv", "Conv")] == [1, 1]
    (island,) = plan.islands
    assert (island.scope, island.operators) == ("blocks.0", ("Conv", "Add"))
    assert island.reason == NOT_FUSED
    assert "Conv" in island.because
    assert plan.explain()[0].startswith("blocks.0: 1 Conv, 1 Add in float, because")


def build_clipped(top: float) -> QuantizedGraph:
    b = QdqGraphBuilder()
    x = b.quantize(b.add_input("x", ("batch", CHANNELS, 8, 8)), "x")
    b.scope = "stem"
    y = b.add_conv(x, "stem.conv", (CHANNELS, CHANNELS))
    y = b.add("Clip", (y, b.add_constant(np.float32(0)), b.add_constant(np.float32(6))))
    y = b.quantize(y, "stem", top / 255, 0)
    return b.finish({y: (("batch", CHANNELS, 8, 8), "float32")})


def test_clip_narrower_than_the_range_behind_it_is_an_island(contract: FusionContract) -> None:
    assert check(build_clipped(6.0), contract).islands == ()
    (island,) = check(build_clipped(8.0), contract).islands
    assert (island.scope, island.operators) == ("stem", ("Conv", "Clip"))


def test_float_layer_between_quantized_values_is_reported(contract: FusionContract) -> None:
    b = QdqGraphBuilder()
    x = b.quantize(b.add_input("x", ("batch", CHANNELS, 8, 8)), "x")
    b.scope = "blocks.3"
    y = b.quantize(b.add_float_conv(x, "blocks.3.conv", (CHANNELS, CHANNELS)), "y")
    plan = check(b.finish({y: (("batch", CHANNELS, 8, 8), "float32")}), contract)
    assert plan.requantized == ("blocks.3",)
    assert plan.count()["QLinearConv"] == 1
    (sentence,) = plan.explain()
    assert sentence.startswith(f"blocks.3: {plan.runtime} quantizes its float weights")


@pytest.mark.parametrize(("channels", "kernel"), [(CHANNELS, "Conv"), (1, "QLinearConv")])
def test_float_layer_that_reads_a_scale_per_channel_stays_float(
    channels: int, kernel: str, contract: FusionContract
) -> None:
    b = QdqGraphBuilder()
    b.quantize(b.add_input("x", ("batch", channels, 8, 8)), "x")
    sizes = b.add_constant(np.array([channels]))
    levels = [b.add("Expand", (f"x.{name}", sizes)) for name in ("scale", "zero_point")]
    quantized = next(n.outputs[0] for n in b.nodes if n.op == "QuantizeLinear")
    x = b.add("DequantizeLinear", (quantized, *levels), axis=1)
    y = b.quantize(b.add_float_conv(x, "conv", (channels, CHANNELS)), "y")
    plan = check(b.finish({y: (("batch", CHANNELS, 8, 8), "float32")}), contract)
    # A vector of one number is a number to the runtime.
    assert plan.count()[kernel] == 1
    assert bool(plan.requantized) == (kernel == "QLinearConv")


def test_float_parts_between_quantized_ones_are_called_float(contract: FusionContract) -> None:
    blocks = [(add_residual, "int8"), (add_inverted_residual, "fp32"), (add_residual, "int8")]
    plan = check(build_image_network(blocks), contract)
    (island,) = plan.islands
    assert (island.scope, island.reason) == ("blocks.1", FLOAT)
    assert island.operators.count("Conv") == 5


def test_float_network_has_no_islands(contract: FusionContract) -> None:
    graph = build_reference_graph()
    plan = plan_operators(graph, contract)
    assert plan.islands == ()
    assert plan.count() == count_operators(to_onnx(graph).SerializeToString())


def test_plan_follows_the_contract_of_another_runtime(contract: FusionContract) -> None:
    others = [replace(o, in_int8=False) if o.pattern == "add" else o for o in contract.outcomes]
    other = replace(contract, version="0.1", outcomes=tuple(others))
    built = build_image_network([(add_residual, "int8")])
    plan = plan_operators(built.graph, other, weights=built.weights)
    assert [plan.count()[op] for op in ("QLinearAdd", "Add", "QLinearConv")] == [0, 1, 2]
    assert plan.explain() == [
        "blocks.0: 1 Add in float, because ONNX Runtime 0.1 has no int8 kernel for Add."
    ]


def test_islands_that_are_alike_are_one_sentence_with_their_number(
    contract: FusionContract,
) -> None:
    def make(scope: str, op: str) -> Island:
        return Island(scope, (op,), NO_KERNEL, f"{op} has no int8 kernel")

    islands = (make("a", "Erf"), make("b", "Tanh"), make("c", "Erf"), make("c", "Erf"))
    plan = Plan(contract.runtime, (), islands, ())
    assert plan.explain() == [
        "a, c: 1 Erf in float (3 times), because Erf has no int8 kernel.",
        "b: 1 Tanh in float, because Tanh has no int8 kernel.",
    ]


def test_model_that_cannot_be_loaded_is_refused() -> None:
    with pytest.raises(InputError, match="ONNX Runtime cannot load the model: "):
        count_operators(b"no model")


def test_plan_is_of_the_graph_that_was_given(contract: FusionContract) -> None:
    built = draw_image_network(0)
    before = replace(built.graph)
    first = plan_operators(built.graph, contract, weights=built.weights)
    assert built.graph == before
    assert plan_operators(built.graph, contract, weights=built.weights) == first

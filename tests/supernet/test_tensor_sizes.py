"""Bit operations and live bytes of graphs: of units as of whole networks."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from supernet.costs.tensor_sizes import (
    count_bit_operations,
    count_product_macs,
    infer_tensors,
    measure_live_bytes,
)
from supernet.families import matlm, resnet
from supernet.graph.language import Graph, Node, TensorSpec
from supernet.precision.elastic import make_precision_elastic
from supernet.quantization.formats import parse_policy
from supernet.supernet import Supernet

PRODUCTS = ("Conv", "Gemm", "MatMul", "MatMulInteger")


@pytest.fixture(scope="module", params=[resnet, matlm], ids=["resnet", "matlm"])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    family: ModuleType = request.param
    floating = family.build(family.PRESETS["tiny"])
    return make_precision_elastic(floating, parse_policy("fp32,int8,w4a8"))


def test_units_say_what_the_whole_network_says(supernet: Supernet) -> None:
    model, space = supernet.cost_model(), supernet.space
    rows = np.concatenate(
        (space.encode([space.smallest, space.largest]), space.sample(np.random.default_rng(0), 2))
    )
    live = np.array([measure_live_bytes(unit.graph) for unit in model.distinct])
    largest = model.maximum(rows, live)
    for row, architecture in enumerate(space.decode(rows)):
        graph = supernet.graph(architecture)
        tensors = infer_tensors(graph)
        products = [node for node in graph.nodes if node.op in PRODUCTS]
        assert sum(count_product_macs(node, tensors) for node in products) == graph.macs
        whole = measure_live_bytes(graph)
        # Where formats meet, units are counted with a border that the network shares with both.
        assert whole == largest[row] if row < 2 else whole <= largest[row]


def test_bit_operations_follow_from_the_format(supernet: Supernet) -> None:
    model, space = supernet.cost_model(), supernet.space
    values = dict(zip(space.names, space.largest.values, strict=True))
    precisions = [name for name in values if name.endswith(".precision")]
    counted = np.array([count_bit_operations(u.graph, u.precision) for u in model.distinct])
    totals = {}
    for form in ("fp32", "int8", "w4a8"):
        architecture = space.architecture({**values, **dict.fromkeys(precisions, form)})
        totals[form] = model.total(space.encode([architecture]), counted)[0]
    macs = model.macs(space.encode([space.largest]))[0]
    assert totals["fp32"] == 32 * 32 * macs
    # Products of two activations have no weight of 4 bits.
    assert totals["int8"] / 2 <= totals["w4a8"] < totals["int8"] < totals["fp32"] / 8


def test_bytes_are_alive_from_their_operator_to_their_last_reader() -> None:
    floats = {name: TensorSpec(name, (1, 100), "float32") for name in ("x", "sum")}
    nodes = (
        Node("Relu", ("x",), ("a",)),
        Node("Sigmoid", ("a",), ("b",)),
        Node("Add", ("a", "b"), ("sum",)),
    )
    graph = Graph((floats["x"],), (floats["sum"],), nodes, (), (), 0, 0)
    # The ReLU writes over its input; the sigmoid may not, since its input is read again.
    assert measure_live_bytes(graph) == 2 * 400
    alone = Graph((floats["x"],), (TensorSpec("b", (1, 100), "float32"),), nodes[:2], (), (), 0, 0)
    assert measure_live_bytes(alone) == 400

"""Units in integers are what mixed networks are made of, and the runtime executes them as such."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from supernet.costs.cost_model import BORDER, CostModel, CostUnit
from supernet.families import matlm, ofa_mobilenetv3
from supernet.graph.onnx_model import to_onnx
from supernet.precision.elastic import make_precision_elastic
from supernet.quantization.formats import parse_policy
from supernet.space import Architecture
from supernet.supernet import Supernet

pytest.importorskip("onnxruntime")
from hardware.fusion_probe import count_operators


@pytest.fixture(scope="module")
def mixed() -> Supernet:
    config = ofa_mobilenetv3.Config(
        classes=10,
        channels=3,
        resolutions=(8,),
        kernels=(3,),
        expands=(2,),
        depths=(1, 2),
        stages=(
            ofa_mobilenetv3.Stage(16, 1, False, "relu"),
            ofa_mobilenetv3.Stage(24, 2, True, "hswish"),
        ),
        stem_stride=1,
        final_width=32,
        feature_width=32,
    )
    return make_precision_elastic(ofa_mobilenetv3.build(config), parse_policy("fp32,int8"))


@pytest.fixture(scope="module")
def cost_model(mixed) -> CostModel:
    return mixed.cost_model()


def list_used(cost_model: CostModel, architecture: Architecture) -> list[CostUnit]:
    row = cost_model.index(cost_model.space.encode([architecture]))[0]
    return [cost_model.distinct[i] for i in row if i < len(cost_model.distinct)]


def count_nodes(units: list[CostUnit]) -> Counter[str]:
    return Counter(node.op for unit in units for node in unit.graph.nodes)


def test_units_and_borders_are_all_operators_of_mixed_networks(mixed, cost_model) -> None:
    rows = mixed.space.sample(np.random.default_rng(0), 12)
    seen = set()
    for architecture in mixed.space.decode(rows):
        used = list_used(cost_model, architecture)
        parts = count_nodes(used)
        borders = [unit for unit in used if unit.precision == BORDER]
        # What the runtime adds at borders is no operator of the network.
        again = count_nodes(borders)
        parts -= Counter({op: again[op] for op in ("Transpose", "Add")})
        assert parts == Counter(node.op for node in mixed.graph(architecture).nodes)
        seen.add(len(borders))
    assert len(seen) > 2


def test_convolutions_of_integer_units_stay_in_integers_with_random_weights(
    mixed, cost_model
) -> None:
    for architecture in mixed.space.decode(mixed.space.sample(np.random.default_rng(1), 4)):
        used = list_used(cost_model, architecture)
        integers = count_nodes([unit for unit in used if unit.precision == "int8"])
        floats = count_nodes([unit for unit in used if unit.precision == "fp32"])
        graph = mixed.graph(architecture)
        made = count_operators(to_onnx(graph, batch=1).SerializeToString())
        assert (made["QLinearConv"], made["Conv"]) == (integers["Conv"], floats["Conv"])


def test_float_blocks_that_add_their_input_to_their_output_pay_for_it_after_integers(
    mixed, cost_model
) -> None:
    values = dict(zip(mixed.space.names, mixed.space.largest.values, strict=True))
    values |= {name: "fp32" for name in values if name.endswith(".precision")}
    values["stages.0.0.precision"] = "int8"
    used = list_used(cost_model, mixed.space.architecture(values))
    ends = [unit.graph.nodes[-1].op for unit in used if unit.precision == BORDER]
    # The second block of a stage keeps channels and side, the first of the next does not.
    assert ends == ["Transpose", "Add"]
    values |= {"stages.0.0.precision": "fp32", "stages.0.1.precision": "int8"}
    used = list_used(cost_model, mixed.space.architecture(values))
    ends = [unit.graph.nodes[-1].op for unit in used if unit.precision == BORDER]
    assert ends == ["Transpose", "DequantizeLinear"]


def test_formats_of_matrix_products_have_no_borders_and_units_have_their_rows() -> None:
    config = matlm.Config(
        vocabulary=64, context=24, depths=(1, 2), widths=(32,), heads=(2,), ffn=(32, 64)
    )
    policy = parse_policy("weights4,int8-dynamic,fp32")
    cost_model = make_precision_elastic(matlm.build(config), policy).cost_model()
    found = {unit.precision for unit in cost_model.distinct}
    assert found == {"fp32", "int8-dynamic", "weights4"}
    for unit in cost_model.distinct:
        assert unit.graph.outputs[0].shape[1] == 24
        assert unit.graph.outputs[0].dtype == "float32"

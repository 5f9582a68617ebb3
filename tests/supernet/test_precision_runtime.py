"""What is simulated is what runs: simulation, integer simulator and ONNX Runtime side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from types import ModuleType

import numpy as np
import onnxruntime as ort
import pytest

from hardware.fusion_probe import count_operators, probe_contract
from supernet.families import (
    matlm,
    ofa_mobilenetv3,
    resnet,
)
from supernet.graph.fusion.contract import FusionContract
from supernet.graph.fusion.plan import plan_operators
from supernet.graph.integer.integer_simulator import simulate
from supernet.testing.precision_networks import Prepared, build_elastic, draw_prepared
from tests.toys.families import every_family
from tests.toys.saturating_processors import find_inexact_layers, skip_unless_exact


@pytest.fixture(scope="module")
def contract() -> FusionContract:
    return probe_contract()


def run_singly(prepared: Prepared) -> np.ndarray:
    """Outputs of ONNX Runtime at default options, one sample at a time."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(prepared.model, options, providers=["CPUExecutionProvider"])
    ((name, inputs),) = prepared.feeds.items()
    return np.concatenate([session.run(None, {name: row[None]})[0] for row in inputs])


def compare_numbers(prepared: Prepared) -> None:
    found = run_singly(prepared)
    spread = prepared.outputs.std(0).mean()
    # A value on the edge between two levels may fall to either side, and one level more or less
    # goes on through the layers after it.
    assert np.abs(found - prepared.outputs).max() < 0.5 * spread
    assert np.abs(found - prepared.outputs).mean() < 0.05 * spread
    exact = simulate(prepared.graph, prepared.values, prepared.feeds)
    if "DynamicQuantizeLinear" not in {node.op for node in prepared.graph.nodes}:
        assert np.abs(found - exact[prepared.graph.outputs[0].name]).max() < 0.25 * spread


def compare_operators(prepared: Prepared, contract: FusionContract) -> None:
    plan = plan_operators(prepared.graph, contract)
    assert Counter(dict(plan.operators)) == Counter(dict(count_operators(prepared.model)))
    assert all(plan.explain())


def compare(networks: Iterable[Prepared], contract: FusionContract) -> None:
    """Compare the operators of networks, and the numbers of those that run exactly here.

    Skips in the end if the processor may compute some of them wrong.
    """
    left: list[Prepared] = []
    for prepared in networks:
        compare_operators(prepared, contract)
        if find_inexact_layers(prepared.graph, prepared.values):
            left.append(prepared)
        else:
            compare_numbers(prepared)
    for prepared in left:
        skip_unless_exact(prepared.graph, prepared.values)


@every_family
@pytest.mark.parametrize("policy", ["int8", "w6a8"])
def test_random_mixtures_run_as_they_are_simulated(
    family: ModuleType, policy: str, contract: FusionContract
) -> None:
    # Weights of 6 bits are multiplied exactly on every processor.
    compare(draw_prepared(build_elastic(family, policy), 2, samples=4), contract)


@pytest.mark.parametrize(
    ("family", "policy"),
    [(matlm, "weights4"), (matlm, "int8-dynamic"), (resnet, "int8-dynamic"),
     (matlm, "int8,weights4,int8-dynamic,fp32"), (resnet, "w4a8,w2a32,fp32"),
     (ofa_mobilenetv3, "w3a8,w8a8-tensor,fp32")],
)  # fmt: skip
def test_other_formats_run_as_they_are_simulated(
    family: ModuleType, policy: str, contract: FusionContract
) -> None:
    compare(draw_prepared(build_elastic(family, policy), 3, samples=4), contract)


@pytest.mark.parametrize("policy", ["layer:int8", "layer:w6a8"])
def test_layers_of_their_own_run_as_they_are_simulated(
    policy: str, contract: FusionContract
) -> None:
    compare(draw_prepared(build_elastic(resnet, policy), 3, samples=4), contract)


@pytest.mark.slow
@every_family
def test_many_random_mixtures_run_as_they_are_simulated(
    family: ModuleType, contract: FusionContract
) -> None:
    compare(draw_prepared(build_elastic(family, "int8"), 50, seed=3), contract)

"""Layers of extracted networks that follow one another: found, equalised, corrected."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.families import ofa_mobilenetv3, ofa_proxyless, resnet, spos, uib
from supernet.graph.lowering import lower
from supernet.precision.elastic import list_precision_choices, make_precision_elastic
from supernet.precision.equalisation import Pair, equalise_network, find_pairs
from supernet.quantization.calibration import calibrate_ranges, correct_biases
from supernet.quantization.execution import Execution, find_execution
from supernet.quantization.folding import fold_normalization
from supernet.quantization.formats import parse_policy
from supernet.space import Architecture
from supernet.supernet import Supernet

PER_TENSOR = "w4a8-tensor"


def set_all(net: Supernet, architecture: Architecture, precision: str) -> Architecture:
    kinds = {choice.name for choice in list_precision_choices(net.space)}
    values = architecture.to_dict()
    return net.space.architecture({n: precision if n in kinds else v for n, v in values.items()})


def extract_folded(
    family: ModuleType, precision: str = PER_TENSOR, dtype: torch.dtype = torch.float64
) -> tuple[nn.Module, Execution, Tensor]:
    """A random subnetwork whose normalisation has channels of very different sizes."""
    plain: Supernet = family.build(family.PRESETS[family.DEFAULT_PRESET])
    net = make_precision_elastic(plain.eval(), parse_policy(f"{precision},fp32"))
    architecture = set_all(net, net.space.sample_one(np.random.default_rng(3)), precision)
    network = net.extract(architecture).eval().to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.affine:
                spread = torch.randn(layer.num_features, generator=generator, dtype=dtype)
                layer.weight.copy_(spread.exp())
                layer.bias.copy_(torch.randn(len(spread), generator=generator, dtype=dtype))
    execution = find_execution(network)
    assert execution is not None
    inputs = torch.rand(8, *net.input_shape(architecture), generator=generator, dtype=dtype)
    fold_normalization(network, execution, inputs[:1])
    return network, execution, inputs


@torch.no_grad()
def run_float(network: nn.Module, execution: Execution, inputs: Tensor) -> Tensor:
    with execution.suspended():
        output: Tensor = network(inputs)
    return output


@pytest.mark.parametrize("family", [resnet, uib, spos, ofa_proxyless, ofa_mobilenetv3])
def test_the_float_function_stays(family: ModuleType) -> None:
    network, execution, inputs = extract_folded(family)
    before = run_float(network, execution, inputs)
    weights = {name: value.clone() for name, value in network.named_parameters()}
    assert equalise_network(network, execution, inputs[:1]) > 0
    after = run_float(network, execution, inputs)
    assert (after - before).abs().max() <= 1e-12 * before.abs().max()
    assert any(not torch.equal(weights[n], value) for n, value in network.named_parameters())


def test_one_scale_for_all_channels_errs_less_afterwards() -> None:
    errors = []
    for steps in ("nothing", "equalised", "corrected"):
        network, execution, inputs = extract_folded(uib, "w6a8-tensor", torch.float32)
        exact = run_float(network, execution, inputs)
        if steps != "nothing":
            equalise_network(network, execution, inputs[:1])
        calibrate_ranges(network, execution, [inputs])
        if steps == "corrected":
            assert correct_biases(network, execution, [inputs]) > 5
        with torch.no_grad():
            errors.append(float((network(inputs) - exact).square().mean()))
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] < 0.7 * errors[1]


def test_means_are_those_in_float_after_correction() -> None:
    network, execution, inputs = extract_folded(resnet, "w3a8-tensor", torch.float32)
    calibrate_ranges(network, execution, [inputs])
    exact = run_float(network, execution, inputs).mean(0)
    with torch.no_grad():
        before = (network(inputs).mean(0) - exact).abs().max()
        correct_biases(network, execution, [inputs[:3], inputs[3:]])
        after = (network(inputs).mean(0) - exact).abs().max()
    # What is left comes from activations that fall on the other side of a rounding.
    assert after < 0.1 * before


@pytest.mark.parametrize("precision", ["int8", "w4a8"])
def test_scales_per_channel_need_neither(precision: str) -> None:
    network, execution, inputs = extract_folded(uib, precision, torch.float32)
    kept = {name: value.clone() for name, value in network.named_parameters()}
    assert equalise_network(network, execution, inputs[:1]) == 0
    calibrate_ranges(network, execution, [inputs])
    assert correct_biases(network, execution, [inputs]) == 0
    assert all(torch.equal(kept[name], value) for name, value in network.named_parameters())


def test_trained_networks_are_left_as_they_are() -> None:
    network, execution, inputs = extract_folded(uib)
    execution.steps = {"stem.conv@4": torch.ones(())}
    assert equalise_network(network, execution, inputs[:1]) == 0


class _Readers(nn.Module):
    """Layers with everything that may and may not stand between two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.depthwise = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=4)
        self.project, self.clipped = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.branch, self.joined = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.normalised, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.twice, self.head = nn.Conv2d(4, 4, 1), nn.Linear(4, 3)
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(torch.relu(self.depthwise(torch.relu(self.first(x)))))
        x = self.clipped(nn.functional.relu6(x))
        x = self.joined(torch.relu(x + self.branch(x)))
        x = self.norm(self.normalised(nn.functional.hardswish(x)))
        x = self.twice(self.twice(x))
        hidden: Tensor = self.head(x.mean((2, 3)))
        result: Tensor = self.last(hidden.relu())
        return result


def test_pairs_end_where_factors_do_not_pass() -> None:
    graph, _ = lower(_Readers().eval(), (torch.zeros(1, 4, 8, 8),), structure_only=True)
    assert find_pairs(graph) == [
        Pair("first", "depthwise"),
        Pair("depthwise", "project"),
        Pair("head", "last"),
    ]


def test_what_the_network_gives_is_read_by_others() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.one(x)
            return hidden, self.two(hidden)

    graph, _ = lower(Two().eval(), (torch.zeros(2, 4),), structure_only=True)
    assert find_pairs(graph) == []

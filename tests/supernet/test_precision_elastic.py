"""Any supernet made elastic in precision: what the new choices do, and what they leave alone."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from supernet.costs.enumeration import build_cost_model
from supernet.errors import InputError
from supernet.families import (
    matlm,
    ofa_mobilenetv3,
    resnet,
    spos,
    superkernel,
)
from supernet.graph.quantized.packing import stored_bytes
from supernet.precision.elastic import list_precision_choices, make_precision_elastic
from supernet.quantization.execution import find_execution
from supernet.quantization.formats import parse_policy
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.precision_networks import build_elastic
from tests.toys.families import every_family


def build(family: ModuleType) -> Supernet:
    torch.manual_seed(0)
    net: Supernet = family.build(family.PRESETS[family.DEFAULT_PRESET])
    return net.eval()


def draw_inputs(net: Supernet, architecture: Architecture, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, *net.input_shape(architecture))
    if net.inputs.dtype.is_floating_point:
        return torch.rand(shape, generator=generator)
    return torch.randint(0, 10, shape, generator=generator)


def set_all(net: Supernet, architecture: Architecture, precision: str) -> Architecture:
    values = architecture.to_dict()
    kinds = {choice.name for choice in list_precision_choices(net.space)}
    return net.space.architecture({n: precision if n in kinds else v for n, v in values.items()})


@every_family
def test_a_subnetwork_is_what_is_extracted(family: ModuleType) -> None:
    net = make_precision_elastic(build(family), parse_policy("int8"))
    for architecture in net.space.decode(net.space.sample(np.random.default_rng(0), 2)):
        inputs = draw_inputs(net, architecture)
        with torch.no_grad():
            live = net(inputs, architecture)
            alone = net.extract(architecture)(inputs)
        assert torch.equal(live, alone)


@every_family
def test_in_float_everything_is_as_it_was(family: ModuleType) -> None:
    plain = build(family)
    net = make_precision_elastic(plain, parse_policy("int8"))
    architecture = plain.space.sample_one(np.random.default_rng(0))
    values = {**architecture.to_dict()}
    values |= {c.name: "fp32" for c in list_precision_choices(net.space)}
    same = net.space.architecture(values)
    inputs = draw_inputs(plain, architecture)
    assert torch.equal(net(inputs, same), plain(inputs, architecture))
    assert find_execution(net.extract(same)) is None
    assert net.graph(same).digest == plain.graph(architecture).digest


@every_family
def test_integers_change_outputs_a_little(family: ModuleType) -> None:
    net = make_precision_elastic(build(family), parse_policy("int8"))
    largest = net.space.largest
    inputs = draw_inputs(net, largest, 4)
    exact = net(inputs, largest)
    rounded = net(inputs, set_all(net, largest, "int8"))
    difference = (rounded - exact).abs().mean() / (exact - exact.mean()).abs().mean()
    assert 0 < difference < 0.2


@every_family
def test_costs_add_up_to_those_of_whole_networks(family: ModuleType) -> None:
    net = make_precision_elastic(build(family), parse_policy("int8"))
    costs = net.cost_model()
    positions = net.space.sample(np.random.default_rng(2), 2)
    rows = zip(
        net.space.decode(positions), costs.macs(positions), costs.parameters(positions),
        costs.size_bytes(positions), strict=True,
    )  # fmt: skip
    for architecture, macs, parameters, size in rows:
        graph = net.graph(architecture)
        assert (macs, parameters, size) == (graph.macs, graph.parameters, stored_bytes(graph))


def test_what_is_not_there_has_no_precision() -> None:
    net = make_precision_elastic(build(ofa_mobilenetv3), parse_policy("int8"))
    smallest = net.space.smallest
    assert "stages.0.0.precision" in smallest.to_dict()
    assert "stages.0.1.precision" not in smallest.to_dict()
    skipped = make_precision_elastic(build(superkernel), parse_policy("int8"))
    absent = [n for n in skipped.space.names if n not in skipped.space.smallest.to_dict()]
    assert any(name.endswith(".precision") for name in absent)


def test_borders_stand_where_the_format_changes() -> None:
    net = make_precision_elastic(build(resnet), parse_policy("int8"))
    costs = net.cost_model()
    borders = [i for i, unit in enumerate(costs.units) if ">" in unit.name]

    def count(architecture: Architecture) -> int:
        found = costs.index(net.space.encode([architecture]))[0][borders]
        return int((found < len(costs.distinct)).sum())

    largest = net.space.largest
    assert count(largest) == 0
    # Pixels become integers, and logits are floats without a conversion.
    assert count(set_all(net, largest, "int8")) == 1
    values = largest.to_dict()
    middle = [n for n in values if n.endswith(".precision")][1]
    assert count(net.space.architecture({**values, middle: "int8"})) == 2


def test_bits_of_weights_and_activations_can_be_separate_choices() -> None:
    net = make_precision_elastic(build(resnet), parse_policy("research"))
    values = net.space.smallest.to_dict()
    assert values["stem.weight_bits"] == 2
    assert values["stem.activation_bits"] == 4
    inputs = draw_inputs(net, net.space.smallest)
    fine = net.space.architecture({n: 8 if n.endswith("_bits") else v for n, v in values.items()})
    float_ = net.space.architecture(
        {n: 32 if n.endswith("_bits") else v for n, v in values.items()}
    )
    exact, near, far = (net(inputs, a) for a in (float_, fine, net.space.smallest))
    assert (near - exact).abs().mean() < 0.2 * (far - exact).abs().mean()


def test_layers_can_have_formats_of_their_own() -> None:
    net = make_precision_elastic(build(resnet), parse_policy("layer:int8"))
    assert "stem.conv.precision" in net.space.names
    architecture = set_all(net, net.space.largest, "int8")
    inputs = draw_inputs(net, architecture)
    units = make_precision_elastic(build(resnet), parse_policy("int8"))
    same = set_all(units, units.space.largest, "int8")
    assert torch.allclose(net(inputs, architecture), units(inputs, same), atol=2e-4)


def test_groups_have_to_divide_what_they_group() -> None:
    with pytest.raises(
        InputError, match=r"layer layers\.0\.attention\.out has 32 input features, which"
    ):
        make_precision_elastic(build(matlm), parse_policy("w4a32-group64,fp32"))


def test_a_supernet_has_one_policy() -> None:
    net = make_precision_elastic(build(resnet), parse_policy("int8"))
    with pytest.raises(InputError, match="choose among number formats already; make it"):
        make_precision_elastic(net, parse_policy("int8"))


def test_costs_of_countless_combinations_are_refused() -> None:
    net = build_elastic(spos, "layer:int8")
    with pytest.raises(InputError, match=r"134,217,728 combinations.*one number format per unit"):
        build_cost_model(net)

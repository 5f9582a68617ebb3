"""Every variant of every unit, traced alone, is what a trace of an extracted network gives."""

from __future__ import annotations

import importlib
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.costs.combinations import list_combinations, make_canonical, number_rows
from supernet.costs.cost_model import CostUnit
from supernet.costs.enumeration import find_unit_choices
from supernet.graph.language import Graph
from supernet.graph.lowering import lower
from supernet.graph.quantized.borders import pass_integers
from supernet.graph.quantized.packing import stored_bytes
from supernet.precision.elastic import make_precision_elastic
from supernet.quantization.execution import Execution, find_execution
from supernet.quantization.folding import fold_normalization
from supernet.quantization.formats import parse_policy
from supernet.space import Architecture, SearchSpace
from supernet.supernet import InputSpec, Supernet

CASES = [
    ("ofa_mobilenetv3", "int8"),
    ("ofa_mobilenetv3", "research"),
    ("ofa_mobilenetv3", "layer:int8"),
    ("resnet", "layer:fp32,int8,w4a8"),
    ("ofa_proxyless", "w4a8,w2a8"),
    ("spos", "fp32,int8,w3a32"),
    ("superkernel", "int8"),
    ("nas_bench_macro", "layer:fp32,int8,w4a6"),
    ("matlm", "layer:int8"),
    ("matlm", "weights4,int8-dynamic,fp32"),
    ("bert", "research"),
]


class Alone(nn.Module):
    def __init__(self, unit: nn.Module, call: Any, execution: Execution | None) -> None:
        super().__init__()
        self.unit, self.call, self.execution = unit, call, execution
        self.eval()

    def forward(self, *tensors: Tensor) -> Tensor:
        given = iter(tensors)
        args, kwargs = self.call
        args = [next(given) if isinstance(a, Tensor) else a for a in args]
        kwargs = {k: next(given) if isinstance(a, Tensor) else a for k, a in kwargs.items()}
        found = self.unit(*args, **kwargs)
        output = found if isinstance(found, Tensor) else found[0]
        return output if self.execution is None else self.execution.settle(output)


def trace_units(net: Supernet, architecture: Architecture) -> dict[str, CostUnit]:
    """What each unit is in an extracted network, itself in its formats, traced one by one."""
    network = net.extract(architecture).eval()
    execution = find_execution(network)
    example = net.example(architecture, 1)
    if execution is not None:
        fold_normalization(network, execution, example)
    modules = {n: m for n, m in network.named_modules() if n in net.units}
    calls: dict[str, Any] = {}

    def record(name: str) -> Any:
        return lambda module, args, kwargs: calls.update({name: (args, kwargs)})

    handles = [m.register_forward_pre_hook(record(n), with_kwargs=True) for n, m in modules.items()]
    with torch.no_grad():
        network(example)
    for handle in handles:
        handle.remove()
    found = {}
    for name, module in modules.items():
        precision = "fp32" if execution is None else execution.name_precision(name)
        integers = precision != "fp32"
        args, kwargs = calls[name]
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        alone = Alone(module, calls[name], execution if integers else None)
        graph, _ = lower(alone, tensors, structure_only=True)
        found[name] = CostUnit(pass_integers(graph) if integers else graph, precision)
    return found


def describe(graph: Graph) -> object:
    """All of a graph but for the names in it."""
    weights = Counter((spec.shape, spec.dtype, spec.bits) for spec in graph.weights)
    return graph.digest, graph.macs, graph.parameters, weights


@pytest.mark.parametrize(("family", "policy"), CASES)
def test_every_variant_is_the_trace_of_an_extracted_network(family: str, policy: str) -> None:
    module = importlib.import_module(f"supernet.families.{family}")
    net = make_precision_elastic(module.build(module.PRESETS["tiny"]), parse_policy(policy))
    costs = net.cost_model()
    rows = net.space.sample(np.random.default_rng(0), 6)
    places = costs.variant(rows)
    for row, architecture in enumerate(net.space.decode(rows)):
        traced = trace_units(net, architecture)
        for column, unit in enumerate(costs.units):
            if unit.name not in net.units:
                continue
            found = unit.variants[places[row, column]]
            wanted = traced.get(unit.name)
            assert (found is None) == (wanted is None), unit.name
            if found is None or wanted is None:
                assert unit.size_bytes[places[row, column]] == 0
                continue
            assert found.precision == wanted.precision
            assert describe(found.graph) == describe(wanted.graph), (unit.name, found.precision)
            if found.precision != "fp32":
                assert unit.size_bytes[places[row, column]] == stored_bytes(wanted.graph)


class Activated(nn.Module):
    """A convolution and what follows it, of which its attributes tell."""

    def __init__(self, follow: Any, sizes: list[int]) -> None:
        super().__init__()
        self.conv, self.follow, self.sizes = nn.Conv2d(4, 4, 1), follow, sizes

    def forward(self, x: Tensor) -> Tensor:
        return self.follow(self.conv(x)).unflatten(1, self.sizes).flatten(1, 2)


def test_units_that_only_functions_or_lists_tell_apart_are_units_of_their_own() -> None:
    follows = [F.relu, F.hardswish, torch.sigmoid, partial(F.hardtanh, max_val=6.0)]
    follows += [partial(F.hardtanh, max_val=4.0), nn.ReLU6().forward, F.relu]
    blocks = [Activated(follow, [2, 2]) for follow in follows]
    model = nn.Sequential(*blocks, Activated(F.relu, [1, 4]))
    units = tuple(str(i) for i in range(len(model)))
    inputs = InputSpec((4, 6, 6), torch.float32)
    plain = Supernet(model, SearchSpace(()), (), units=units, inputs=inputs)
    net = make_precision_elastic(plain, parse_policy("int8"))
    for architecture in (net.space.largest, net.space.smallest):
        traced = trace_units(net, architecture)
        costs = net.cost_model()
        places = costs.variant(net.space.encode([architecture]))[0]
        found = {u.name: u.variants[place] for u, place in zip(costs.units, places, strict=True)}
        digests = []
        for unit in units:
            ours = found[unit]
            assert ours is not None
            assert describe(ours.graph) == describe(traced[unit].graph), unit
            digests.append(ours.digest)
        # A quantizer clips in the place of an activation, whatever its bounds.
        in_float = architecture == net.space.largest
        assert len(set(digests[:6])) == (6 if in_float else 3)
        assert (digests[5] == digests[4]) == (not in_float)
        # The same function in another place is the same unit.
        assert digests[6] == digests[0] != digests[7]


class NormalizedFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(self.norm(x)))


def test_a_normalisation_belongs_to_its_own_unit_in_every_format() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1)), NormalizedFirst())
    inputs = InputSpec((4, 6, 6), torch.float32)
    plain = Supernet(model, SearchSpace(()), (), units=("0", "1"), inputs=inputs)
    net = make_precision_elastic(plain, parse_policy("w8a32,int8,fp32"))
    costs = net.cost_model()
    rows = list_combinations(net.space, net.space.names)
    for architecture, places in zip(net.space.decode(rows), costs.variant(rows), strict=True):
        traced = trace_units(net, architecture)
        for unit, place in zip(costs.units, places, strict=True):
            found = unit.variants[place]
            if found is not None and unit.name in traced:
                assert describe(found.graph) == describe(traced[unit.name].graph)


def test_mixtures_of_the_same_formats_in_other_layers_are_other_units() -> None:
    module = importlib.import_module("supernet.families.ofa_mobilenetv3")
    net = make_precision_elastic(module.build(module.PRESETS["tiny"]), parse_policy("layer:int8"))
    squeeze = "stages.1.0.squeeze"
    largest = net.space.largest.to_dict()
    rows = net.space.encode(
        [
            net.space.architecture({**largest, f"{squeeze}.{layer}.precision": "int8"})
            for layer in ("reduce", "expand")
        ]
    )
    costs = net.cost_model()
    unit = next(i for i, u in enumerate(costs.units) if u.name == "stages.1.0")
    first, second = (costs.units[unit].variants[i] for i in costs.variant(rows)[:, unit])
    assert first is not None
    assert second is not None
    # The two layers have no normalisation that would tell them apart.
    assert (first.precision, second.precision) == ("int8", "int8")
    assert first.digest != second.digest


@pytest.mark.parametrize("family", ["ofa_mobilenetv3", "spos", "superkernel"])
def test_canonical_combinations_are_those_of_architectures(family: str) -> None:
    module = importlib.import_module(f"supernet.families.{family}")
    net = make_precision_elastic(module.build(module.PRESETS["tiny"]), parse_policy("int8"))
    space = net.space
    largest = space.largest.to_dict()
    for unit in net.units:
        names = find_unit_choices(net, unit)
        rows = list_combinations(space, names)
        assert number_rows(space, names, rows).tolist() == list(range(len(rows)))
        canonical = make_canonical(space, names, rows)
        for row, found in zip(rows[::7].tolist(), canonical[::7].tolist(), strict=True):
            values = {n: space.choice(n).values[p] for n, p in zip(names, row, strict=True)}
            wanted = space.architecture({**largest, **values})
            assert [space.choice(n).values[p] for n, p in zip(names, found, strict=True)] == [
                wanted[n] for n in names
            ]

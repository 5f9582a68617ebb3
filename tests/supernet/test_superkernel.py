"""Superkernels and the differentiable search over them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from supernet.costs.cost_model import CostModel
from supernet.data import DataSource, open_data
from supernet.families import superkernel as family
from supernet.supernet import Supernet
from supernet.training import preset
from supernet.training.single_path import (
    Pressure,
    SuperkernelResult,
    SuperkernelSearch,
    hard_gates,
    indicator,
    search_superkernels,
    unit_tables,
)
from tests.exactness import assert_same_outputs, doubled

TINY = family.PRESETS["tiny"]
# Three blocks, one of them with a stride: minutes become seconds.
TOY = replace(TINY, stages=(family.Stage(16, 1, 1), family.Stage(16, 2, 2)), feature_width=64)


@pytest.fixture(scope="module")
def digits() -> DataSource:
    return open_data("digits")


@cache
def costs_of(config: family.Config) -> CostModel:
    """Costs of a supernet; they do not depend on its weights."""
    return family.build(config).cost_model()


def make(config: family.Config = TINY, noise: float = 0.0) -> tuple[Supernet, SuperkernelSearch]:
    """A supernet whose weights all matter, and a search that counts MACs."""
    net = family.build(config)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    costs = costs_of(config)
    tables = unit_tables(costs, [unit.macs for unit in costs.distinct])
    return net, SuperkernelSearch(net, family.superkernels(config), tables)


def test_only_blocks_with_a_shortcut_may_be_skipped() -> None:
    space = family.make_space(TINY)
    skippable = {k.expand for k in family.superkernels(TINY) if k.skippable}
    assert skippable == {c.name for c in space.choices if c.kind == "expand" and 0 in c.values}
    assert "stage2.block1.expand" not in skippable
    assert len(skippable) == 4
    net = family.build(TINY)
    gone = net.space.architecture({**_largest(net), "stage1.block2.expand": 0})
    assert type(net.extract(gone).get_submodule("stages.0.1")) is torch.nn.Identity


def _largest(net: Supernet) -> dict[str, int | float | str]:
    return dict(zip(net.space.names, net.space.largest.values, strict=True))


def test_indicators_are_0_or_1_with_the_gradient_of_a_sigmoid() -> None:
    x = torch.tensor([-3.0, -1e-6, 0.0, 1e-6, 0.7, 20.0], dtype=torch.float64, requires_grad=True)
    hard = indicator(x)
    assert hard.tolist() == [0, 0, 0, 1, 1, 1]
    hard.sum().backward()
    step = 1e-6
    with torch.no_grad():
        numeric = (torch.sigmoid(x + step) - torch.sigmoid(x - step)) / (2 * step)
    assert x.grad is not None
    assert torch.allclose(x.grad, numeric, atol=1e-8)


@pytest.mark.exactness
def test_a_network_under_gates_is_the_extracted_subnetwork() -> None:
    net, search = make(noise=0.1)
    search.eval()
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    drawn = net.space.decode(net.space.sample(np.random.default_rng(0), 25))
    x = doubled(torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    search.double()
    net.double()
    seen = []
    for architecture in (net.space.smallest, net.space.largest, *drawn):
        gates = hard_gates(net.space, search.kernels, architecture).double()
        with torch.no_grad():
            gated, alone = search(x, gates), net.extract(architecture)(x)
        assert_same_outputs(gated, alone)
        seen.append(tuple(gated.flatten().tolist()))
        positions = net.space.encode([architecture])
        assert float(search.cost(gates.float())) == costs_of(TINY).macs(positions)[0]
    assert len(set(seen)) == len({net.space.smallest, net.space.largest, *drawn})


def test_gates_and_architecture_agree_and_a_stride_keeps_its_block() -> None:
    net, search = make()
    assert search.architecture() == net.space.largest
    with torch.no_grad():
        search.thresholds.fill_(50)
    assert search.architecture() == net.space.smallest
    gates = search.gates().detach()
    assert torch.equal(gates, hard_gates(net.space, search.kernels, net.space.smallest))


def test_closed_gates_still_feel_what_opening_them_would_do() -> None:
    _, search = make(noise=0.1)
    with torch.no_grad():
        search.thresholds.fill_(2.0)
    gates = search.gates()
    gates.retain_grad()
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    search.train()(x, gates).square().mean().backward()
    assert gates.grad is not None
    skippable = [kernel.skippable for kernel in search.kernels]
    assert float(gates.detach().sum()) == len(skippable) - sum(skippable)
    assert (gates.grad[skippable][:, 2] != 0).all()
    assert (gates.grad[[not s for s in skippable]][:, :2] != 0).all()
    assert search.thresholds.grad is not None


def _run(data: DataSource, strength: float, steps: int, seed: int = 0) -> SuperkernelResult:
    _, search = make(TOY)
    changes = {"steps": steps, "batch_size": 32, "warmup_steps": 5, "seed": seed}
    recipe = preset("digits").but(changes)
    return search_superkernels(
        search, data, recipe, Pressure(strength=strength, warmup_steps=steps // 3, dropout=0.3)
    )


def test_more_pressure_means_less_cost(digits: DataSource) -> None:
    results = [_run(digits, strength, 45) for strength in (0.0, 1.0, 5.0, 50.0)]
    net, _ = make(TOY)
    costs = [result.cost for result in results]
    assert results[0].architecture == net.space.largest
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) >= 3
    assert results[-1].architecture == net.space.smallest
    for result in results:
        positions = net.space.encode([result.architecture])
        assert result.cost == costs_of(TOY).macs(positions)[0]
        assert all(line["open"] == int(line["open"]) for line in result.history)
        assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_the_same_seed_finds_the_same(digits: DataSource) -> None:
    first, again, other = (_run(digits, 1.0, 6, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.history != other.history


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    net, search = make()
    costs = costs_of(TINY)
    with pytest.raises(ValueError, match="distinct units, one value each"):
        unit_tables(costs, [1.0])
    with pytest.raises(ValueError, match=r"dropout = 1 is impossible"):
        Pressure(dropout=1)
    tables = unit_tables(costs, np.ones(len(costs.distinct)))
    with pytest.raises(ValueError, match="kernel and expand ratio of one block"):
        SuperkernelSearch(net, search.kernels[1:], tables)


def test_a_warm_up_without_an_end_is_refused(digits: DataSource) -> None:
    _, search = make(TOY)
    recipe = preset("digits").but({"steps": 4, "batch_size": 32, "warmup_steps": 1})
    with pytest.raises(ValueError, match="warmup_steps = 4 leaves none of 4 steps"):
        search_superkernels(search, digits, recipe, Pressure(strength=1.0, warmup_steps=4))

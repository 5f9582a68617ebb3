"""Layers with experts against the formula, the plain supernet and the family contract."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from supernet import checkpoints
from supernet.data import open_data
from supernet.elastic.edits import Derive
from supernet.errors import InputError
from supernet.families import matlm, matvit
from supernet.families._experts import ROUTER_WIDTH
from supernet.family_config import decode_config, encode_config
from supernet.generation.serving import serve
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.exactness import TOLERANCE, assert_extraction_is_exact
from supernet.testing.family_contract import CHECKS, EXACTNESS_CHECKS
from supernet.training import compose, find_recipe, train
from supernet.training.optimizer import build_optimizer
from supernet.training.standalone import make_standalone
from tests.toys.networks import assert_onnx_runtime_agrees, draw_members, draw_tokens, shake

DECODER = matlm.Config(
    vocabulary=23,
    context=8,
    widths=(8, 12),
    heads=(2, 4),
    groups=2,
    head_size=4,
    ffn=(6, 10),
    depths=(1, 2),
    experts=3,
    routing="neuron",
)
VISION = matvit.Config(
    size=4, width=8, heads=2, ffn=(6, 10), depths=(1, 2), experts=2, routing="layer"
)
TOKENS = draw_tokens(DECODER.vocabulary, 3, DECODER.context)
IMAGES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()


def make_small(family: ModuleType, config: Any) -> ModuleType:
    """The family with a preset small enough for the contract."""
    small = ModuleType(f"{family.__name__}_with_experts")
    vars(small).update({k: v for k, v in vars(family).items() if not k.startswith("__")})
    vars(small)["PRESETS"] = {"experts": config}
    return small


SMALL = {"matlm": make_small(matlm, DECODER), "matvit": make_small(matvit, VISION)}
BOTH = pytest.mark.parametrize(
    ("family", "config", "inputs"),
    [(matlm, DECODER, TOKENS), (matvit, VISION, IMAGES)],
    ids=("matlm-neuron", "matvit-layer"),
)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "check",
    [pytest.param(c, marks=pytest.mark.exactness if c in EXACTNESS_CHECKS else ()) for c in CHECKS],
    ids=lambda check: check.__name__,
)
def test_contract(check: Any, name: str) -> None:
    check(SMALL[name], "experts")


# -- beside the plain supernet -------------------------------------------------------------------


@BOTH
def test_one_expert_is_the_plain_supernet(family: ModuleType, config: Any, inputs: Tensor) -> None:
    one, many = (family.build(replace(config, experts=n)) for n in (1, config.experts))
    assert not one.shared
    assert not any(isinstance(row, Derive) for row in one.edits)
    assert one.space.digest == many.space.digest
    named = dict(many.named_parameters())
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, named[name])
    # Records that were written before there were experts.
    record = encode_config(family, replace(config, experts=1, routing="layer"))
    former = {k: v for k, v in record.items() if k not in ("experts", "routing")}
    assert decode_config(family, former) == replace(config, experts=1, routing="layer")


@BOTH
@pytest.mark.exactness
def test_at_first_networks_are_those_of_the_plain_supernet(
    family: ModuleType, config: Any, inputs: Tensor
) -> None:
    one = family.build(replace(config, experts=1)).double().eval()
    many = family.build(config).double().eval()
    with torch.no_grad():
        for architecture in draw_members(one, 4):
            torch.testing.assert_close(
                many(inputs, architecture), one(inputs, architecture), rtol=1e-10, atol=1e-10
            )


@BOTH
def test_what_is_extracted_costs_what_a_plain_subnetwork_costs(
    family: ModuleType, config: Any, inputs: Tensor
) -> None:
    one, many = family.build(replace(config, experts=1)), family.build(config)
    for architecture in draw_members(one, 3):
        dense, plain = many.extract(architecture), one.extract(architecture)
        shapes = [{n: t.shape for n, t in net.state_dict().items()} for net in (dense, plain)]
        assert shapes[0] == shapes[1]
        assert many.parameter_count(architecture) == one.parameter_count(architecture)
        assert many.macs(architecture) == one.macs(architecture)
    ours, theirs = many.cost_model(), one.cost_model()
    assert [u.digest for u in ours.distinct] == [u.digest for u in theirs.distinct]
    assert [u.choices for u in ours.units] == [u.choices for u in theirs.units]


@BOTH
def test_onnx_runtime_agrees(family: ModuleType, config: Any, inputs: Tensor) -> None:
    net = shake(family.build(config))
    for architecture in draw_members(net, 1):
        network = net.extract(architecture).float()
        single = inputs.float() if inputs.is_floating_point() else inputs
        assert_onnx_runtime_agrees(network, single, rtol=1e-4)


# -- the formula ---------------------------------------------------------------------------------


def list_features(net: Supernet, architecture: Architecture) -> list[float]:
    """Every choice between 0 and 1; 0 where it does not matter."""
    known = architecture.to_dict()
    found = []
    for choice in net.space.choices:
        low, high = float(choice.values[0]), float(choice.values[-1])
        value = float(known.get(choice.name, low))
        found.append((value - low) / (high - low))
    return found


def mix_by_hand(net: Supernet, architecture: Architecture, layer: str, by_neuron: bool) -> Tensor:
    """The whole mixed weight of a layer, one row after the other in plain numbers."""
    place = layer.replace(".", ":")
    shared = {n.split("|", 1)[-1]: p.detach() for n, p in net.shared.items() if f"|{place}" in n}
    experts = [net.model.get_parameter(f"{layer}.weight").detach()]
    experts += [p.detach() for n, p in net.shared.items() if n.startswith("expert") and
                n.endswith(f"|{place}")]  # fmt: skip
    router = {n: shared[f"{place}|{n}"] for n in ("inner", "inner_bias", "outer", "outer_bias")}
    features = list_features(net, architecture)
    hidden = []
    for unit in range(ROUTER_WIDTH):
        weights = zip(router["inner"][unit].tolist(), features, strict=True)
        hidden.append(max(0.0, sum(w * f for w, f in weights) + float(router["inner_bias"][unit])))
    rows = []
    for row in range(len(experts[0])):
        scores = []
        for j in range(len(experts)):
            outer, bias = router["outer"][j], router["outer_bias"][j]
            outer, bias = (outer[row], bias[row]) if by_neuron else (outer, bias)
            products = zip(outer.tolist(), hidden, strict=True)
            scores.append(sum(w * h for w, h in products) + float(bias))
        total = sum(math.exp(s) for s in scores)
        parts = zip(scores, experts, strict=True)
        rows.append(sum((math.exp(s) / total) * expert[row] for s, expert in parts))
    return torch.stack(rows)  # type: ignore[arg-type]


@BOTH
@pytest.mark.exactness
def test_weights_are_mixed_as_the_formula_says(
    family: ModuleType, config: Any, inputs: Tensor
) -> None:
    net = shake(family.build(config))
    by_neuron = config.routing == "neuron"
    found = []
    for architecture in draw_members(net, 3):
        alone = net.extract(architecture)
        for layer in ("layers.0.ffn.up", "layers.0.attention.out"):
            weight = alone.get_parameter(f"{layer}.weight").detach()
            expected = mix_by_hand(net, architecture, layer, by_neuron)
            rows, columns = weight.shape
            expected = expected[:rows, :columns]
            assert float((weight - expected).abs().max() / expected.abs().max()) < TOLERANCE
        found.append(alone.get_parameter("layers.0.attention.value.weight").detach()[:4, :8])
    # One set of rows and columns, and other weights there for each architecture.
    assert float((found[0] - found[1]).abs().max()) > 1e-3
    assert_extraction_is_exact(net, net.space.smallest, inputs)


def test_every_neuron_has_shares_of_its_own() -> None:
    net = shake(matlm.build(DECODER))
    smallest = net.space.smallest
    layer = "layers.0.ffn.up"
    before = net.extract(smallest).get_parameter(f"{layer}.weight").detach().clone()
    with torch.no_grad():
        net.shared["router|layers:0:ffn:up|outer_bias"][0, 2] += 1.0
        # A neuron that the smallest network does not have.
        net.shared["router|layers:0:ffn:up|outer_bias"][0, 8] += 1.0
    after = net.extract(smallest).get_parameter(f"{layer}.weight").detach()
    changed = (before - after).abs().amax(1) > 1e-6
    assert changed.tolist() == [row == 2 for row in range(6)]


# -- training ------------------------------------------------------------------------------------


DEEP = {"depth": 2, "layer2.heads": 2, "layer2.ffn": 6}


def find_gradients(net: Supernet, architecture: Architecture) -> Mapping[str, Tensor]:
    """Gradients of the parameters that only the supernet has, of one pass."""
    net.zero_grad()
    net(TOKENS, architecture).square().mean().backward()
    return {n: p.grad for n, p in net.shared.items() if p.grad is not None}


@pytest.mark.exactness
def test_gradients_reach_experts_and_routers() -> None:
    net = shake(matlm.build(DECODER)).train()
    first = {name for name in net.shared if "|layers:0:" in name}
    assert find_gradients(net, net.space.smallest).keys() == first, "it has no second layer"
    narrow = net.space.architecture(net.space.smallest.to_dict() | DEEP)
    gradients = dict(find_gradients(net, narrow))
    assert gradients.keys() == net.shared.keys()
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0, name
    for number in (2, 3):
        expert = gradients[f"expert{number}|layers:0:ffn:up"]
        assert not expert[6:].any()
        assert not expert[:, 8:].any()
        assert expert[:6, :8].abs().min() > 0
    # Against differences of the loss.
    for name, place in (
        ("expert2|layers:0:ffn:up", (1, 2)),
        ("router|layers:0:ffn:up|outer", (1, 3, 2)),
        ("router|layers:0:attention:query|inner_bias", (4,)),
    ):
        losses = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                net.shared[name][place] += step
                losses.append(float(net(TOKENS, narrow).square().mean()))
                net.shared[name][place] -= step
        slope = (losses[0] - losses[1]) / 2e-5
        assert slope == pytest.approx(float(gradients[name][place]), rel=1e-4, abs=1e-8)


def test_equal_experts_part_by_the_shares_of_random_routers() -> None:
    net = matlm.build(DECODER).double().train()
    routers = [name for name in net.shared if name.startswith("router|")]
    narrow = net.space.architecture(net.space.smallest.to_dict() | DEEP)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    gradients = find_gradients(net, narrow)
    # Where experts are equal it does not matter yet whose share is larger.
    assert max(float(gradients[name].abs().max()) for name in routers) < 1e-12
    optimizer.step()
    place = "layers:0:ffn:up"
    assert not torch.equal(net.shared[f"expert2|{place}"], net.shared[f"expert3|{place}"])
    gradients = find_gradients(net, narrow)
    assert min(float(gradients[name].abs().max()) for name in routers) > 1e-9


def test_a_few_steps_teach_small_and_large_networks() -> None:
    """The next token is a fixed function of this one, which each network can learn."""
    net = matlm.build(replace(DECODER, experts=2)).train()
    ids = draw_tokens(DECODER.vocabulary, 32, DECODER.context, seed=1)
    targets = (ids * 5 + 3) % DECODER.vocabulary
    members = [net.space.largest, net.space.smallest]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        for architecture in members:
            F.cross_entropy(net(ids, architecture).flatten(0, 1), targets.flatten()).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        for architecture in members:
            scores = net.extract(architecture)(ids)
            loss = F.cross_entropy(scores.flatten(0, 1), targets.flatten())
            assert loss < 1.0, "3.1 is chance"


def test_a_run_with_experts_continues_and_its_networks_go_on_alone(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox; " * 40)
    data = open_data(f"text:{tmp_path / 'text.txt'}", context=DECODER.context)
    config = replace(DECODER, vocabulary=data.shape.classes)
    changes = {"steps": 3, "batch_size": 8, "warmup_steps": 1, "checkpoint_every": 2}
    recipe = find_recipe("text+muon").replace(changes)
    nets = [matlm.build(config) for _ in range(2)]
    whole = train(nets[0], data, recipe, tmp_path / "whole").checkpoint
    again = train(nets[1], data, recipe, tmp_path / "whole").checkpoint
    assert again == whole
    for name, tensor in nets[0].state_dict().items():
        assert torch.equal(nets[1].state_dict()[name], tensor), name
    later = matlm.build(config)
    earlier = checkpoints.read(tmp_path / "whole" / "checkpoints" / "2")
    checkpoints.load_weights(later, earlier)
    largest = nets[0].space.largest
    ids = TOKENS % config.vocabulary
    alone = make_standalone(nets[0].double(), largest).eval()
    with torch.no_grad():
        expected = nets[0](ids, largest)
        torch.testing.assert_close(alone(ids, alone.space.smallest), expected)
        served, _ = serve(nets[0], largest).network(ids, nets[0].model.start(len(ids)))
        torch.testing.assert_close(served, expected)


def test_experts_of_matrices_are_matrices_and_routers_do_not_decay() -> None:
    net = matlm.build(DECODER)
    optimizer = build_optimizer(net, find_recipe("text+muon").replace({"weight_decay": 0.1}))
    named = {p: name for name, p in net.named_parameters()}
    for group in optimizer.param_groups:
        names = [named[p] for p in group["params"]]
        experts = [name for name in names if name.startswith("shared.expert")]
        routers = [name for name in names if name.startswith("shared.router")]
        assert not experts or group["matrices"]
        assert not routers or (not group["matrices"] and group["weight_decay"] == 0)


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [DECODER, VISION], ids=("matlm", "matvit"))
def test_impossible_configurations(config: Any) -> None:
    with pytest.raises(InputError, match="experts = 0 must be at least 1"):
        replace(config, experts=0)
    with pytest.raises(InputError, match="routing = 'row' is unknown; it is one of layer, neuron"):
        replace(config, routing="row")


def test_channels_of_experts_are_not_sorted(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox; " * 40)
    data = open_data(f"text:{tmp_path / 'text.txt'}", context=DECODER.context)
    net = matlm.build(replace(DECODER, vocabulary=data.shape.classes))
    with pytest.raises(InputError, match=r"layer layers.0.attention.query has several experts"):
        compose(net, data, find_recipe("text+progressive"), 100)

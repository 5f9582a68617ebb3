"""Re-organisation changes no trained network, sorts by importance, and makes narrow ones better."""

from __future__ import annotations

import copy
import importlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.elastic.edits import Cut, Rule, Set, follow
from supernet.space import Architecture, Choice, SearchSpace
from supernet.supernet import InputSpec, Supernet
from supernet.testing.family_networks import build_randomised, make_batch
from supernet.testing.toy_supernets import build_toy_supernet
from supernet.training.schedules.reorganise import (
    Measure,
    find_channel_groups,
    permute,
    reorganise,
)
from tests.contracts.test_families import every_family

KINDS = ("expand", "ffn")


def outputs(net: Supernet, architectures: list[Architecture]) -> list[Tensor]:
    with torch.no_grad():
        results: list[Any] = [net(make_batch(net, a), a) for a in architectures]
    return [r if isinstance(r, Tensor) else r.logits for r in results]


def members(net: Supernet, allowed: dict[str, tuple[Any, ...]], count: int) -> list[Architecture]:
    """Random members whose named choices take allowed values only, the largest among them."""
    part = net.space.restrict(allowed) if allowed else net.space
    found = part.decode(part.sample(np.random.default_rng(3), count))
    largest = net.space.largest
    return [largest, *(net.space.architecture(a.to_dict()) for a in found)]


@every_family
def test_every_network_of_trained_widths_stays_the_same(family: ModuleType, preset: str) -> None:
    for depth in (1, 2):
        net = build_randomised(family, preset)
        # A width may follow several choices (expansion of a width that is elastic itself).
        rules = [group.rule for group in find_channel_groups(net, KINDS)]
        elastic = sorted({name for rule in rules for name in rule.choices})
        trained = {name: net.space.choice(name).values[-depth:] for name in elastic}
        same = members(net, trained, 8)
        before, weights = outputs(net, same), copy.deepcopy(net.state_dict())
        done = reorganise(net, trained=trained if depth > 1 else None)
        moved = [k for k, t in net.state_dict().items() if not torch.equal(t, weights[k])]
        for architecture, old, new in zip(same, before, outputs(net, same), strict=True):
            assert (old - new).abs().max() <= 1e-5 * max(1, old.abs().max()), architecture
        if depth == 1:
            assert bool(moved) == bool(find_channel_groups(net))
            assert len(done) == len(find_channel_groups(net))
        # Sorted already: a second time nothing moves.
        weights = copy.deepcopy(net.state_dict())
        reorganise(net, trained=trained)
        assert all(torch.equal(t, weights[k]) for k, t in net.state_dict().items())


class Bottleneck(nn.Module):
    """A perceptron whose hidden layer is normalised, and scaled by a squeeze-excite."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(width)
        self.reduce = nn.Linear(width, 2)
        self.expand = nn.Linear(2, width)
        self.down = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.up(x)))
        return self.down(x * torch.sigmoid(self.expand(self.reduce(x))))


def bottleneck(widths: tuple[int, ...] = (2, 4, 6)) -> Supernet:
    choice = Choice("width", widths, "expand")
    hidden = follow(choice, int)
    inner = follow(choice, lambda _: 2)
    vectors = ("weight", "bias", "running_mean", "running_var")
    table = [
        Cut("up.weight", 0, hidden),
        Cut("up.bias", 0, hidden),
        Set("up", "out_features", hidden),
        *(Cut(f"norm.{name}", 0, hidden) for name in vectors),
        Set("norm", "num_features", hidden),
        Cut("reduce.weight", 1, hidden),
        Cut("reduce.weight", 0, inner),
        Cut("expand.weight", 0, hidden),
        Cut("expand.weight", 1, inner),
        Cut("expand.bias", 0, hidden),
        Cut("down.weight", 1, hidden),
        Set("down", "in_features", hidden),
    ]
    torch.manual_seed(0)
    model = Bottleneck(max(widths)).eval()
    space = SearchSpace((choice,))
    return Supernet(model, space, table, units=[], inputs=InputSpec((3,), torch.float32))


def set_importance(net: Supernet, values: list[float]) -> None:
    with torch.no_grad():
        net.model.down.weight.copy_(torch.tensor([values, [-v for v in values]]))


def test_importance_is_what_reads_the_channels_and_squeeze_excite_does_not_count() -> None:
    net = bottleneck()
    set_importance(net, [1.0, 6.0, 3.0, 5.0, 2.0, 4.0])
    with torch.no_grad():
        net.model.reduce.weight[:, 0] = 100.0
    bias = net.model.up.bias.detach().clone()
    groups = find_channel_groups(net)
    assert [{cut.tensor for cut in group.consumers} for group in groups] == [
        {"down.weight"},
        {"expand.weight"},
    ]
    done = reorganise(net)
    assert done[0].order.tolist() == [1, 3, 5, 2, 4, 0]
    assert net.model.down.weight[0].tolist() == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    assert torch.equal(net.model.up.bias, bias[[1, 3, 5, 2, 4, 0]])
    assert (net.model.reduce.weight[:, 5] == 100).all()


def test_channels_stay_within_bands_of_trained_widths() -> None:
    net = bottleneck()
    set_importance(net, [1.0, 3.0, 2.0, 4.0, 5.0, 6.0])
    assert reorganise(net, trained={"width": (4, 6)})[0].order.tolist() == [3, 1, 2, 0, 5, 4]
    net = bottleneck()
    set_importance(net, [1.0, 3.0, 2.0, 4.0, 5.0, 6.0])
    assert reorganise(net, trained={"width": (2, 4, 6)})[0].order.tolist() == [1, 0, 3, 2, 5, 4]


def test_ties_keep_their_order_and_tiny_differences_count_in_every_band() -> None:
    net = bottleneck()
    set_importance(net, [1.0, 2.0, 1.0, 2.0, 1.0, 1.0 + 1e-6])
    assert reorganise(net, trained={"width": (4, 6)})[0].order.tolist() == [1, 3, 0, 2, 5, 4]


def test_other_tensors_of_the_same_layout_follow() -> None:
    net = bottleneck()
    twin = {name: p.detach().clone() for name, p in net.named_parameters()}
    pointers = [p.data_ptr() for p in net.parameters()]
    shell = net.shell(net.space.smallest)
    permute(reorganise(net), twin)
    assert all(torch.equal(twin[name], p) for name, p in net.named_parameters())
    assert [p.data_ptr() for p in net.parameters()] == pointers
    assert not shell.is_stale()  # and its views show the new order
    assert torch.equal(shell.network.get_parameter("up.bias"), net.model.up.bias[:2])


def test_fused_layers_move_every_block_alike() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(2, 8), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            gate, value = self.up(x).chunk(2, -1)
            return self.down(torch.sigmoid(gate) * value)

    choice = Choice("ffn", (1, 2, 4), "ffn")
    width: Rule = follow(choice, int)
    table = [
        Cut("up.weight", 0, width, blocks=2),
        Cut("up.bias", 0, width, blocks=2),
        Cut("down.weight", 1, width),
    ]
    torch.manual_seed(0)
    net = Supernet(
        Gated(), SearchSpace((choice,)), table, units=[], inputs=InputSpec((2,), torch.float32)
    )
    x = torch.randn(5, 2)
    before, bias = net.model(x), net.model.up.bias.detach().clone()
    order = reorganise(net)[0].order
    assert order.tolist() != sorted(order.tolist())
    assert torch.equal(net.model.up.bias, torch.cat([bias[:4][order], bias[4:][order]]))
    assert torch.allclose(net.model(x), before, atol=1e-6)


def test_channels_that_cannot_move_alone_are_left_alone() -> None:
    # Behind a flattening the classifier reads four entries per channel, under another rule.
    assert find_channel_groups(build_toy_supernet(), ("width",)) == []
    net = bottleneck()
    net.model.norm = nn.GroupNorm(2, 6)
    assert not any("norm.weight" in {c.tensor for c in g.rows} for g in find_channel_groups(net))


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="measure = 'size' is unknown; it must be one of readers"):
        reorganise(bottleneck(), measure="size")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'activations' needs batches"):
        reorganise(bottleneck(), measure="activations")
    with pytest.raises(ValueError, match="did you mean 'width'"):
        reorganise(bottleneck(), trained={"widht": (2,)})
    with pytest.raises(ValueError, match="not a legal value"):
        reorganise(bottleneck(), trained={"width": (3,)})


# -- transformers ----------------------------------------------------------------------------------

TRANSFORMERS = ("matvit", "autoformer", "vit_resnas", "matlm", "bert")
MEASURES: tuple[Measure, ...] = ("readers", "weights", "activations")


def build_transformer(name: str) -> Supernet:
    if name == "bert":
        pytest.importorskip("transformers")
    family = importlib.import_module(f"supernet.families.{name}")
    net = family.build(family.PRESETS[family.DEFAULT_PRESET])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.double().eval().parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise * (0.2 if parameter.dim() > 1 else 0.05))
    return net


def draw_inputs(net: Supernet) -> Tensor:
    batch = make_batch(net, net.space.largest, count=2)
    return batch.double() if batch.is_floating_point() else batch


def run(net: Supernet, inputs: Tensor, architecture: Architecture) -> Tensor:
    with torch.no_grad():
        result: Any = net(inputs, architecture)
    return result if isinstance(result, Tensor) else next(iter(result.values()))


@pytest.mark.exactness
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_heads_and_hidden_units_move_and_the_largest_stays(name: str, measure: Measure) -> None:
    net = build_transformer(name)
    inputs, space = draw_inputs(net), net.space
    largest, smallest = run(net, inputs, space.largest), run(net, inputs, space.smallest)
    kinds = {"ffn", "expand", "heads"}
    moving = find_channel_groups(net, tuple(kinds))
    choices = {n for group in moving for n in group.rule.choices}
    assert {c.name for c in space.choices if c.kind in kinds} <= choices
    done = reorganise(net, kinds=tuple(kinds), measure=measure, batches=[inputs])
    moved = {r.group.block > 1 for r in done if r.order.tolist() != sorted(r.order.tolist())}
    assert moved == ({False} if name == "matvit" else {False, True})
    scale = max(1.0, float(largest.abs().max()))
    assert (run(net, inputs, space.largest) - largest).abs().max() <= 1e-12 * scale
    assert (run(net, inputs, space.smallest) - smallest).abs().max() > 1e-6 * scale
    again = reorganise(net, kinds=tuple(kinds), measure=measure, batches=[inputs])
    assert all(r.order.tolist() == sorted(r.order.tolist()) for r in again)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_what_matters_and_lies_last_comes_first(name: str, measure: Measure) -> None:
    """All but the last units and the last head of every group are nearly silenced."""
    net = build_transformer(name)
    groups = find_channel_groups(net, ("ffn", "expand", "heads"))
    with torch.no_grad():
        for group in groups:
            kept = group.block * group.streams
            for cut in group.consumers:
                weight = net.model.get_parameter(cut.tensor)
                weight[:, :-kept] *= 1e-3
    for reordering in reorganise(
        net, kinds=("ffn", "expand", "heads"), measure=measure, batches=[draw_inputs(net)]
    ):
        kept = reordering.group.block * reordering.group.streams
        order = reordering.order.tolist()
        assert order[:kept] == list(range(len(order) - kept, len(order)))


def test_query_heads_stay_with_their_key_value_head() -> None:
    net = build_transformer("matlm")
    for reordering in reorganise(net, kinds=("heads",)):
        group = reordering.group
        assert (group.block, group.streams) == (16, 2)
        order = reordering.order.view(-1, 16)
        heads = order[:, 0] // 16
        assert torch.equal(heads % 2, torch.arange(4) % 2)
        assert torch.equal(order - order[:, :1], torch.arange(16).expand(4, 16))


def test_silent_channels_count_for_nothing_however_strongly_they_are_read() -> None:
    weighted, measured = bottleneck(), bottleneck()
    for net in (weighted, measured):
        set_importance(net, [9.0, 1.0, 1.0, 1.0, 1.0, 1.0])
        with torch.no_grad():
            net.model.up.weight[0] = 0
            net.model.up.bias[0] = 0
            net.model.norm.bias.zero_()
            # What scales the channels counts among what makes them.
            net.model.expand.weight[0] = 0
            net.model.expand.bias[0] = 0
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    assert reorganise(bottleneck())
    assert reorganise(weighted, measure="weights")[0].order.tolist()[-1] == 0
    measured.train()
    assert reorganise(measured, measure="activations", batches=[x])[0].order.tolist()[-1] == 0
    assert measured.model.training
    assert not measured.model.down._forward_pre_hooks

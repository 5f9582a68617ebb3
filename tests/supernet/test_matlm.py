"""MatLM against independent references: masks, plain formulas, autograd through sliced weights."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from supernet.data import DataShape
from supernet.families import matlm as family
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.exactness import assert_extraction_is_exact
from tests.toys.networks import assert_gradients_agree, draw_members, draw_tokens, shake

CONFIG = family.Config(
    vocabulary=23, context=12, width=16, heads=4, ffn=(8, 16, 32, 64), depths=(1, 2, 4)
)
TOKENS = draw_tokens(CONFIG.vocabulary, 3, CONFIG.context)


def masked(net: Supernet, architecture: Architecture) -> nn.Module:
    """The full network in which whatever is not kept adds nothing to the residual stream."""
    model = copy.deepcopy(net.model)
    with torch.no_grad():
        for i, layer in enumerate(model.layers, start=1):
            if i > architecture["depth"]:
                for module in (layer.attention.out, layer.ffn.down):
                    module.weight.zero_()
                    module.bias.zero_()
            else:
                layer.ffn.down.weight[:, architecture[f"layer{i}.ffn"] :] = 0
    return model


def formula(weights: dict[str, Tensor], ids: Tensor, architecture: Architecture) -> Tensor:
    """The subnetwork written out: no modules, weights sliced by hand, attention by loops."""
    x = weights["embedding.tokens.weight"][ids]
    x = x + weights["embedding.positions"][: ids.shape[1]]
    size, length = CONFIG.width // CONFIG.heads, ids.shape[1]
    hidden_later = torch.ones(length, length).triu(1).bool()
    for i in range(int(architecture["depth"])):
        w = {k.split(".", 2)[2]: v for k, v in weights.items() if k.startswith(f"layers.{i}.")}
        y = F.layer_norm(x, x.shape[-1:], w["norm1.weight"], w["norm1.bias"])
        qkv = y @ w["attention.qkv.weight"].t() + w["attention.qkv.bias"]
        mixed = []
        for head in range(CONFIG.heads):
            q, k, v = (
                qkv[..., part * CONFIG.width + head * size :][..., :size] for part in range(3)
            )
            scores = (q @ k.transpose(1, 2) / size**0.5).masked_fill(hidden_later, -torch.inf)
            mixed.append(scores.softmax(-1) @ v)
        y = torch.cat(mixed, -1) @ w["attention.out.weight"].t() + w["attention.out.bias"]
        x = x + y
        m = int(architecture[f"layer{i + 1}.ffn"])
        y = F.layer_norm(x, x.shape[-1:], w["norm2.weight"], w["norm2.bias"])
        y = y @ w["ffn.up.weight"][:m].t() + w["ffn.up.bias"][:m]
        y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
        x = x + y @ w["ffn.down.weight"][:, :m].t() + w["ffn.down.bias"]
    x = F.layer_norm(x, x.shape[-1:], weights["head.norm.weight"], weights["head.norm.bias"])
    return x @ weights["head.scores.weight"].t()


@pytest.mark.exactness
def test_subnetworks_equal_the_masked_full_network() -> None:
    net, ids = shake(family.build(CONFIG)), TOKENS
    with torch.no_grad():
        for architecture in draw_members(net, 20):
            expected = masked(net, architecture)(ids)
            assert (net(ids, architecture) - expected).abs().max() < 1e-11
            assert expected.std(dim=0).min() > 1e-4


@pytest.mark.exactness
def test_extraction_is_exact_for_any_batch_and_length() -> None:
    """Cut columns are strided views inside and contiguous copies outside: still one function."""
    net = shake(family.build(replace(CONFIG, ffn=(5, 13, 32, 61))))
    for count, length in ((1, 1), (1, 7), (9, 12), (40, 12)):
        ids = draw_tokens(CONFIG.vocabulary, count, length, seed=length)
        for architecture in draw_members(net, 12):
            assert_extraction_is_exact(net, architecture, ids)


def test_gradients_equal_autograd_through_the_written_out_formula() -> None:
    net, ids = shake(family.build(CONFIG)), TOKENS
    for architecture in draw_members(net, 6):
        net.zero_grad()
        net(ids, architecture).square().sum().backward()
        weights = {n: p.detach().clone().requires_grad_() for n, p in net.model.named_parameters()}
        loss = formula(weights, ids, architecture).square().sum()
        loss.backward()
        assert_gradients_agree(net.model, weights, 1e-8)
        kept = int(architecture["layer1.ffn"])
        up, down = net.model.layers[0].ffn.up.weight.grad, net.model.layers[0].ffn.down.weight.grad
        assert up[:kept].abs().sum(1).min() > 0
        assert not up[kept:].any()
        assert not down[:, kept:].any()


class CheckpointedLayer(family.Layer):
    """A layer whose activations are computed again in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(super().forward, x, use_reentrant=False)


def test_activation_checkpointing_with_several_architectures_in_flight() -> None:
    plain, ids = shake(family.build(CONFIG)), TOKENS
    chosen = draw_members(plain, 2)
    for architecture in chosen:
        plain(ids, architecture).square().sum().backward()
    again = shake(family.build(CONFIG))
    for layer in again.model.layers:
        layer.__class__ = CheckpointedLayer
    total = torch.zeros((), dtype=torch.float64)
    for architecture in chosen:
        total = total + again(ids, architecture).square().sum()
    total.backward()
    ours = dict(again.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(ours[name].grad, parameter.grad, rtol=1e-9, atol=1e-9)


def test_no_token_sees_a_later_one() -> None:
    net = shake(family.build(CONFIG))
    ids = draw_tokens(CONFIG.vocabulary, 1, CONFIG.context)
    changed = ids.clone()
    changed[0, 7] = (changed[0, 7] + 1) % CONFIG.vocabulary
    with torch.no_grad():
        for architecture in draw_members(net, 3):
            difference = (net(ids, architecture) - net(changed, architecture)).abs().sum(-1)[0]
            assert not difference[:7].any()
            assert (difference[7:] > 0).all()


def analytic_parameters(architecture: Architecture) -> int:
    w, total = CONFIG.width, 0
    for i in range(1, int(architecture["depth"]) + 1):
        m = int(architecture[f"layer{i}.ffn"])
        total += 4 * w + (3 * w * w + 3 * w) + (w * w + w) + (w * m + m) + (m * w + w)
    return total + (CONFIG.vocabulary + CONFIG.context) * w + 2 * w + CONFIG.vocabulary * w


def test_parameters_equal_the_closed_form() -> None:
    net = family.build(CONFIG)
    chosen = draw_members(net, 10)
    expected = [analytic_parameters(architecture) for architecture in chosen]
    positions = net.space.encode(chosen)
    assert net.cost_model().parameters(positions).tolist() == expected
    assert net.cost_model().size_bytes(positions).tolist() == [4 * n for n in expected]
    assert [net.parameter_count(architecture) for architecture in chosen] == expected


def test_the_space_counts_layers_that_are_there() -> None:
    space = family.make_space(CONFIG)
    assert space.size == 4 + 4**2 + 4**4
    assert space.choice("layer1.ffn").needs is None
    # Depths are 1, 2 and 4: the third layer comes together with the fourth.
    assert space.choice("layer3.ffn").needs == ("depth", 4)


def test_uniform_members() -> None:
    space = family.make_space(CONFIG)
    assert family.list_granularities(space) == (8, 16, 32, 64)
    assert family.make_uniform(space, -1) == space.largest
    assert family.make_uniform(space, 0, depth=1) == space.smallest
    half = family.make_uniform(space, 2)
    assert set(half.to_dict().values()) == {4, 32}
    with pytest.raises(ValueError, match="granularity 4 does not exist; there are 4"):
        family.make_uniform(space, 4)
    with pytest.raises(ValueError, match=r"depth = 3 is not a legal value"):
        family.make_uniform(space, 0, depth=3)


def test_a_few_steps_on_a_pattern_teach_every_granularity() -> None:
    """Joint training on labels: each uniform member learns to repeat a cycle of five tokens."""
    net = family.build(replace(CONFIG, vocabulary=5)).train()
    stream = torch.arange(24) % 5
    windows = stream.unfold(0, CONFIG.context + 1, 1)
    x, y = windows[:, :-1], windows[:, 1:]
    members = [family.make_uniform(net.space, i) for i in range(4)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        for architecture in members:
            F.cross_entropy(net(x, architecture).flatten(0, 1), y.flatten()).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        for architecture in members:
            loss = F.cross_entropy(net.extract(architecture)(x).flatten(0, 1), y.flatten())
            assert loss < 0.1


def test_configure_follows_the_data() -> None:
    shape = DataShape("language-modelling", (48,), 3, ("\ufffd", "a", "b"))
    config = family.configure("tiny", shape)
    assert (config.vocabulary, config.context) == (3, 48)
    net = family.build(config)
    assert net(torch.zeros(2, 48, dtype=torch.int64), net.space.largest).shape == (2, 48, 3)
    with pytest.raises(ValueError, match="49 tokens are more than the context of 48"):
        net(torch.zeros(2, 49, dtype=torch.int64), net.space.largest)
    with pytest.raises(ValueError, match=r"unknown preset 'tini'.*did you mean 'tiny'"):
        family.configure("tini", shape)
    with pytest.raises(ValueError, match="this data is for image-classification, use text:PATH"):
        family.configure("tiny", replace(shape, task="image-classification"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ffn": (8, 4)}, r"ffn = \[8, 4\] must be rising"),
        ({"depths": (0, 1)}, r"depths = \[0, 1\] must be rising numbers from 1 up"),
        ({"ffn": ()}, r"ffn = \[\] must be rising"),
        ({"width": 18}, "width = 18 does not divide into 4 heads"),
        ({"heads": 0}, "heads = 0 must be at least 1"),
        ({"dropout": 1.0}, "dropout = 1.0 must be at least 0 and below 1"),
    ],
)
def test_impossible_configurations(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)

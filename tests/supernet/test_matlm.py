"""MatLM against independent references: masks, plain formulas, autograd through sliced weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from supernet import checkpoints
from supernet.data import DataShape
from supernet.families import matlm as family
from supernet.families._decoder import KeyValue, Layer
from supernet.family_config import decode_config, encode_config
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.exactness import assert_extraction_is_exact
from tests.toys.networks import assert_gradients_agree, draw_members, draw_tokens, shake

CONFIG = family.Config(
    vocabulary=23,
    context=12,
    widths=(16,),
    heads=(2, 4),
    groups=2,
    head_size=4,
    ffn=(8, 16, 32, 64),
    depths=(1, 2, 4),
)
EVERYTHING = replace(
    CONFIG,
    widths=(8, 12, 16),
    heads=(3, 6, 9),
    groups=3,
    bias=True,
    tied=True,
    qk_norm=True,
    window=5,
    global_every=2,
)
CLASSIC = replace(
    CONFIG,
    heads=(4,),
    groups=4,
    norm="layer",
    positions="learned",
    activation="gelu",
    bias=True,
)
STYLES = pytest.mark.parametrize(
    "config", [CONFIG, EVERYTHING, CLASSIC], ids=("modern", "everything", "classic")
)
TOKENS = draw_tokens(CONFIG.vocabulary, 3, CONFIG.context)


def masked(net: Supernet, architecture: Architecture) -> nn.Module:
    """The full network in which whatever is not kept adds nothing to the residual stream."""
    model = copy.deepcopy(net.model)
    with torch.no_grad():
        for i, layer in enumerate(model.layers, start=1):
            outputs = [layer.attention.out, layer.ffn.down]
            if i > architecture["depth"]:
                for module in outputs:
                    module.weight.zero_()
                    if module.bias is not None:
                        module.bias.zero_()
                continue
            layer.ffn.down.weight[:, architecture[f"layer{i}.ffn"] :] = 0
            if f"layer{i}.heads" in architecture.names:
                kept = architecture[f"layer{i}.heads"] * layer.attention.size
                layer.attention.out.weight[:, kept:] = 0
    return model


def turn(x: Tensor, base: float) -> Tensor:
    """Rotary positions by complex numbers: ``(N, T, size)``, halves as real and imaginary parts."""
    half = x.shape[-1] // 2
    pairs = torch.complex(x[..., :half], x[..., half:])
    places = torch.arange(x.shape[1], dtype=torch.float64)
    speeds = torch.tensor([base ** (-i / half) for i in range(half)], dtype=torch.float64)
    turned = pairs * torch.exp(1j * torch.outer(places, speeds))
    return torch.cat((turned.real, turned.imag), -1)


def formula(
    weights: dict[str, Tensor], ids: Tensor, architecture: Architecture, config: family.Config
) -> Tensor:
    """The subnetwork written out: no modules, weights sliced by hand, attention by loops."""
    values = architecture.to_dict()
    d = int(values.get("width", config.widths[-1]))
    size, length = config.head_size, ids.shape[1]

    def normalize(x: Tensor, name: str) -> Tensor:
        scale = weights[f"{name}.weight"][: x.shape[-1]]
        if config.norm == "layer" and "attention" not in name:
            bias = weights[f"{name}.bias"][: x.shape[-1]]
            centred = x - x.mean(-1, keepdim=True)
            return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale + bias
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * scale

    def project(x: Tensor, name: str, rows: int) -> Tensor:
        y = x @ weights[f"{name}.weight"][:rows, : x.shape[-1]].t()
        return y + weights[f"{name}.bias"][:rows] if config.bias else y

    x = weights["embedding.tokens.weight"][ids][..., :d]
    if config.positions == "learned":
        x = x + weights["embedding.positions"][:length, :d]
    for i in range(int(values["depth"])):
        layer, heads = f"layers.{i}", int(values.get(f"layer{i + 1}.heads", config.heads[-1]))
        wide = bool(config.global_every) and (i + 1) % config.global_every == 0
        window = length if wide or not config.window else config.window
        y = normalize(x, f"{layer}.norm1")
        q = project(y, f"{layer}.attention.query", heads * size)
        k = project(y, f"{layer}.attention.key", config.groups * size)
        v = project(y, f"{layer}.attention.value", config.groups * size)
        mixed = []
        for head in range(heads):
            group = head % config.groups
            qh = q[..., head * size : (head + 1) * size]
            kh, vh = (part[..., group * size : (group + 1) * size] for part in (k, v))
            if config.qk_norm:
                qh = normalize(qh, f"{layer}.attention.query_norm")
                kh = normalize(kh, f"{layer}.attention.key_norm")
            if config.positions == "rotary":
                qh, kh = turn(qh, config.rotary_base), turn(kh, config.rotary_base)
            rows = []
            for t in range(length):
                seen = slice(max(0, t + 1 - window), t + 1)
                scores = (qh[:, t : t + 1] @ kh[:, seen].transpose(1, 2)) / size**0.5
                rows.append(scores.softmax(-1) @ vh[:, seen])
            mixed.append(torch.cat(rows, 1))
        x = x + project(torch.cat(mixed, -1), f"{layer}.attention.out", d)
        m = int(values[f"layer{i + 1}.ffn"])
        y = normalize(x, f"{layer}.norm2")
        up = project(y, f"{layer}.ffn.up", m)
        if config.activation == "gelu":
            up = 0.5 * up * (1 + torch.erf(up / 2**0.5))
        else:
            gate = project(y, f"{layer}.ffn.gate", m)
            up = gate / (1 + torch.exp(-gate)) * up
        x = x + project(up, f"{layer}.ffn.down", d)
    x = normalize(x, "head.norm")
    scores = "embedding.tokens.weight" if config.tied else "head.scores.weight"
    return x @ weights[scores][:, :d].t()


@pytest.mark.exactness
@pytest.mark.parametrize("config", [CONFIG, CLASSIC], ids=("modern", "classic"))
def test_subnetworks_equal_the_masked_full_network(config: family.Config) -> None:
    net, ids = shake(family.build(config)), TOKENS
    with torch.no_grad():
        for architecture in draw_members(net, 20):
            expected = masked(net, architecture)(ids)
            assert (net(ids, architecture) - expected).abs().max() < 1e-11
            assert expected.std(dim=0).min() > 1e-4


@pytest.mark.exactness
def test_extraction_is_exact_for_any_batch_and_length() -> None:
    """Cut columns are strided views inside and contiguous copies outside: still one function."""
    net = shake(family.build(replace(EVERYTHING, ffn=(5, 13, 32, 61), window=6)))
    for count, length in ((1, 1), (1, 7), (9, 12), (40, 12)):
        ids = draw_tokens(CONFIG.vocabulary, count, length, seed=length)
        for architecture in draw_members(net, 12):
            assert_extraction_is_exact(net, architecture, ids)


@STYLES
def test_outputs_and_gradients_equal_the_written_out_formula(config: family.Config) -> None:
    net, ids = shake(family.build(config)), TOKENS
    for architecture in draw_members(net, 6):
        net.zero_grad()
        found = net(ids, architecture)
        found.square().sum().backward()
        weights = {n: p.detach().clone().requires_grad_() for n, p in net.model.named_parameters()}
        expected = formula(weights, ids, architecture, config)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        expected.square().sum().backward()
        assert_gradients_agree(net.model, weights, 1e-8)
        kept = int(architecture["layer1.ffn"])
        up, down = net.model.layers[0].ffn.up.weight.grad, net.model.layers[0].ffn.down.weight.grad
        assert up[:kept].abs().sum(1).min() > 0
        assert not up[kept:].any()
        assert not down[:, kept:].any()


class CheckpointedLayer(Layer):
    """A layer whose activations are computed again in the backward pass."""

    def forward(self, x: Tensor, past: KeyValue | None = None) -> tuple[Tensor, KeyValue]:
        return checkpoint(super().forward, x, past, use_reentrant=False)


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


@STYLES
def test_no_token_sees_a_later_one(config: family.Config) -> None:
    net = shake(family.build(config))
    ids = draw_tokens(CONFIG.vocabulary, 1, CONFIG.context)
    changed = ids.clone()
    changed[0, 7] = (changed[0, 7] + 1) % CONFIG.vocabulary
    with torch.no_grad():
        for architecture in draw_members(net, 3):
            difference = (net(ids, architecture) - net(changed, architecture)).abs().sum(-1)[0]
            assert not difference[:7].any()
            assert (difference[7:] > 0).all()


def analytic_parameters(architecture: Architecture, config: family.Config) -> int:
    values = architecture.to_dict()
    w = int(values.get("width", config.widths[-1]))
    norm = w * (2 if config.norm == "layer" else 1)

    def project(inputs: int, outputs: int) -> int:
        return inputs * outputs + (outputs if config.bias else 0)

    total = config.vocabulary * w * (1 if config.tied else 2) + norm
    total += config.context * w if config.positions == "learned" else 0
    for i in range(1, int(values["depth"]) + 1):
        heads = int(values.get(f"layer{i}.heads", config.heads[-1])) * config.head_size
        m, shared = int(values[f"layer{i}.ffn"]), config.groups * config.head_size
        total += project(w, heads) + 2 * project(w, shared) + project(heads, w) + 2 * norm
        total += 2 * config.head_size if config.qk_norm else 0
        total += (1 if config.activation == "gelu" else 2) * project(w, m) + project(m, w)
    return total


@STYLES
def test_parameters_equal_the_closed_form(config: family.Config) -> None:
    """Vectors of tokens that input and output share count, and are stored, once."""
    net = family.build(config)
    chosen = draw_members(net, 10)
    expected = [analytic_parameters(architecture, config) for architecture in chosen]
    positions = net.space.encode(chosen)
    assert net.cost_model().parameters(positions).tolist() == expected
    assert net.cost_model().size_bytes(positions).tolist() == [4 * n for n in expected]
    assert [net.parameter_count(architecture) for architecture in chosen] == expected


def test_the_space_counts_layers_that_are_there() -> None:
    space = family.make_space(CONFIG)
    assert space.size == 8 + 8**2 + 8**4
    assert family.make_space(CLASSIC).size == 4 + 4**2 + 4**4
    assert family.make_space(EVERYTHING).size == 3 * (12 + 12**2 + 12**4)
    assert space.choice("layer1.ffn").needs is None
    # Depths are 1, 2 and 4: the third layer comes together with the fourth.
    assert space.choice("layer3.ffn").needs == ("depth", 4)


def test_uniform_members() -> None:
    space = family.make_space(CONFIG)
    assert family.list_granularities(space) == (8, 16, 32, 64)
    assert family.make_uniform(space, -1) == space.largest
    classic = family.make_space(CLASSIC)
    assert family.make_uniform(classic, 0, depth=1) == classic.smallest
    half = family.make_uniform(space, 2)
    assert set(half.to_dict().values()) == {4, 32}
    wide = family.make_uniform(family.make_space(EVERYTHING), 0, depth=2)
    assert wide.to_dict() == {
        **{"depth": 2, "width": 16, "layer1.heads": 9, "layer2.heads": 9},
        **{"layer1.ffn": 8, "layer2.ffn": 8},
    }
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
        ({"ffn": ()}, "ffn is empty"),
        ({"heads": (2, 3)}, r"heads = \[2, 3\] do not divide into 2 key-value heads: 3 is no"),
        ({"groups": 0}, "groups = 0 must be at least 1"),
        ({"head_size": 5}, "head_size = 5 is odd"),
        ({"norm": "batch"}, "norm = 'batch' is unknown; it is one of rms, layer"),
        ({"window": -1}, "window = -1 must be at least 0"),
        ({"rotary_base": 1.0}, "rotary_base = 1.0 must be above 1"),
        ({"dropout": 1.0}, "dropout = 1.0 must be at least 0 and below 1"),
    ],
)
def test_impossible_configurations(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


# -- known keys and values -----------------------------------------------------------------------


@STYLES
@pytest.mark.parametrize("parts", [[1] * 12, [5, 1, 1, 5], [12], [7, 5]], ids=str)
def test_any_division_of_a_text_gives_the_logits_of_the_whole(
    config: family.Config, parts: list[int]
) -> None:
    net, ids = shake(family.build(config)), TOKENS
    with torch.no_grad():
        for architecture in draw_members(net, 4):
            network = net.extract(architecture)
            past, found = network.start(len(ids)), []
            for part in ids.split(parts, dim=1):
                logits, past = network(part, past)
                found.append(logits)
            torch.testing.assert_close(torch.cat(found, 1), network(ids), rtol=1e-10, atol=1e-10)
            assert all(k.shape[2] == v.shape[2] == ids.shape[1] for k, v in past)


def test_a_text_beyond_the_context_is_refused() -> None:
    network = family.build(CONFIG).model
    _, past = network(TOKENS, network.start(len(TOKENS)))
    with pytest.raises(ValueError, match="13 tokens are more than the context of 12"):
        network(TOKENS[:, :1], past)


def test_key_value_heads_are_as_many_as_their_groups() -> None:
    """That is what they are for: a third of the memory of a text that has been read."""
    net = family.build(EVERYTHING)
    _, past = net.model(TOKENS, net.model.start(3))
    assert {tuple(part.shape) for pair in past for part in pair} == {(3, 3, 12, 4)}


# -- earlier releases ----------------------------------------------------------------------------


def make_former_record() -> dict:
    """The record of a configuration as releases without the modern decoder wrote it."""
    return {
        "vocabulary": 23,
        "context": 12,
        "width": 16,
        "heads": 4,
        "ffn": [8, 16, 32, 64],
        "depths": [1, 2, 4],
        "dropout": 0.0,
        "seed": 3,
    }


def fuse(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as those releases had them: queries, keys and values in one layer."""
    fused = {}
    for name, tensor in weights.items():
        if ".attention.query." in name:
            parts = [weights[name.replace("query", part)] for part in ("query", "key", "value")]
            fused[name.replace("query", "qkv")] = torch.cat(parts)
        elif ".attention.key." not in name and ".attention.value." not in name:
            fused[name] = tensor
    return fused


def test_records_and_weights_of_earlier_releases_are_read() -> None:
    config = decode_config(family, make_former_record())
    assert config == replace(CLASSIC, seed=3)
    assert decode_config(family, encode_config(family, config)) == config
    source = shake(family.build(config)).float()
    former = fuse(source.state_dict())
    assert "model.layers.0.attention.qkv.weight" in former
    net = family.build(replace(config, seed=4)).eval()
    checkpoints.restore(net, former, Path("former"))
    for architecture in draw_members(net, 3):
        assert torch.equal(net(TOKENS, architecture), source(TOKENS, architecture))


def test_weights_of_earlier_releases_do_not_fit_another_style() -> None:
    former = fuse(family.build(CLASSIC).state_dict())
    with pytest.raises(ValueError, match="former does not fit the network"):
        checkpoints.restore(family.build(CONFIG), former, Path("former"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 18}, "width 18 and heads 4; a width is a multiple of its heads"),
        ({"heads": [4]}, r"width 16 and heads \[4\]"),
        ({"groups": 2}, "groups"),
        ({"norm": "rms"}, "norm"),
    ],
)
def test_damaged_records_of_earlier_releases(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_config(family, {**make_former_record(), **change})

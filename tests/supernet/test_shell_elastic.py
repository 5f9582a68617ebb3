"""Shells: every width is a prefix of the widest, and one pass answers for all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.data import DataShape
from supernet.families import shell_elastic as family
from supernet.generation.decoding import generate
from supernet.generation.onnx_decoder import open_decoder
from supernet.generation.serving import serve
from supernet.generation.speculative import can_share, speculate
from supernet.supernet import Supernet
from supernet.training.guides import Labels
from supernet.training.method import TrainingMethod
from supernet.training.samplers.granularities import Granularities
from tests.toys.networks import draw_tokens, shake

CONFIG = family.Config(
    vocabulary=19,
    context=10,
    widths=(6, 8, 12),
    heads=(1, 2, 3),
    head_size=4,
    ffn=(5, 11, 16),
    depth=2,
)
TOKENS = draw_tokens(CONFIG.vocabulary, 3, CONFIG.context)


def list_members(net: Supernet) -> list:
    return [family.make_uniform(net.space, i) for i in range(len(CONFIG.widths))]


def record_hidden_states(network: torch.nn.Module, ids: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    handles = [
        module.register_forward_hook(
            lambda _, __, output: found.append(output[0] if isinstance(output, tuple) else output)
        )
        for module in (network.embedding, *network.layers)
    ]
    with torch.no_grad():
        network(ids)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.exactness
def test_hidden_states_of_every_width_are_prefixes_of_the_widest() -> None:
    net = shake(family.build(CONFIG))
    whole = record_hidden_states(net.model, TOKENS)
    for width, member in zip(CONFIG.widths, list_members(net), strict=True):
        alone = record_hidden_states(net.extract(member), TOKENS)
        assert len(alone) == len(whole) == 3
        for ours, theirs in zip(alone, whole, strict=True):
            assert ours.shape[-1] == width
            assert (ours - theirs[..., :width]).abs().max() < 1e-12
            assert ours.abs().min() > 0


@pytest.mark.exactness
def test_one_pass_scores_what_every_extracted_network_scores() -> None:
    net = shake(family.build(CONFIG))
    members = list_members(net)
    assert net.answers_together(members)
    assert not net.answers_together(members[:1])
    with torch.no_grad():
        found = net.run_together(TOKENS, members)
        for logits, member in zip(found, members, strict=True):
            assert (logits - net.extract(member)(TOKENS)).abs().max() < 1e-12
        order = net.run_together(TOKENS, members[::-1])
        assert all(torch.equal(a, b) for a, b in zip(order, found[::-1], strict=True))


def test_outer_shells_tell_inner_ones_nothing() -> None:
    """A change of any weight of the outermost shell leaves all narrower widths alone."""
    net = shake(family.build(CONFIG))
    members = list_members(net)
    with torch.no_grad():
        before = net.run_together(TOKENS, members)
        for module in net.model.modules():
            if isinstance(module, family.TriangularLinear):
                module.shells[-1].weight.mul_(2)
            if isinstance(module, family.NestedNorm):
                module.weight[CONFIG.widths[-2] :] *= 2
        after = net.run_together(TOKENS, members)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert (before[2] - after[2]).abs().max() > 1e-3


def test_shells_are_one_matrix_with_zeros_above_its_blocks() -> None:
    layer = family.TriangularLinear((2, 5), (3, 7)).double()
    dense = torch.zeros(7, 5, dtype=torch.float64)
    dense[:3, :2], dense[3:, :] = layer.shells[0].weight, layer.shells[1].weight
    x = torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ dense.t())


def test_normalisation_by_hand() -> None:
    norm = family.NestedNorm((1, 3))
    norm.weight.data = torch.tensor([2.0, 1.0, 1.0])
    found = norm(torch.tensor([[3.0, 0.0, 4.0]]))
    root = (25 / 3 + 1e-6) ** 0.5
    torch.testing.assert_close(found, torch.tensor([[2.0, 0.0, 4 / root]]))


def test_one_pass_has_the_gradients_of_several() -> None:
    together, apart = shake(family.build(CONFIG)).train(), shake(family.build(CONFIG)).train()
    apart.one_pass = None
    targets = draw_tokens(CONFIG.vocabulary, 3, CONFIG.context, seed=1)
    losses = []
    for net in (together, apart):
        method = TrainingMethod(net, Granularities(net.space, 3), Labels())
        losses.append(list(method.backward(0, TOKENS, targets).values()))
    torch.testing.assert_close(losses[0], losses[1])
    ours = dict(together.named_parameters())
    for name, parameter in apart.named_parameters():
        torch.testing.assert_close(ours[name].grad, parameter.grad, rtol=1e-9, atol=1e-12)


def test_one_pass_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    net = family.build(CONFIG).train()
    passes = []
    forward = family.Decoder.forward
    monkeypatch.setattr(
        family.Decoder, "forward", lambda self, *a, **k: passes.append(1) or forward(self, *a, **k)
    )
    method = TrainingMethod(net, Granularities(net.space, 3), Labels())
    method.backward(0, TOKENS, TOKENS)
    assert len(passes) == 1
    dropped = TrainingMethod(net, Granularities(net.space, 3), Labels(), regularise="largest")
    dropped.backward(0, TOKENS, TOKENS)
    assert len(passes) == 1 + 3, "dropout in one of them cannot be had in one pass"


def test_a_few_steps_teach_every_width() -> None:
    net = family.build(replace(CONFIG, vocabulary=5)).train()
    stream = torch.arange(24) % 5
    windows = stream.unfold(0, CONFIG.context + 1, 1)
    x, y = windows[:, :-1], windows[:, 1:]
    method = TrainingMethod(net, Granularities(net.space, 3), Labels())
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for step in range(60):
        method.begin(step, optimizer)
        method.backward(step, x, y)
        optimizer.step()
    net.eval()
    with torch.no_grad():
        for member in list_members(net):
            loss = F.cross_entropy(net.extract(member)(x).flatten(0, 1), y.flatten())
            assert loss < 0.1


# -- generation ----------------------------------------------------------------------------------


def shake_more() -> Supernet:
    """A supernet whose choices of tokens are clear."""
    return shake(family.build(replace(CONFIG, context=40))).float().eval()


def test_known_keys_and_values_change_no_token() -> None:
    net, prompts = shake_more(), draw_tokens(CONFIG.vocabulary, 2, 5)
    for member in list_members(net):
        model = serve(net, member)
        found = generate(model, prompts, 20)
        text = prompts
        with torch.no_grad():
            for _ in range(20):
                text = torch.cat((text, model.network(text)[:, -1].argmax(-1)[:, None]), 1)
        assert torch.equal(found, text[:, 5:])


@pytest.mark.exactness
def test_keys_and_values_of_inner_shells_are_those_of_the_narrower_network() -> None:
    net = shake(family.build(CONFIG)).eval()
    wide = net.extract(net.space.largest)
    with torch.no_grad():
        _, known = wide(TOKENS, wide.start(len(TOKENS)))
        for heads, member in zip(CONFIG.heads, list_members(net), strict=True):
            narrow = net.extract(member)
            _, own = narrow(TOKENS, narrow.start(len(TOKENS)))
            for ours, theirs in zip(known, own, strict=True):
                for wanted, found in zip(ours, theirs, strict=True):
                    assert found.shape[1] == heads
                    assert (wanted[:, :heads] - found).abs().max() < 1e-12


@pytest.mark.parametrize("shared", [True, False])
def test_an_inner_shell_drafts_for_the_outer_ones(shared: bool) -> None:
    net, prompt = shake_more(), draw_tokens(CONFIG.vocabulary, 1, 4)
    model = serve(net, net.space.largest)
    alone = generate(model, prompt, 24)[0]
    accepted = []
    for member in list_members(net):
        found = speculate(model, serve(net, member), prompt, 24, drafted=3, shared=shared)
        assert torch.equal(found.ids, alone)
        accepted.append(found.accepted)
    assert accepted[-1] == max(accepted) > 0
    assert not can_share(serve(net, net.space.smallest), model)


def test_onnx_runtime_generates_the_same() -> None:
    net, prompt = shake_more(), draw_tokens(CONFIG.vocabulary, 1, 4)
    for member in (net.space.smallest, net.space.largest):
        model = serve(net, member)
        found = generate(open_decoder(net.extract(member).eval()), prompt, 20)
        assert torch.equal(found, generate(model, prompt, 20))


def test_configure_follows_the_data() -> None:
    shape = DataShape("language-modelling", (48,), 3, ("\ufffd", "a", "b"))
    config = family.configure("tiny", shape)
    assert (config.vocabulary, config.context) == (3, 48)
    with pytest.raises(ValueError, match="shell_elastic is for language-modelling"):
        family.configure("tiny", replace(shape, task="image-classification"))
    net = family.build(config)
    with pytest.raises(ValueError, match="49 tokens are more than the context of 48"):
        net(torch.zeros(1, 49, dtype=torch.int64), net.space.largest)
    with pytest.raises(ValueError, match="granularity 3 does not exist; there are 3"):
        family.make_uniform(family.make_space(CONFIG), 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (8, 6, 12)}, r"widths = \[8, 6, 12\] must be rising"),
        ({"heads": (1, 2)}, r"heads = \[1, 2\] must have a value for each of the 3 widths"),
        ({"ffn": (0, 1, 2)}, "the first of ffn = 0 must be at least 1"),
        ({"head_size": 3}, "head_size = 3 is odd"),
        ({"depth": 0}, "depth = 0 must be at least 1"),
    ],
)
def test_impossible_configurations(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)

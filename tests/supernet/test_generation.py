"""Generating text: known keys and values, sampling, drafts, and the same under ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from supernet.families import matlm
from supernet.families._decoder import Decoder
from supernet.generation.consistency import measure_consistency
from supernet.generation.decoding import generate
from supernet.generation.language_model import Past, TorchModel, require_decoder
from supernet.generation.onnx_decoder import open_decoder, trace_decoder
from supernet.generation.sampling import Sampling, choose, find_probabilities
from supernet.generation.serving import serve
from supernet.generation.speculative import speculate
from supernet.precision.elastic import make_precision_elastic
from supernet.quantization.formats import parse_policy
from supernet.space import Architecture
from supernet.supernet import Supernet
from tests.toys.networks import draw_members, draw_tokens
from tests.toys.saturating_processors import skip_unless_exact

CONFIG = matlm.Config(
    vocabulary=29,
    context=80,
    widths=(16, 32),
    heads=(2, 4),
    groups=2,
    head_size=16,
    ffn=(32, 64),
    depths=(1, 3),
)
STYLES = pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, tied=True, qk_norm=True, window=7, global_every=2),
        replace(CONFIG, norm="layer", positions="learned", activation="gelu", bias=True),
    ],
    ids=["modern", "windows", "classic"],
)
PROMPT = draw_tokens(CONFIG.vocabulary, 1, 6)


def build(config: matlm.Config, scale: float = 0.3) -> Supernet:
    """A supernet whose choices of tokens are clear: weights far from those it starts with."""
    net = matlm.build(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return net


def extract(net: Supernet, architecture: Architecture | None = None) -> Decoder:
    network = net.extract(architecture or net.space.largest).eval()
    return require_decoder(network, "this")


def without_memory(network: Decoder, prompt: Tensor, tokens: int) -> Tensor:
    """Greedy decoding that reads the whole text again for every token."""
    text = prompt
    with torch.no_grad():
        for _ in range(tokens):
            text = torch.cat((text, network(text)[:, -1].argmax(-1)[:, None]), 1)
    return text[:, prompt.shape[1] :]


@STYLES
def test_known_keys_and_values_change_no_token(config: matlm.Config) -> None:
    net, prompts = build(config), draw_tokens(config.vocabulary, 3, 6)
    for architecture in draw_members(net, 1):
        network = extract(net, architecture)
        found = generate(TorchModel(network), prompts, 30)
        assert torch.equal(found, without_memory(network, prompts, 30))
        assert len(found.unique()) > 1


@STYLES
def test_the_runtime_generates_the_tokens_of_torch(config: matlm.Config) -> None:
    """Any batch and any length: one model reads prompts of two lengths and then single tokens."""
    net = build(config)
    for architecture in draw_members(net, 1)[1:]:
        network = extract(net, architecture)
        ours, theirs = TorchModel(network), open_decoder(network)
        assert (theirs.vocabulary, theirs.context) == (ours.vocabulary, ours.context)
        for count, length in ((1, 1), (4, 11)):
            prompts = draw_tokens(config.vocabulary, count, length)
            assert torch.equal(generate(theirs, prompts, 64), generate(ours, prompts, 64))
            logits, past = ours.score(prompts, ours.start(count))
            others, others_past = theirs.score(prompts, theirs.start(count))
            torch.testing.assert_close(others, logits, rtol=1e-4, atol=1e-4)
            for pair, other in zip(past, others_past, strict=True):
                torch.testing.assert_close(other, pair, rtol=1e-4, atol=1e-4)


def test_a_rotary_model_runs_beyond_its_context() -> None:
    """Nothing in the file knows of a context: 3 times as many tokens as it was trained on."""
    network = extract(build(CONFIG))
    theirs = open_decoder(network)
    ids = draw_tokens(CONFIG.vocabulary, 1, 3 * CONFIG.context)
    network.embedding.context = ids.shape[1]
    logits, _ = TorchModel(network).score(ids, network.start(1))
    others, _ = theirs.score(ids, theirs.start(1))
    torch.testing.assert_close(others, logits, rtol=1e-3, atol=1e-3)


def test_the_graph_names_inputs_outputs_and_dimensions() -> None:
    graph, _ = trace_decoder(extract(build(CONFIG)), structure_only=True)
    assert [i.name for i in graph.inputs][:3] == [
        *("input_ids", "past_key_values.0.key", "past_key_values.0.value")
    ]
    assert graph.inputs[0].shape == ("batch", "length")
    assert graph.inputs[1].shape == ("batch", 2, "past", 16)
    assert [o.name for o in graph.outputs][:2] == ["logits", "present.0.key"]
    assert graph.outputs[0].shape == ("batch", "length", CONFIG.vocabulary)
    assert graph.outputs[1].shape == ("batch", 2, "length + past", 16)
    assert len(graph.inputs) == len(graph.outputs) == 1 + 2 * 3


@pytest.mark.parametrize("vocabulary", [10007, 10007 + 20011, 20011 + 40009])
def test_no_size_of_a_layer_is_taken_for_a_length(vocabulary: int) -> None:
    config = replace(CONFIG, vocabulary=vocabulary, depths=(1,))
    graph, _ = trace_decoder(extract(build(config)), structure_only=True)
    assert graph.outputs[0].shape == ("batch", "length", vocabulary)
    assert graph.outputs[1].shape == ("batch", 2, "length + past", 16)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("form", ["weights4", "int8-dynamic"])
def test_number_formats_generate_what_their_simulation_does(form: str, tied: bool) -> None:
    config = replace(CONFIG, widths=(32,), tied=tied)
    net = make_precision_elastic(build(config), parse_policy(f"{form},fp32"))
    values = net.space.largest.to_dict()
    changed = {n: form if n.endswith("precision") else v for n, v in values.items()}
    network = extract(net, net.space.architecture(changed))
    plain = extract(net)
    skip_unless_exact(*trace_decoder(network))
    ours, theirs = TorchModel(network), open_decoder(network)
    prompt = draw_tokens(CONFIG.vocabulary, 1, 9)
    assert torch.equal(generate(theirs, prompt, 64), generate(ours, prompt, 64))
    rounded, _ = ours.score(prompt, ours.start(1))
    exact, _ = TorchModel(plain).score(prompt, plain.start(1))
    assert (rounded - exact).abs().max() > 1e-3, "the formats do something"
    others, _ = theirs.score(prompt, theirs.start(1))
    torch.testing.assert_close(others, rounded, rtol=1e-3, atol=1e-3)


# -- sampling ------------------------------------------------------------------------------------


def test_top_p_keeps_the_fewest_tokens_that_are_likely_enough() -> None:
    logits = torch.tensor([[0.5, 0.1, 0.25, 0.15]]).log()
    found = find_probabilities(logits, Sampling(temperature=1.0, top_p=0.7))
    expected = torch.tensor([[0.5, 0.0, 0.25, 0.0]]).double() / 0.75
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    whole = find_probabilities(logits, Sampling(temperature=1.0))
    torch.testing.assert_close(whole, logits.double().exp(), rtol=1e-6, atol=1e-9)
    hot = find_probabilities(logits, Sampling(temperature=2.0))
    roots = logits.double().exp().sqrt()
    torch.testing.assert_close(hot, roots / roots.sum(), rtol=1e-6, atol=1e-9)


def test_the_smallest_temperatures_take_the_likeliest() -> None:
    logits = torch.tensor([[50.0, 3.0, -7.0]])
    found = find_probabilities(logits, Sampling(temperature=5e-324))
    assert torch.equal(found, torch.tensor([[1.0, 0.0, 0.0]]).double())


def test_tokens_are_drawn_as_often_as_their_probability() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.5, 0.1, 0.25, 0.15]).log().expand(20_000, 4)
    drawn = choose(logits, Sampling(temperature=1.0), generator)
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    assert (shares - torch.tensor([0.5, 0.1, 0.25, 0.15])).abs().max() < 0.015
    assert (choose(logits, Sampling(), generator) == 0).all()


def test_one_seed_gives_one_text_and_another_another() -> None:
    model, sampling = TorchModel(extract(build(CONFIG))), Sampling(temperature=1.0)
    texts = [generate(model, PROMPT, 40, sampling=sampling, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -1.0}, "temperature = -1 must be 0"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_p": 0.0}, "top_p = 0 must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p = 1.5"),
    ],
)
def test_impossible_sampling(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**change)


def test_what_does_not_fit_the_model_is_refused() -> None:
    model = TorchModel(extract(build(CONFIG)))
    with pytest.raises(ValueError, match="a prompt of 6 and 75 to generate are more tokens than"):
        generate(model, PROMPT, 75)
    with pytest.raises(ValueError, match="the prompt is empty"):
        generate(model, PROMPT[:, :0], 5)
    with pytest.raises(ValueError, match="token 29 is none of the vocabulary, which has 29"):
        generate(model, torch.tensor([[29]]), 5)
    with pytest.raises(ValueError, match="0 tokens cannot be generated; ask for at least 1"):
        generate(model, PROMPT, 0)
    with pytest.raises(ValueError, match="this keeps no keys and values of what it has read"):
        require_decoder(torch.nn.Linear(1, 1), "this")


# -- drafts --------------------------------------------------------------------------------------


@STYLES
@pytest.mark.parametrize("shared", [True, False])
def test_a_draft_changes_no_token(config: matlm.Config, shared: bool) -> None:
    net = build(config)
    model = TorchModel(extract(net))
    for seed, drafted in enumerate((1, 2, 5)):
        prompt = draw_tokens(config.vocabulary, 1, 1 + 3 * seed, seed=seed)
        alone = generate(model, prompt, 24)[0]
        for architecture in draw_members(net, 1):
            draft = TorchModel(extract(net, architecture))
            shown: list[Tensor] = []
            found = speculate(
                model, draft, prompt, 24, drafted=drafted, shared=shared, show=shown.append
            )
            assert torch.equal(found.ids, alone)
            assert torch.equal(torch.cat(shown), alone)
            assert 0 <= found.accepted <= found.drafted
            # The prompt's pass gives one token, every other one more than was accepted.
            assert found.passes == 24 - found.accepted


@pytest.mark.parametrize("shared", [True, False])
def test_the_model_as_its_own_draft_is_always_right(shared: bool) -> None:
    model = TorchModel(extract(build(CONFIG)))
    found = speculate(model, model, PROMPT, 41, drafted=4, shared=shared)
    assert (found.acceptance, found.passes) == (1.0, 9)


@dataclass(frozen=True)
class Chain:
    """A model that looks at the last token alone: logits ``(vocabulary, vocabulary)``."""

    table: Tensor
    context: int = 8

    @property
    def vocabulary(self) -> int:
        return len(self.table)

    def start(self, batch: int) -> Past:
        return [(torch.zeros(batch, 1, 0, 1), torch.zeros(batch, 1, 0, 1))]

    def score(self, ids: Tensor, past: Past) -> tuple[Tensor, Past]:
        seen = torch.cat((past[0][0], ids[:, None, :, None]), dim=2)
        return self.table[ids], [(seen, seen)]


def test_drawn_tokens_have_the_distribution_of_the_model() -> None:
    """A draft that is wrong about most of them changes how they are found, not which."""
    tables = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(3))
    model, draft = Chain(tables[0]), Chain(tables[1])
    sampling = Sampling(temperature=0.8, top_p=0.95)
    rows = find_probabilities(tables[0], sampling)
    expected = rows[2][:, None] * rows
    counts, drawn, wrong = torch.zeros(4, 4), 0, 0
    for seed in range(1500):
        found = speculate(
            model, draft, torch.tensor([[1, 2]]), 4, drafted=2, sampling=sampling, seed=seed
        )
        counts[found.ids[0], found.ids[1]] += 1
        drawn, wrong = drawn + found.drafted, wrong + found.drafted - found.accepted
    assert 0.3 < wrong / drawn < 0.8
    # Three standard errors of the most frequent pair.
    assert (counts / 1500 - expected).abs().max() < 3 * (0.25 / 1500) ** 0.5


def test_drafts_that_cannot_help_are_refused() -> None:
    model = TorchModel(extract(build(CONFIG)))
    other = TorchModel(extract(build(replace(CONFIG, vocabulary=31))))
    with pytest.raises(ValueError, match="the draft has 31 tokens and the model 29"):
        speculate(model, other, PROMPT, 5)
    grouped = TorchModel(extract(build(replace(CONFIG, heads=(4,), groups=4))))
    with pytest.raises(ValueError, match="cannot read the keys and values of the model"):
        speculate(model, grouped, PROMPT, 5)
    assert len(speculate(model, grouped, PROMPT, 5, shared=False).ids) == 5
    with pytest.raises(ValueError, match="of one text at a time, not of 2"):
        speculate(model, model, PROMPT.repeat(2, 1), 5)
    with pytest.raises(ValueError, match="drafted = 0 must be at least 1"):
        speculate(model, model, PROMPT, 5, drafted=0)


def test_consistency_by_hand() -> None:
    net = build(CONFIG)
    large, small = TorchModel(extract(net)), TorchModel(extract(net, net.space.smallest))
    windows = draw_tokens(CONFIG.vocabulary, 5, 12)
    found = measure_consistency(large, small, windows, batch=2)
    with torch.no_grad():
        ours, theirs = (np.asarray(m.network(windows).double().softmax(-1)) for m in (large, small))
    assert found.agreement == (ours.argmax(-1) == theirs.argmax(-1)).mean()
    assert found.divergence == pytest.approx((ours * np.log(ours / theirs)).sum(-1).mean())
    assert found.tokens == 60
    own = measure_consistency(large, large, windows)
    assert (own.agreement, own.divergence) == (1.0, 0.0)


# -- one model in memory -------------------------------------------------------------------------


def list_storages(network: torch.nn.Module) -> set[int]:
    return {p.untyped_storage().data_ptr() for p in network.parameters()}


def test_served_sizes_have_no_weights_of_their_own_and_change_no_bit() -> None:
    net = build(CONFIG)
    for architecture in draw_members(net, 4):
        served = serve(net, architecture)
        assert list_storages(served.network) <= list_storages(net)
        alone = TorchModel(extract(net, architecture))
        assert torch.equal(generate(served, PROMPT, 30), generate(alone, PROMPT, 30))


def test_a_text_goes_on_at_another_size() -> None:
    """What the large model has read needs no second reading by the small one."""
    net = build(CONFIG)
    small = net.space.architecture(
        {**net.space.smallest.to_dict(), "depth": 3}
        | {f"layer{i}.ffn": 32 for i in (1, 2, 3)}
        | {f"layer{i}.heads": 2 for i in (1, 2, 3)}
    )
    large, other = serve(net, net.space.largest), serve(net, small)
    _, past = large.score(PROMPT, large.start(1))
    logits, longer = other.score(PROMPT[:, :1], past)
    assert longer[0][0].shape[2] == PROMPT.shape[1] + 1
    assert torch.isfinite(logits).all()
    with pytest.raises(ValueError, match="keys and values of 3 layers are none of a network of 1"):
        serve(net, net.space.smallest).score(PROMPT[:, :1], past)


def test_only_what_is_ready_serves() -> None:
    net = build(CONFIG)
    with pytest.raises(ValueError, match=r"in training mode; call .eval"):
        serve(net.train(), net.space.largest)
    rounded = make_precision_elastic(build(CONFIG), parse_policy("w4a32-group16,fp32")).eval()
    values = {
        n: "w4a32-group16" if n.endswith("precision") else v
        for n, v in rounded.space.largest.to_dict().items()
    }
    with pytest.raises(ValueError, match="computes in number formats; extract"):
        serve(rounded, rounded.space.architecture(values))

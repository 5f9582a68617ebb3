"""An elastic Hugging Face BERT against independent references and stock transformers."""

from __future__ import annotations

import builtins
import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.data import DataShape
from supernet.families import bert as family
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.exactness import assert_same_outputs, relative_difference
from tests.toys.networks import assert_gradients_agree, draw_members, draw_tokens, shake

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.hf

CONFIG = family.Config(
    vocabulary=29,
    context=10,
    classes=3,
    width=24,
    heads=(1, 2, 3, 6),
    ffn=(7, 16, 40),
    depths=(1, 2, 4),
    dropout=0.0,
)
TOKENS = draw_tokens(CONFIG.vocabulary, 3, CONFIG.context)
HEAD = CONFIG.width // max(CONFIG.heads)


def randomised(config: family.Config = CONFIG) -> Supernet:
    return shake(family.build(config))


def member(net: Supernet, depth: int, heads: int, ffn: int) -> Architecture:
    values = {n: heads if n.endswith(".heads") else ffn for n in net.space.names if "." in n}
    return net.space.architecture({**values, "depth": depth})


def masked(net: Supernet, architecture: Architecture) -> nn.Module:
    """The full network, all heads running, with what is not kept multiplied by zero columns."""
    model = copy.deepcopy(net.model)
    layers = model.bert.encoder.layer
    model.bert.encoder.layer = layers[: architecture["depth"]]
    with torch.no_grad():
        for i, layer in enumerate(model.bert.encoder.layer, start=1):
            kept = architecture[f"layer{i}.heads"] * HEAD
            layer.attention.output.dense.weight[:, kept:] = 0
            layer.output.dense.weight[:, architecture[f"layer{i}.ffn"] :] = 0
    return model


def formula(weights: dict[str, Tensor], ids: Tensor, architecture: Architecture) -> Tensor:
    """The subnetwork written out: no modules, weights sliced by hand, one head at a time."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12
        )

    def linear(x: Tensor, name: str, rows: slice = slice(None)) -> Tensor:
        return x @ weights[f"{name}.weight"][rows].t() + weights[f"{name}.bias"][rows]

    e = "bert.embeddings"
    # Token 0 is padding: BERT never trains its embedding.
    x = F.embedding(ids, weights[f"{e}.word_embeddings.weight"], padding_idx=0)
    x = x + weights[f"{e}.position_embeddings.weight"][: ids.shape[1]]
    x = norm(x + weights[f"{e}.token_type_embeddings.weight"][0], f"{e}.LayerNorm")
    for i in range(int(architecture["depth"])):
        layer = f"bert.encoder.layer.{i}"
        attention, output = f"{layer}.attention.self", f"{layer}.attention.output"
        y = weights[f"{output}.dense.bias"]
        for head in range(int(architecture[f"layer{i + 1}.heads"])):
            rows = slice(head * HEAD, (head + 1) * HEAD)
            q, k, v = (linear(x, f"{attention}.{n}", rows) for n in ("query", "key", "value"))
            mixed = (q @ k.transpose(1, 2) / HEAD**0.5).softmax(-1) @ v
            y = y + mixed @ weights[f"{output}.dense.weight"][:, rows].t()
        x = norm(x + y, f"{output}.LayerNorm")
        kept = slice(0, int(architecture[f"layer{i + 1}.ffn"]))
        y = linear(x, f"{layer}.intermediate.dense", kept)
        y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
        y = y @ weights[f"{layer}.output.dense.weight"][:, kept].t()
        x = norm(x + y + weights[f"{layer}.output.dense.bias"], f"{layer}.output.LayerNorm")
    pooled = torch.tanh(linear(x[:, 0], "bert.pooler.dense"))
    return linear(pooled, "classifier")


@pytest.mark.exactness
def test_subnetworks_equal_the_masked_full_network() -> None:
    net, ids = randomised(), TOKENS
    with torch.no_grad():
        for architecture in draw_members(net, 12):
            expected = masked(net, architecture)(ids).logits
            assert (net(ids, architecture).logits - expected).abs().max() < 1e-11
            assert expected.std(dim=0).min() > 1e-4


def test_gradients_equal_autograd_through_the_written_out_formula() -> None:
    net, ids = randomised(), TOKENS
    for architecture in draw_members(net, 6):
        net.zero_grad()
        net(ids, architecture).logits.square().sum().backward()
        weights = {n: p.detach().clone().requires_grad_() for n, p in net.model.named_parameters()}
        formula(weights, ids, architecture).square().sum().backward()
        assert_gradients_agree(net.model, weights, 1e-7)
        kept = architecture["layer1.heads"] * HEAD
        value = net.model.bert.encoder.layer[0].attention.self.value.weight.grad
        assert value[:kept].abs().sum(1).min() > 0
        assert not value[kept:].any()


def test_masks_labels_and_hidden_states_pass_through() -> None:
    net, ids = randomised(), TOKENS
    mask = torch.ones_like(ids)
    mask[:, 6:] = 0
    changed = ids.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % CONFIG.vocabulary
    labels = torch.tensor([0, 2, 1])
    for architecture in draw_members(net, 3):
        with torch.no_grad():
            first = net(ids, architecture, attention_mask=mask, labels=labels)
            second = net(changed, architecture, attention_mask=mask)
            alone = net.extract(architecture)(
                ids, attention_mask=mask, labels=labels, output_hidden_states=True
            )
        torch.testing.assert_close(first.logits, second.logits, rtol=1e-12, atol=1e-12)
        assert relative_difference(first.loss, alone.loss) < 1e-12
        assert relative_difference(first.loss, F.cross_entropy(first.logits, labels)) < 1e-12
        assert len(alone.hidden_states) == architecture["depth"] + 1


def test_gradient_checkpointing_with_several_architectures_in_flight() -> None:
    plain, ids = randomised(), TOKENS
    chosen = draw_members(plain, 2)
    for architecture in chosen:
        plain(ids, architecture).logits.square().sum().backward()
    again = randomised()
    again.model.gradient_checkpointing_enable({"use_reentrant": False})
    again.train()  # checkpointing is for training; dropout is 0
    total = torch.zeros((), dtype=torch.float64)
    for architecture in chosen:
        total = total + again(ids, architecture).logits.square().sum()
    total.backward()
    ours = dict(again.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(ours[name].grad, parameter.grad, rtol=1e-9, atol=1e-9)


def test_attributes_follow_the_weights() -> None:
    net = randomised()
    for architecture in draw_members(net, 5):
        alone = net.extract(architecture)
        assert len(alone.bert.encoder.layer) == architecture["depth"]
        for i, layer in enumerate(alone.bert.encoder.layer, start=1):
            heads, attention = architecture[f"layer{i}.heads"], layer.attention.self
            assert (attention.num_attention_heads, attention.all_head_size) == (heads, heads * HEAD)
            for module in layer.modules():
                if isinstance(module, nn.Linear):
                    assert module.weight.shape == (module.out_features, module.in_features)
    assert type(alone) is transformers.BertForSequenceClassification


def test_parameters_equal_the_closed_form() -> None:
    net = family.build(CONFIG)
    chosen, w = draw_members(net, 10), CONFIG.width
    expected = []
    for architecture in chosen:
        total = (CONFIG.vocabulary + CONFIG.context + 2) * w + 2 * w
        total += w * w + w + CONFIG.classes * (w + 1)
        for i in range(1, architecture["depth"] + 1):
            size, m = architecture[f"layer{i}.heads"] * HEAD, architecture[f"layer{i}.ffn"]
            total += 3 * size * (w + 1) + w * size + w + m * (w + 1) + w * m + w + 4 * w
        expected.append(total)
    positions, model = net.space.encode(chosen), net.cost_model()
    assert model.parameters(positions).tolist() == expected
    assert model.size_bytes(positions).tolist() == [4 * n for n in expected]
    assert [net.parameter_count(architecture) for architecture in chosen] == expected
    assert [net.macs(a) for a in chosen] == model.macs(positions).tolist()


@pytest.mark.exactness
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("ffn", [7, 40])
def test_uniform_architectures_become_stock_transformers(
    depth: int, ffn: int, tmp_path: Any
) -> None:
    net, ids = randomised(), TOKENS
    architecture = member(net, depth, 6, ffn)
    stock = family.to_transformers(net, architecture)
    config = stock.config
    assert (config.num_hidden_layers, config.intermediate_size) == (depth, ffn)
    with torch.no_grad():
        expected = net(ids, architecture).logits
        assert_same_outputs(stock(ids).logits, expected)
        stock.save_pretrained(tmp_path)
        loaded = transformers.BertForSequenceClassification.from_pretrained(
            tmp_path, attn_implementation="eager", dtype=torch.float64
        )
        assert_same_outputs(loaded.eval()(ids).logits, expected)


def test_what_a_config_cannot_express_is_refused() -> None:
    net = randomised()
    with pytest.raises(ValueError, match=r"layers have \[3\] heads of size 4, .* means 6 heads"):
        family.to_transformers(net, member(net, 2, 3, 40))
    mixed = member(net, 2, 6, 40).to_dict() | {"layer2.ffn": 7}
    with pytest.raises(ValueError, match=r"different FFN sizes \[7, 40\].* one intermediate_size"):
        family.to_transformers(net, net.space.architecture(mixed))


@pytest.mark.exactness
@pytest.mark.parametrize("pooling", [True, False])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_bare_model_you_already_have(pooling: bool, attention: str) -> None:
    config = transformers.BertConfig(
        vocab_size=29,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=6,
        intermediate_size=40,
        max_position_embeddings=10,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation=attention,
    )
    model = transformers.BertModel(config, add_pooling_layer=pooling)
    net = shake(family.make_elastic(model, heads=(2, 6), depth=(1, 3)))
    assert net.model is model
    assert net.space.size == 2 + 2**3
    ids = TOKENS
    units = ["embeddings", "encoder.layer.0", "encoder.layer.1", "encoder.layer.2"]
    assert list(net.units) == units + ["pooler"] * pooling
    model_costs = net.cost_model()
    with torch.no_grad():
        for architecture in draw_members(net, 4):
            inside, alone = net(ids, architecture), net.extract(architecture)(ids)
            assert_same_outputs(inside.last_hidden_state, alone.last_hidden_state)
            count = sum(p.numel() for p in net.extract(architecture).parameters())
            positions = net.space.encode([architecture])
            assert model_costs.parameters(positions).tolist() == [count]
        stock = family.to_transformers(net, member(net, 1, 6, 40))
        expected = net(ids, member(net, 1, 6, 40)).last_hidden_state
        assert_same_outputs(stock(ids).last_hidden_state, expected)


def test_impossible_requests() -> None:
    model = family.build(CONFIG).model
    with pytest.raises(ValueError, match=r"heads = \[2, 4\] must be rising .* up to 6"):
        family.make_elastic(model, heads=(2, 4))
    with pytest.raises(ValueError, match=r"depth = \[0, 4\] must be rising"):
        family.make_elastic(model, depth=(0, 4))
    with pytest.raises(
        ValueError, match="context = 11 must be between 1 and the model's limit of 10"
    ):
        family.make_elastic(model, context=11)
    with pytest.raises(ValueError, match="Linear is no BERT"):
        family.make_elastic(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="width = 25 does not divide into 6 heads"):
        replace(CONFIG, width=25)
    with pytest.raises(ValueError, match="depths is empty"):
        replace(CONFIG, depths=())
    shape = DataShape("language-modelling", (10,), 3, ("a", "b", "c"))
    with pytest.raises(ValueError, match="this data is for language-modelling"):
        family.configure("tiny", shape)
    shape = replace(shape, task="text-classification")
    assert family.configure("tiny", shape).classes == 3


def test_missing_transformers_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == "transformers":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'supernet\[hf\]'"):
        family.build(CONFIG)

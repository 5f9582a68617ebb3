"""Proxies on the subnetworks of every family: finite, repeatable, and without a trace."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import pkgutil
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import supernet.families
from predictors.models import ridge
from predictors.research.nodewise import fit_trees
from supernet.data import Split
from supernet.proxies import (
    list_proxies,
    load_proxy,
    make_layer_statistics,
    make_proxy_statistics,
    pick_warm_start,
)
from supernet.proxies._attention import record_attentions
from supernet.proxies._covariance import score_spectrum
from supernet.proxies._probe import find_logits

FAMILIES = sorted(
    m.name for m in pkgutil.iter_modules(supernet.families.__path__) if m.name[0] != "_"
)
ANY = ("grad_norm", "jacob_cov", "naswot", "snip", "synflow")
ATTENTION = ("head_confidence", "softmax_confidence")
TRANSFORMERS = ("bert", "matlm", "matvit")
# Attention with relative positions is written out, and shells have no depth to compare; there is no
# batch normalisation either.
OTHERS = ("autoformer", "shell_elastic")


@cache
def family(name):
    module = importlib.import_module(f"supernet.families.{name}")
    requires = getattr(module, "REQUIRES", None)
    if requires is not None and importlib.util.find_spec(requires) is None:
        pytest.skip(f"needs {requires}")
    return module.build(module.PRESETS[module.DEFAULT_PRESET])


@cache
def batch(name, samples=6):
    net = family(name)
    generator = torch.Generator().manual_seed(0)
    shape = (samples, *net.inputs.shape)
    largest = net.space.largest
    if net.inputs.dtype.is_floating_point:
        inputs = torch.rand(shape, generator=generator)
    else:
        inputs = torch.randint(0, 50, shape, generator=generator)
    with torch.no_grad():
        out = find_logits(net.extract(largest).eval()(net.prepare(inputs, largest)))
    targets = torch.randint(0, out.shape[-1], out.shape[:-1], generator=generator)
    return Split(inputs, targets)


def suits(proxy, name):
    if proxy in ATTENTION:
        return name in TRANSFORMERS
    return proxy in ANY or (proxy == "zen" and name not in (*TRANSFORMERS, *OTHERS))


def members(net, count=1):
    space = net.space
    drawn = space.decode(space.sample(np.random.default_rng(0), count))
    return [space.smallest, *drawn, space.largest]


def score(proxy, model, name, architecture):
    data = batch(name)
    inputs = family(name).prepare(data.inputs, architecture)
    options = {"repeats": 2, "batch": 4} if proxy == "zen" else {}
    return load_proxy(proxy).score(model, inputs, data.targets, **options)


def test_the_folder_is_what_was_promised():
    assert set(list_proxies()) == {*ANY, *ATTENTION, "zen", "hidden_covariance"}
    for name in list_proxies():
        assert "\n" not in load_proxy(name).SUMMARY


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_are_finite_repeatable_and_leave_the_network_as_it_was(name):
    net = family(name)
    for place, architecture in enumerate(members(net)):
        model = net.extract(architecture).train()
        next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
        before = copy.deepcopy(model.state_dict())
        modes = [module.training for module in model.modules()]
        state = torch.get_rng_state()
        for proxy in list_proxies():
            if not suits(proxy, name):
                continue
            first = score(proxy, model, name, architecture)
            assert np.isfinite(first), (proxy, architecture.digest)
            # The one in the middle, of random choices: the ends differ from it by their size only.
            if place == 1:
                assert first == score(proxy, model, name, architecture), proxy
        assert (torch.get_rng_state() == state).all()
        assert [module.training for module in model.modules()] == modes
        for key, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[key]), key
        grads = [p.grad is not None for p in model.parameters()]
        assert grads[0]
        assert not any(grads[1:])
        assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("proxy", ["snip", "synflow", "softmax_confidence"])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_larger_networks_score_higher_where_scores_count_what_is_there(proxy, name):
    net = family(name)
    ends = [net.space.smallest, net.space.largest]
    small, large = (score(proxy, net.extract(a), name, a) for a in ends)
    assert large > small


@pytest.mark.parametrize("proxy", ["grad_norm", "snip"])
def test_layers_add_up_to_the_score(proxy):
    net = family("resnet")
    architecture = net.space.largest
    data = batch("resnet")
    parts = load_proxy(proxy).by_layer(net.extract(architecture), data.inputs, data.targets)
    assert len(parts) > 5
    whole = score(proxy, net.extract(architecture), "resnet", architecture)
    assert sum(parts.values()) == pytest.approx(whole)


# -- definitions ----------------------------------------------------------------------------------


def two_layers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_snip_is_the_gradient_of_a_mask_of_ones():
    model = two_layers()
    inputs, targets = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), torch.ones(5)
    targets = targets.long()
    masks = [torch.ones_like(model[i].weight, requires_grad=True) for i in (0, 2)]
    hidden = torch.relu(inputs @ (model[0].weight * masks[0]).T + model[0].bias)
    out = hidden @ (model[2].weight * masks[1]).T + model[2].bias
    grads = torch.autograd.grad(nn.functional.cross_entropy(out, targets), masks)
    expected = sum(float(g.abs().sum()) for g in grads)
    assert load_proxy("snip").score(model, inputs, targets) == pytest.approx(expected, rel=1e-5)


def test_synflow_is_the_sum_over_paths_without_normalisation_and_grows_with_depth():
    weights = [torch.tensor([[1.0, -2.0]]), torch.tensor([[-3.0], [1.0]])]
    model = nn.Sequential(
        nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1), nn.ReLU6(), nn.Linear(1, 2, bias=False)
    )
    with torch.no_grad():
        model[0].weight.copy_(weights[0])
        model[3].weight.copy_(weights[1])
    # R = (1 + 2)(3 + 1) = 12 for ones; every layer's sum of w dR/dw is R, so 24 for two.
    inputs = torch.randn(3, 2)
    synflow = load_proxy("synflow")
    assert synflow.score(model, inputs, inputs) == pytest.approx(np.log1p(24))
    parts = synflow.by_layer(model, inputs, inputs)
    assert parts == pytest.approx({"0": np.log1p(12), "3": np.log1p(12)})
    deeper = nn.Sequential(nn.Linear(2, 2, bias=False), *copy.deepcopy(list(model)))
    nn.init.eye_(deeper[0].weight)
    # A layer that passes everything on adds its own sum of R.
    assert synflow.score(deeper, inputs, inputs) == pytest.approx(np.log1p(36))


def test_synflow_does_not_overflow_in_very_deep_networks():
    layers = [nn.Linear(64, 64, bias=False) for _ in range(60)]
    for layer in layers:
        nn.init.constant_(layer.weight, 10.0)
    found = load_proxy("synflow").score(nn.Sequential(*layers), torch.ones(1, 64), torch.zeros(1))
    assert np.isfinite(found)
    assert found == pytest.approx(60 * np.log(640) + np.log(64) + np.log(60), rel=1e-9)


def test_naswot_counts_agreeing_switches():
    model = nn.Sequential(nn.ReLU())
    inputs = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])
    # Both samples agree on one unit of three.
    kernel = np.array([[3.0, 1.0], [1.0, 3.0]]) + 1e-3 * 3 * np.eye(2)
    found = load_proxy("naswot").score(model, inputs, inputs)
    assert found == pytest.approx(np.log(np.linalg.det(kernel)))
    same = load_proxy("naswot").score(model, inputs[[0, 0]], inputs)
    assert np.isfinite(same)
    assert same < found


@pytest.mark.parametrize("proxy", ["jacob_cov", "naswot", "grad_norm", "snip"])
def test_the_order_of_the_samples_does_not_matter(proxy):
    net = family("resnet")
    architecture, data = net.space.smallest, batch("resnet")
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    model, module = net.extract(architecture), load_proxy(proxy)
    first = module.score(model, data.inputs, data.targets)
    second = module.score(model, data.inputs[order], data.targets[order])
    assert first == pytest.approx(second, rel=1e-3)


def test_uncorrelated_rows_score_highest():
    independent = score_spectrum(torch.eye(4, 400).repeat(1, 1) - 1 / 400)
    assert independent == pytest.approx(-4, abs=0.2)
    repeated = score_spectrum(torch.randn(1, 400).repeat(4, 1))
    assert repeated < -1e5
    assert np.isfinite(score_spectrum(torch.zeros(3, 5)))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_attention_is_read_as_the_network_computes_it(name):
    net = family(name)
    architecture = net.space.largest
    found = record_attentions(net.extract(architecture), batch(name).inputs)
    assert len(found) == architecture["depth"]
    # An image of 8x8 pixels is 16 patches and the class token.
    tokens = 17 if name == "matvit" else net.inputs.shape[0]
    for layer in found:
        probabilities = layer.probabilities()
        assert probabilities.shape[2:] == (tokens, tokens)
        torch.testing.assert_close(probabilities.sum(3), torch.ones(probabilities.shape[:3]))
        mixed = probabilities @ layer.value
        expected = nn.functional.scaled_dot_product_attention(
            layer.query, layer.key, layer.value, layer.mask, is_causal=layer.causal
        )
        torch.testing.assert_close(mixed, expected)
    first = found[0].probabilities()[:, :, 0].amax(-1)
    assert (first == 1).all() if name == "matlm" else (first < 1).all()


def test_the_heads_of_bert_are_those_of_its_architecture():
    net = family("bert")
    architecture = net.space.smallest
    found = record_attentions(net.extract(architecture), batch("bert").inputs)
    assert [layer.query.shape[1] for layer in found] == [1]
    assert found[0].name.startswith("bert.encoder.layer.0.")
    # One undecided head over 32 tokens is far from certain, and no surer than 1.
    value = score("softmax_confidence", net.extract(architecture), "bert", architecture)
    assert 1 / net.inputs.shape[0] < value < 1


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.rnn = kind(6, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 20)

    def forward(self, ids):
        return self.head(self.rnn(self.embedding(ids))[0])


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_hidden_covariance_reads_the_last_states_of_every_layer(kind):
    model = Recurrent(kind)
    ids = torch.randint(0, 20, (6, 7), generator=torch.Generator().manual_seed(0))
    proxy = load_proxy("hidden_covariance")
    parts = proxy.by_layer(model, ids, ids)
    assert list(parts) == ["rnn.0", "rnn.1"]
    # The last layer's forward state is its output at the last token, backward at the first.
    with torch.no_grad():
        outputs = model.rnn(model.embedding(ids))[0]
    last = torch.cat((outputs[:, -1, :5], outputs[:, 0, 5:]), 1)
    assert parts["rnn.1"] == pytest.approx(score_spectrum(last), rel=1e-3)
    assert proxy.score(model, ids, ids) == pytest.approx(np.mean(list(parts.values())))
    assert proxy.score(model, ids[[0] * 6], ids) < proxy.score(model, ids, ids)


def test_zen_ignores_the_weights_and_separates_depths():
    net = family("resnet")
    zen, data = load_proxy("zen"), batch("resnet")
    small, large = net.extract(net.space.smallest), net.extract(net.space.largest)
    values = [zen.score(m, data.inputs, data.targets, repeats=4) for m in (small, large)]
    assert values[1] > values[0] + 1
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.mul_(3)
    again = zen.score(small, data.inputs, data.targets, repeats=4)
    assert again == values[0]


def test_a_proxy_on_the_wrong_network_says_so():
    net = family("resnet")
    model, data = net.extract(net.space.smallest), batch("resnet")
    for proxy, words in (
        ("head_confidence", "is for transformers"),
        ("softmax_confidence", "is for transformers"),
        ("hidden_covariance", "no recurrent layer"),
    ):
        with pytest.raises(ValueError, match=words):
            load_proxy(proxy).score(model, data.inputs, data.targets)
    with pytest.raises(ValueError, match="no convolutional network with batch normalisation"):
        load_proxy("zen").score(two_layers(), torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="no activation"):
        load_proxy("naswot").score(nn.Linear(3, 3), torch.zeros(2, 3), torch.zeros(2))


# -- statistics and warm start --------------------------------------------------------------------


def test_statistics_are_scores_by_row_computed_once():
    net, data = family("resnet"), batch("resnet")
    statistics = make_proxy_statistics(net, data, ("synflow", "naswot"), samples=4)
    rows = net.space.sample(np.random.default_rng(0), 3)
    found = statistics(rows[[0, 1, 0, 2]])
    assert found.shape == (4, 2)
    assert (found[0] == found[2]).all()
    assert len(statistics._known) == len(np.unique(rows, axis=0))
    architecture = net.space.decode(rows[:1])[0]
    inputs, targets = statistics.batch.inputs, statistics.batch.targets
    expected = load_proxy("synflow").score(
        net.extract(architecture), net.prepare(inputs, architecture), targets
    )
    assert found[0, 0] == expected
    assert statistics(rows[:0]).shape == (0, 2)
    again = make_proxy_statistics(net, data, ("synflow", "naswot"), samples=4)
    assert (again(rows[:2]) == statistics(rows[:2])).all()


def test_layer_statistics_are_padded_with_zeros_where_layers_are_not():
    net = family("matlm")
    layers = make_layer_statistics(net, batch("matlm"), ("synflow", "grad_norm"))
    rows = net.space.encode([net.space.smallest, net.space.largest])
    found = layers(rows)
    assert found.shape == (2, len(net.units), 2)
    gone = [i for i, unit in enumerate(net.units) if unit in ("layers.2", "layers.3")]
    assert (found[0, gone] == 0).all()
    assert (found[1, gone] > 0).all()


def test_a_warm_start_takes_the_best_of_every_band_of_cost():
    rows = np.arange(8, dtype=np.int16)[:, None]
    scores = np.array([1, 9, 2, 3, 8, 4, 5, 7.0])
    assert pick_warm_start(scores, rows, 2)[:, 0].tolist() == [1, 4]
    assert pick_warm_start(scores, rows, 4, rows[:, 0])[:, 0].tolist() == [1, 3, 4, 7]
    assert len(pick_warm_start(scores, rows, 20, rows[:, 0])) == 8
    with pytest.raises(ValueError, match="as many scores and costs as rows"):
        pick_warm_start(scores[:3], rows, 2)


def test_unknown_proxies_are_named_with_the_nearest():
    net, data = family("resnet"), batch("resnet")
    with pytest.raises(ValueError, match=r"unknown proxy 'sinflow'.*did you mean 'synflow'"):
        make_proxy_statistics(net, data, ("sinflow",))
    with pytest.raises(ValueError, match="no proxy was named"):
        make_proxy_statistics(net, data, ())
    with pytest.raises(ValueError, match="at least 2 samples"):
        make_proxy_statistics(net, data, ("snip",), samples=1)
    with pytest.raises(ValueError, match="'zen' has no value per layer"):
        make_layer_statistics(net, data, ("zen",))


def test_proxies_are_features_of_predictors_and_layers_of_nodewise_ones():
    net, data = family("resnet"), batch("resnet")
    rows = np.unique(net.space.sample(np.random.default_rng(0), 14), axis=0)
    # What these values depend on is in the proxies exactly, so few rows are enough.
    statistics = make_proxy_statistics(net, data, ("synflow", "grad_norm"))
    values = 3 + 0.1 * statistics(rows)[:, 0]
    model = ridge.fit(net.space, rows[:9], values[:9], seed=0, statistics=statistics)
    assert np.abs(model.mean(rows[9:]) - values[9:]).max() < 0.3 * np.ptp(values)
    layers = make_layer_statistics(net, data, ("synflow",))
    found = fit_trees(net.space, rows, values, seed=0, layers=layers)
    assert found.mean(rows).shape == values.shape
    assert np.corrcoef(found.mean(rows), values)[0, 1] > 0.8

"""Cascades answer what their networks answer, and early exits go on exactly."""

from __future__ import annotations

import pytest
import torch

from supernet.cascades import Cascade, begin, count_shared_layers, find_exit, go_on, serve_cascade
from supernet.errors import InputError
from supernet.families import autoformer, matlm, matvit, resnet
from supernet.space import Architecture
from supernet.supernet import Supernet
from tests.toys.networks import draw_tokens, shake

VIT = matvit.Config(
    classes=7, channels=2, size=6, patch=2, width=12, heads=3, ffn=(5, 13, 32), depths=(1, 2, 4)
)
IMAGES = torch.rand(40, 2, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def cut(net: Supernet, depth: int) -> Architecture:
    """The largest architecture, of fewer layers."""
    values = net.space.largest.to_dict() | {"depth": depth}
    active = {
        name: value
        for name, value in values.items()
        if not name.startswith("layer") or int(name[5 : name.index(".")]) <= depth
    }
    return net.space.architecture(active)


def narrow(net: Supernet, depth: int) -> Architecture:
    """The first layers, one of them with another FFN."""
    return net.space.architecture(cut(net, depth).to_dict() | {"layer1.ffn": VIT.ffn[0]})


@pytest.fixture(scope="module")
def net() -> Supernet:
    return shake(matvit.build(VIT).double()).eval()


@pytest.mark.parametrize("early", [True, False])
def test_a_cascade_answers_what_its_networks_answer(net: Supernet, early: bool) -> None:
    small, large = cut(net, 2), net.space.largest
    with torch.no_grad():
        first, second = net.extract(small)(IMAGES), net.extract(large)(IMAGES)
    chances = first.softmax(-1).amax(-1)
    threshold = float(chances.median())
    cascade = serve_cascade(net, small, large, threshold, early_exit=early)
    assert cascade.shared == (2 if early else 0)
    found = cascade.answer(IMAGES)
    asked = chances < threshold
    assert 0 < int(asked.sum()) < len(IMAGES)
    assert torch.equal(found.asked, asked)
    expected = torch.where(asked[:, None], second, first)
    torch.testing.assert_close(found.logits, expected, rtol=1e-12, atol=1e-12)
    assert float((first - second).abs().max()) > 1e-3


def test_thresholds_at_the_ends(net: Supernet) -> None:
    small, large = cut(net, 1), net.space.largest
    assert not serve_cascade(net, small, large, 0.0).answer(IMAGES).asked.any()
    assert serve_cascade(net, small, large, 1.0).answer(IMAGES).asked.all()


def test_the_large_network_sees_what_is_in_doubt_alone(net: Supernet) -> None:
    seen: list[int] = []
    small, large = net.extract(narrow(net, 2)), net.extract(net.space.largest)
    large.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    chances = small(IMAGES).detach().softmax(-1).amax(-1)
    answers = Cascade(small.eval(), large.eval(), float(chances.median())).answer(IMAGES)
    assert seen == [int(answers.asked.sum())]


def test_what_is_no_number_is_not_sure(net: Supernet) -> None:
    large = net.extract(net.space.largest).eval()
    broken = net.extract(cut(net, 2)).eval()
    with torch.no_grad():
        broken.head.classifier.bias.fill_(float("nan"))
        expected = large(IMAGES)
    found = Cascade(broken, large, 0.5).answer(IMAGES)
    assert found.asked.all()
    torch.testing.assert_close(found.logits, expected)


def test_served_cascades_are_views(net: Supernet) -> None:
    cascade = serve_cascade(net, cut(net, 2), net.space.largest, 0.5)
    theirs = net.model.layers[0].ffn.up.weight
    for network in (cascade.small, cascade.large):
        assert network.layers[0].ffn.up.weight.data_ptr() == theirs.data_ptr()


def test_autoformer_has_exits_at_one_width() -> None:
    net = shake(autoformer.build(autoformer.PRESETS["tiny"]).double()).eval()
    depths = net.space.choice("depth").values
    small, large = cut(net, depths[0]), net.space.largest
    assert find_exit(net, small, large) == depths[0]
    pixels = torch.rand(3, *net.input_shape(large), dtype=torch.float64)
    networks = net.extract(small).eval(), net.extract(large).eval()
    with torch.no_grad():
        found = go_on(networks[1], begin(networks[0], pixels), depths[0])
        torch.testing.assert_close(found, networks[1](pixels), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_decoders_go_on_exactly(tied: bool) -> None:
    config = matlm.Config(
        vocabulary=29, context=20, heads=(2, 4), groups=2, head_size=16, ffn=(32, 64),
        depths=(1, 3), widths=(32,), tied=tied,
    )  # fmt: skip
    net = shake(matlm.build(config).double()).eval()
    small, large = cut(net, 1), net.space.largest
    assert find_exit(net, small, large) == 1
    ids = draw_tokens(29, 3, 11)
    networks = net.extract(small).eval(), net.extract(large).eval()
    with torch.no_grad():
        hidden = begin(networks[0], ids)
        torch.testing.assert_close(networks[0].head(hidden), networks[0](ids), rtol=0, atol=1e-12)
        found = go_on(networks[1], hidden, 1)
        torch.testing.assert_close(found, networks[1](ids), rtol=1e-12, atol=1e-12)


def test_what_is_no_prefix_starts_anew(net: Supernet) -> None:
    large = net.space.largest
    assert find_exit(net, narrow(net, 2), large) == 0
    assert find_exit(net, large, cut(net, 2)) == 0
    assert find_exit(net, large, large) == 0
    other = shake(matvit.build(VIT).double(), 0.1)
    assert count_shared_layers(other.extract(cut(net, 2)), net.extract(large)) == 0
    convolutions = resnet.build(resnet.PRESETS["tiny"])
    assert find_exit(convolutions, convolutions.space.smallest, convolutions.space.largest) == 0


def test_impossible_cascades(net: Supernet) -> None:
    small, large = cut(net, 2), net.space.largest
    with pytest.raises(InputError, match=r"a threshold of 1\.5 is impossible"):
        serve_cascade(net, small, large, 1.5)
    with pytest.raises(InputError, match="is both the small and the large network"):
        serve_cascade(net, large, large, 0.5)
    network = net.extract(large)
    with pytest.raises(InputError, match="are the same"):
        Cascade(network, network, 0.5)
    with pytest.raises(InputError, match="1 shared layers are impossible"):
        Cascade(net.extract(small), network, 0.5, shared=1)
    convolutions = resnet.build(resnet.PRESETS["tiny"]).eval()
    ends = convolutions.space.smallest, convolutions.space.largest
    with pytest.raises(InputError, match="has batch normalisation"):
        serve_cascade(convolutions, *ends, 0.5)
    with pytest.raises(InputError, match="training mode"):
        serve_cascade(convolutions.train(), *ends, 0.5)
    text = matlm.build(matlm.PRESETS["tiny"]).eval()
    with pytest.raises(InputError, match="a cascade over tokens is not supported"):
        serve_cascade(text, text.space.smallest, text.space.largest, 0.5)

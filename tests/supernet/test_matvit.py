"""MatViT against independent references: masks, a plain formula, published counts."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.families import matvit as family
from supernet.families._pixels import PixelStatistics
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training.schedules.reorganise import find_channel_groups, reorganise
from tests.toys.networks import (
    assert_gradients_agree,
    assert_images_are_refused,
    assert_onnx_runtime_agrees,
    describe_images,
    draw_members,
    shake,
)
from tests.toys.written_vit import Written, evaluate_written

CONFIG = family.Config(
    classes=7,
    channels=2,
    size=6,
    patch=2,
    width=12,
    heads=3,
    ffn=(5, 13, 32),
    depths=(1, 2, 4),
    # Kept in single precision, which holds these exactly.
    pixels=PixelStatistics((0.5, 0.25), (0.25, 0.5)),
)
IMAGES = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def formula(weights: dict[str, Tensor], architecture: Architecture) -> Tensor:
    mean, std = (
        torch.tensor(part, dtype=torch.float64).view(2, 1, 1)
        for part in (CONFIG.pixels.mean, CONFIG.pixels.std)
    )
    layers = range(1, int(architecture["depth"]) + 1)
    hidden = [int(architecture[f"layer{i}.ffn"]) for i in layers]
    sizes = Written(
        CONFIG.patch,
        CONFIG.width,
        CONFIG.width // CONFIG.heads,
        [(CONFIG.heads, m) for m in hidden],
        relative=False,
    )
    return evaluate_written(weights, (IMAGES - mean) / std, sizes)


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


@pytest.mark.exactness
def test_subnetworks_equal_the_masked_full_network() -> None:
    net = shake(family.build(CONFIG))
    with torch.no_grad():
        for architecture in draw_members(net, 20):
            expected = masked(net, architecture)(IMAGES)
            assert (net(IMAGES, architecture) - expected).abs().max() < 1e-11
            assert expected.std(0).min() > 1e-4


@pytest.mark.exactness
def test_gradients_equal_autograd_through_the_written_out_formula() -> None:
    net = shake(family.build(CONFIG))
    for architecture in draw_members(net, 3):
        net.zero_grad()
        outputs = net(IMAGES, architecture)
        outputs.square().sum().backward()
        weights = {n: p.detach().clone().requires_grad_() for n, p in net.model.named_parameters()}
        expected = formula(weights, architecture)
        assert (outputs - expected).abs().max() < 1e-11
        expected.square().sum().backward()
        assert_gradients_agree(net.model, weights, 1e-8)
        kept = int(architecture["layer1.ffn"])
        up, down = net.model.layers[0].ffn.up.weight.grad, net.model.layers[0].ffn.down.weight.grad
        assert up[:kept].abs().sum(1).min() > 0
        assert not up[kept:].any()
        assert not down[:, kept:].any()


def count_by_hand(architecture: Architecture, config: family.Config) -> int:
    width, patches = config.width, (config.size // config.patch) ** 2
    total = config.channels * config.patch**2 * width + width  # filters
    total += width + (1 + patches) * width + 2 * width  # class token, positions, last norm
    total += width * config.classes + config.classes
    for i in range(1, int(architecture["depth"]) + 1):
        hidden = int(architecture[f"layer{i}.ffn"])
        total += 4 * (width * width + width) + 4 * width
        total += width * hidden + hidden + hidden * width + width
    return total


def test_parameters_equal_the_closed_form() -> None:
    net = family.build(CONFIG)
    chosen = draw_members(net, 10)
    expected = [count_by_hand(architecture, CONFIG) for architecture in chosen]
    positions = net.space.encode(chosen)
    assert net.cost_model().parameters(positions).tolist() == expected
    # Two statistics of pixels for each of two channels are kept beside the parameters.
    assert net.cost_model().size_bytes(positions).tolist() == [4 * (n + 4) for n in expected]
    assert [net.parameter_count(architecture) for architecture in chosen] == expected


def test_the_largest_of_the_published_space_is_vit_b16() -> None:
    """86,567,656 parameters (Dosovitskiy et al. 2021 state 86 M; Touvron et al. 2021 the same)."""
    config = family.PRESETS["b16"]
    with torch.device("meta"):
        net = family.build(config)
    assert sum(p.numel() for p in net.model.parameters()) == 86_567_656
    assert count_by_hand(net.space.largest, config) == 86_567_656


def test_macs_equal_the_closed_form() -> None:
    net = family.build(CONFIG)
    width, tokens = CONFIG.width, 1 + 9
    for architecture in draw_members(net, 4):
        expected = 9 * 2 * 4 * width + width * CONFIG.classes
        for i in range(1, int(architecture["depth"]) + 1):
            hidden = int(architecture[f"layer{i}.ffn"])
            expected += tokens * (4 * width * width + 2 * width * hidden)
            expected += 2 * tokens * tokens * width  # scores and mixtures, all heads together
        assert net.macs(architecture) == expected


def test_the_space_counts_layers_that_are_there() -> None:
    space = family.make_space(CONFIG)
    assert space.size == 3 + 3**2 + 3**4
    assert space.choice("layer1.ffn").needs is None
    # Depths are 1, 2 and 4: the third layer comes together with the fourth.
    assert space.choice("layer3.ffn").needs == ("depth", 4)
    assert family.make_space(family.PRESETS["b16"]).size == 4**12


def test_onnx_runtime_agrees_for_any_batch() -> None:
    net = family.build(CONFIG).eval()
    for architecture in draw_members(net, 2):
        network = net.extract(architecture)
        outputs = assert_onnx_runtime_agrees(network, IMAGES.float(), rtol=1e-5)
        assert_onnx_runtime_agrees(network, IMAGES[:1].float(), rtol=1e-5)
        assert outputs.std(0).min() > 1e-3


def test_hidden_units_sorted_by_importance_leave_the_largest_as_it_was() -> None:
    net = shake(family.build(CONFIG))
    assert len(find_channel_groups(net)) == 4
    with torch.no_grad():
        before = net(IMAGES, net.space.largest)
        small = net(IMAGES, net.space.smallest)
        reorganise(net)
        torch.testing.assert_close(net(IMAGES, net.space.largest), before)
        assert not torch.allclose(net(IMAGES, net.space.smallest), small, atol=1e-3)


def test_a_few_steps_teach_every_granularity_where_an_image_is_bright() -> None:
    """Nine classes, one for each patch: what no network without positions can tell apart."""
    net = family.build(replace(CONFIG, classes=9)).train()
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(9).repeat(8)
    bright = F.one_hot(targets, 9).view(-1, 1, 3, 3).float()
    noise = 0.3 * torch.rand(len(targets), 2, 6, 6, generator=generator)
    x = noise + 0.7 * bright.repeat_interleave(2, 2).repeat_interleave(2, 3)
    members = [
        net.space.architecture({"depth": 2, "layer1.ffn": ffn, "layer2.ffn": ffn})
        for ffn in CONFIG.ffn
    ]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        for architecture in members:
            F.cross_entropy(net(x, architecture), targets).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        for architecture in members:
            assert F.cross_entropy(net.extract(architecture)(x), targets) < 0.5


def test_what_is_looked_up_by_place_does_not_decay() -> None:
    net = family.build(CONFIG)
    assert net.no_decay == {"model.embedding.token", "model.embedding.positions"}
    assert net.no_decay <= {name for name, _ in net.named_parameters()}


def test_configure_follows_the_data() -> None:
    config = family.configure("small", describe_images(3, 64, 64))
    assert (config.size, config.patch, config.classes) == (64, 8, 7)
    assert config.pixels.mean == (0.5, 0.5, 0.5)
    # 14 patches a side do not divide 384 pixels; patches of 16 do.
    assert family.configure("b16", describe_images(3, 384, 384)).patch == 16
    net = family.build(family.configure("tiny", describe_images(3, 20, 20)))
    assert net(torch.zeros(2, 3, 20, 20), net.space.largest).shape == (2, 7)
    message = "not for images of 33x33 pixels: size = 33 is not a multiple of patch = 4"
    assert_images_are_refused(family, "small", 33, message)
    with pytest.raises(ValueError, match=r"unknown preset 'tini'.*did you mean 'tiny'"):
        family.configure("tini", describe_images(3, 20, 20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ffn": (8, 4)}, r"ffn = \[8, 4\] must be rising"),
        ({"ffn": ()}, "ffn is empty"),
        ({"depths": (0, 1)}, "depths = 0 must be at least 1"),
        ({"width": 14}, "width = 14 does not divide into 3 heads"),
        ({"heads": 0}, "heads = 0 must be at least 1"),
        ({"patch": 4}, "size = 6 is not a multiple of patch = 4"),
        ({"dropout": 1.0}, "dropout = 1.0 must be at least 0 and below 1"),
    ],
)
def test_impossible_configurations(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)

"""Slimmable residual networks: counts by hand, channel sets, depth, ONNX and bad input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from supernet.families import resnet as family
from supernet.testing.exactness import doubled, relative_difference
from supernet.training.schedules.reorganise import find_channel_groups, reorganise
from tests.toys.networks import (
    assert_images_are_refused,
    assert_onnx_runtime_agrees,
    describe_images,
)


def test_the_published_network_of_20_layers_by_hand() -> None:
    """ResNet-20 at full width; its shortcuts here are projections with normalisation."""
    config = replace(family.Config(), depths=((3,), (3,), (3,)))
    net = family.build(config)

    def convolution(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel * kernel + 2 * outputs

    expected = convolution(3, 16, 3) + 64 * 10 + 10
    inputs = 16
    for width in (16, 32, 64):
        expected += convolution(inputs, width, 3) + 5 * convolution(width, width, 3)
        expected += convolution(inputs, width, 1)
        inputs = width
    assert net.parameter_count(net.space.largest) == expected
    # The published network has no projections: 0.27 M parameters (He et al. 2016, table 6).
    projections = sum(convolution(a, b, 1) for a, b in ((16, 16), (16, 32), (32, 64)))
    assert round((expected - projections) / 1e6, 2) == 0.27
    assert net.space.size == 4**3


def test_width_and_depth_of_every_stage_follow_their_choices() -> None:
    net = family.build(family.PRESETS["tiny"])
    architecture = net.space.architecture(
        {"stage1.width": 8, "stage1.depth": 2, "stage2.width": 24, "stage2.depth": 1,
         "stage3.width": 32, "stage3.depth": 2}
    )  # fmt: skip
    alone = net.extract(architecture)
    stages = [list(stage.children()) for stage in alone.get_submodule("stages").children()]
    assert [len(stage) for stage in stages] == [2, 1, 2]
    widths = [stage[0].second.conv.out_channels for stage in stages]
    assert widths == [8, 24, 32]
    assert alone.get_submodule("head.classifier").in_features == 32
    # Wider channels hold the narrower ones as a prefix.
    whole = net.model.get_parameter("stages.1.0.first.conv.weight")
    assert torch.equal(alone.get_parameter("stages.1.0.first.conv.weight"), whole[:24, :8])


def test_channels_sorted_by_importance_leave_the_largest_as_it_was() -> None:
    net = family.build(family.PRESETS["tiny"]).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    # One set per stage and one between the two convolutions of each block.
    assert len(find_channel_groups(net, ["width"])) == 3 + 6
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = net(x, net.space.largest)
        small = net(x, net.space.smallest)
        reorganise(net, kinds=["width"])
        torch.testing.assert_close(net(x, net.space.largest), before, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(net(x, net.space.smallest), small, atol=1e-3)


def test_blocks_start_without_effect() -> None:
    """Gamma zero: networks that differ in depth alone agree at the start."""
    net = family.build(family.PRESETS["tiny"]).train().double()
    shallow = dict(zip(net.space.names, net.space.largest.values, strict=True))
    shallow |= {f"stage{s}.depth": 1 for s in (1, 2, 3)}
    x = doubled(torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        deep = net(x, net.space.largest)
        assert relative_difference(net(x, net.space.architecture(shallow)), deep) < 1e-12
        assert deep.std(0).max() > 1e-5


def test_onnx_runtime_agrees() -> None:
    net = family.build(family.PRESETS["tiny"]).eval()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for architecture in (net.space.smallest, net.space.largest):
        assert_onnx_runtime_agrees(net.extract(architecture), x)


def test_configure_follows_the_data_and_refuses_what_does_not_fit() -> None:
    config = family.configure("small-image", describe_images(3, 48, 48))
    assert (config.size, config.classes, config.pixels.mean) == (48, 7, (0.5, 0.5, 0.5))
    message = "resolution 3 is below the total stride 4"
    assert_images_are_refused(family, "tiny", 3, message)
    with pytest.raises(ValueError, match=r"unknown preset 'cifr'.*did you mean 'cifar'\?"):
        family.configure("cifr", describe_images(3, 32, 32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": ((1,), (0, 1), (1,))}, "of stage 2 gives a stage without blocks"),
        ({"depths": ((1,), (2, 1), (1,))}, "of stage 2 must be rising, without repeats"),
        ({"widths": ((8,), (), (8,))}, "widths of stage 2 is empty"),
        ({"widths": ((8,), (8, 4), (8,))}, "widths of stage 2 = .* must be rising"),
        ({"widths": ((8,), (8,), (0, 8))}, "widths of stage 3 = .* at least one channel"),
        ({"widths": ((8,),)}, "widths are given for 1 stages and depths for 3"),
        ({"widths": (), "depths": ()}, "widths is empty"),
    ],
)
def test_bad_configurations_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(family.PRESETS["tiny"], **changes)

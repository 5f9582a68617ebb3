"""SPOS: published cost, channels as prefixes, operations apart, ONNX and bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from supernet.elastic.alternatives import Alternatives
from supernet.families import spos as family
from supernet.families.spos import Open, Split, Stage
from supernet.family_config import decode_config, encode_config
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.exactness import assert_same_outputs, doubled
from supernet.training.schedules.reorganise import find_channel_groups, reorganise
from tests.toys.networks import (
    assert_images_are_refused,
    assert_onnx_runtime_agrees,
    describe_images,
)

TINY = family.PRESETS["tiny"]


def alike(net: Supernet, operation: str, ratio: float) -> Architecture:
    values = {n: operation if n.endswith("operation") else ratio for n in net.space.names}
    return net.space.architecture(values)


def test_cost_of_the_searched_network_equals_the_published() -> None:
    """Block and channel search: 328 M multiply-accumulates (Guo et al. 2020, released code)."""
    net = family.build(family.PRESETS["imagenet"])
    operations = (0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2)
    ratios = (6, 5, 3, 5, 2, 6, 3, 4, 2, 5, 7, 5, 4, 6, 7, 4, 4, 5, 4, 3)
    values: dict[str, Any] = {}
    for layer, (operation, ratio) in enumerate(zip(operations, ratios, strict=True), start=1):
        values[f"layer{layer}.operation"] = family.OPERATIONS[operation]
        values[f"layer{layer}.ratio"] = family.RATIOS[ratio]
    assert round(net.macs(net.space.architecture(values)) / 1e6) == 328
    assert net.space.size == 40**20


def test_parameters_of_each_operation_by_hand() -> None:
    """Layer 4 of the tiny network: 32 channels, of which 16 pass."""
    net = family.build(TINY)
    half = 16
    for ratio, inner in ((0.5, 8), (2.0, 32)):
        expected = {
            "shuffle_k3": inner * (half + 9 + half),
            "shuffle_k5": inner * (half + 25 + half),
            "shuffle_k7": inner * (half + 49 + half),
            "xception": 9 * half + half * inner + 2 * 9 * inner + inner * inner + inner * half,
        }
        for operation, count in expected.items():
            layer = net.extract(alike(net, operation, ratio)).get_submodule("layers.3")
            assert sum(p.numel() for p in layer.parameters()) == count


def test_normalisation_and_classifier_are_as_published() -> None:
    net = family.build(TINY)
    assert not any(name.endswith(".bias") for name, _ in net.named_parameters())
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.weight is None for norm in norms)
    affine = family.build(replace(TINY, affine=True))
    assert affine.parameter_count(net.space.smallest) > net.parameter_count(net.space.smallest)


@pytest.mark.parametrize("operation", family.OPERATIONS)
def test_narrow_channels_are_the_block_built_at_that_width(operation: str) -> None:
    net = family.build(TINY).eval()
    generator = torch.Generator().manual_seed(1)
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)
    alone = net.extract(alike(net, operation, 0.5))
    # Layer 1 opens stage 1 and layer 2 follows it: each as a block that never knew wider ones.
    built = family.build(replace(TINY, ratios=(0.5,)))
    for layer, kind in ((0, Open), (1, Split)):
        block = built.model.get_submodule(f"layers.{layer}.{operation}").eval()
        whole = dict(net.model.get_submodule(f"layers.{layer}.{operation}").state_dict())
        state = {
            name: whole[name][tuple(slice(0, n) for n in tensor.shape)]
            for name, tensor in block.state_dict().items()
        }
        block.load_state_dict(state)
        picked = alone.get_submodule(f"layers.{layer}")
        assert type(picked) is type(block) is kind
        x = torch.rand(2, 8 if layer == 0 else 16, 8, 8, generator=generator)
        with torch.no_grad():
            assert_same_outputs(picked.double()(doubled(x)), block.double()(doubled(x)))


def test_even_channels_pass_and_odd_ones_are_worked_on() -> None:
    split = Split(nn.Sequential(nn.Identity()))
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert split(x).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_operations_share_nothing_and_only_the_picked_one_learns() -> None:
    net = family.build(TINY).train()
    middle = alike(net, "shuffle_k5", 1.0)
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    net(x, middle).square().sum().backward()
    touched = [n for n, p in net.model.named_parameters() if p.grad is not None]
    assert {n.split(".")[2] for n in touched if n.startswith("layers.")} == {"shuffle_k5"}
    gradient = net.model.get_parameter("layers.1.shuffle_k5.branch.reduce.conv.weight").grad
    assert gradient is not None
    assert gradient[:8].abs().sum() > 0  # half of 16, times 1
    assert gradient[8:].abs().sum() == 0
    slots = [m for m in net.modules() if isinstance(m, Alternatives)]
    assert len(slots) == 6
    assert not any(isinstance(m, Alternatives) for m in net.extract(middle).modules())


def test_inner_channels_of_each_operation_are_sets_of_their_own() -> None:
    net = family.build(TINY).eval()
    # Xception has two sets, the others one.
    assert len(find_channel_groups(net)) == 6 * (3 + 2)
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for operation in family.OPERATIONS:
        architecture = alike(net, operation, 2.0)
        with torch.no_grad():
            before = net(x, architecture)
            reorganise(net)
            torch.testing.assert_close(net(x, architecture), before, rtol=1e-3, atol=1e-5)


def test_onnx_runtime_agrees() -> None:
    net = family.build(TINY)
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for architecture in (net.space.smallest, net.space.largest):
        alone = net.extract(architecture).train()
        for _ in range(40):
            alone(x)  # statistics without which the outputs would be too small to compare
        alone.eval()
        expected = assert_onnx_runtime_agrees(alone, x, rtol=1e-4)
        assert expected.std(0).max() > 1e-3


def test_a_space_of_operations_alone() -> None:
    net = family.build(replace(TINY, ratios=(1.0,)))
    assert net.space.size == 4**6
    assert set(net.space.names) == {f"layer{i}.operation" for i in range(1, 7)}


def test_ratios_do_not_fall_short_by_rounding() -> None:
    assert [family.compute_inner_width(10, r) for r in (0.2, 0.6, 1.4, 2.0)] == [1, 3, 7, 10]
    assert family.compute_inner_width(64, 0.2) == 6  # as in released code: what is left over goes


def test_configure_follows_the_data_and_refuses_what_does_not_fit() -> None:
    config = family.configure("small-image", describe_images(3, 64, 64))
    assert (config.size, config.classes, config.stem_stride) == (64, 7, 1)
    assert [stage.stride for stage in config.stages] == [1, 2, 2, 2]
    assert decode_config(family, json.loads(json.dumps(encode_config(family, config)))) == config
    message = "resolution 28 is below the total stride 32"
    assert_images_are_refused(family, "imagenet", 28, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ()}, "stages is empty"),
        ({"ratios": ()}, "ratios is empty"),
        ({"ratios": (1.0, 0.5)}, r"ratios = \[1.0, 0.5\] must be rising"),
        ({"ratios": (0.01, 1.0)}, "ratio 0.01 leaves no channels inside blocks of width 16"),
        ({"stages": (Stage(0, 16, 1),)}, "stage 1 has 0 layers; it needs at least 1"),
        ({"stages": (Stage(1, 17, 1),)}, "width 17 of stage 1 must be even"),
        ({"stages": (Stage(1, 16, 1), Stage(1, 16, 1))}, "must be above the 16 channels"),
        ({"size": 3}, "resolution 3 is below the total stride 4"),
    ],
)
def test_bad_configurations_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)

"""Universal inverted bottlenecks: what each variant consists of, and where strides go."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from supernet.families import uib as family
from supernet.families._mobile import make_divisible
from supernet.space import Architecture, Value
from supernet.supernet import Supernet
from tests.exactness import assert_extraction_is_exact, in_double

TINY = family.PRESETS["tiny"]


@pytest.fixture(scope="module")
def net() -> Supernet:
    """The tiny supernet with weights that all matter."""
    made = family.build(TINY)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in made.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
    return made.eval()


def block_of(net: Supernet, stage: int, block: int, **values: Value) -> Architecture:
    """Full depth, the largest everywhere but in one block."""
    largest = dict(zip(net.space.names, net.space.largest.values, strict=True))
    prefix = f"stage{stage}.block{block}."
    changed: dict[str, Value] = {f"{prefix}{name}": value for name, value in values.items()}
    return net.space.architecture({**largest, **changed})


@pytest.mark.parametrize("block", [1, 2])
def test_parameters_of_every_instantiation(net: Supernet, block: int) -> None:
    inputs = 16 if block == 1 else 24
    choice = net.space.choice(f"stage1.block{block}.depthwise")
    for value, expand in itertools.product(choice.values, TINY.expands):
        start, middle = family.depthwise_kernels(value)
        hidden = make_divisible(inputs * expand)
        expected = inputs * hidden + 2 * hidden + hidden * 24 + 2 * 24
        expected += inputs * start**2 + 2 * inputs if start else 0
        expected += hidden * middle**2 + 2 * hidden if middle else 0
        chosen = block_of(net, 1, block, depthwise=value, expand=expand)
        alone = net.extract(chosen).get_submodule(f"stages.0.{block - 1}")
        assert sum(p.numel() for p in alone.parameters()) == expected


@pytest.mark.exactness
def test_every_instantiation_equals_its_extraction(net: Supernet) -> None:
    net = in_double(net)
    pairs = [(s, b) for s in (1, 2) for b in (1, 2)]
    for stage, block in pairs:
        values = net.space.choice(f"stage{stage}.block{block}.depthwise").values
        outputs = []
        for value, expand in itertools.product(values, TINY.expands):
            chosen = block_of(net, stage, block, depthwise=value, expand=expand)
            x = torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
            outputs.append(assert_extraction_is_exact(net, chosen, x))
        different = {tuple(o.flatten().tolist()) for o in outputs}
        # On the 2x2 pixels of the last stage a 5x5 kernel reaches nothing that a 3x3 does not.
        assert stage == 2 or len(different) == len(outputs)


def test_nothing_without_depthwise_carries_a_stride(net: Supernet) -> None:
    assert "0-0" not in net.space.choice("stage1.block1.depthwise").values
    assert len(net.space.choice("stage1.block1.depthwise").values) == 8
    assert len(net.space.choice("stage1.block2.depthwise").values) == 9
    with pytest.raises(ValueError, match="0-0"):
        block_of(net, 1, 1, depthwise="0-0")


@pytest.mark.parametrize(
    ("value", "strides"),
    [("3-0", [2]), ("5-0", [2]), ("0-3", [2]), ("3-5", [1, 2]), ("5-5", [1, 2])],
)
def test_the_stride_is_in_the_middle_when_there_is_one(
    net: Supernet, value: str, strides: list[int]
) -> None:
    alone = net.extract(block_of(net, 1, 1, depthwise=value)).get_submodule("stages.0.0")
    convolutions = [m for m in alone.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [c.stride[0] for c in convolutions] == strides
    kernels = [k for k in family.depthwise_kernels(value) if k]
    assert [c.kernel_size[0] for c in convolutions] == kernels
    assert alone(torch.rand(1, 16, 8, 8)).shape == (1, 24, 4, 4)


def test_small_kernels_are_the_core_of_large_ones(net: Supernet) -> None:
    for value, layer in (("3-0", "start"), ("0-3", "middle")):
        alone = net.extract(block_of(net, 2, 2, depthwise=value))
        small = alone.get_parameter(f"stages.1.1.{layer}.conv.weight")
        whole = net.model.get_parameter(f"stages.1.1.{layer}.present.conv.weight")
        assert torch.equal(small, whole[:, :, 1:4, 1:4])


def test_neither_depthwise_leaves_a_feed_forward_layer(net: Supernet) -> None:
    block = net.extract(block_of(net, 1, 2, depthwise="0-0")).get_submodule("stages.0.1").eval()
    sizes = {m.kernel_size for m in block.modules() if isinstance(m, nn.Conv2d)}
    assert sizes == {(1, 1)}
    x = torch.rand(1, 24, 4, 4)
    pixel = block(x[:, :, 1:2, 2:3])
    assert torch.allclose(block(x)[:, :, 1:2, 2:3], pixel, atol=1e-6)


def test_blocks_with_a_shortcut_start_as_identities() -> None:
    fresh = family.build(TINY).eval()
    alone = fresh.extract(block_of(fresh, 1, 2, depthwise="5-3")).get_submodule("stages.0.1")
    x = torch.randn(2, 24, 4, 4)
    assert torch.equal(alone(x), x)


def test_larger_presets_build_and_count() -> None:
    for name, size in (("small-image", 32), ("imagenet", 256)):
        net = family.build(family.PRESETS[name])
        drawn = net.space.decode(net.space.sample(np.random.default_rng(0), 1))
        for architecture in drawn:
            alone = net.extract(architecture)
            assert net.parameter_count(architecture) == sum(p.numel() for p in alone.parameters())
        assert net.input_shape(net.space.largest) == (3, size, size)


def test_impossible_configurations_are_refused_in_a_sentence() -> None:
    for depths in ((), (0, 1)):
        with pytest.raises(ValueError, match="of stage 1 gives a stage without blocks"):
            replace(TINY, stages=(family.Stage(8, 2, depths),))
    with pytest.raises(ValueError, match=r"depths = \[2, 1\] of stage 1 must be rising"):
        replace(TINY, stages=(family.Stage(8, 2, (2, 1)),))
    with pytest.raises(ValueError, match="below the total stride"):
        replace(TINY, resolutions=(2, 8))
    with pytest.raises(ValueError, match="unknown field 'hight'"):
        family.from_json({"stages": [{"hight": 2}]})

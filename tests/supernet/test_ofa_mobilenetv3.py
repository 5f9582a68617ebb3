"""OFA-MobileNetV3 against independent references: masks, crops, published widths and forms."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from supernet.data import DataShape
from supernet.errors import InputError, OutdatedError
from supernet.families import ofa_mobilenetv3 as family
from supernet.families._mobile import make_divisible
from supernet.families._mobile_rows import transform_kernel
from supernet.family_config import decode_config, encode_config
from supernet.space import Architecture
from supernet.supernet import Supernet
from tests.toys.networks import shake_statistics


def masked(net: Supernet, config: family.Config, architecture: Architecture) -> nn.Module:
    """The full network with everything outside the architecture zeroed, by its own arithmetic."""
    model = copy.deepcopy(net.model)
    largest = max(config.kernels)
    for s, stage in enumerate(model.stages, start=1):
        for b in range(len(stage)):
            if b >= architecture[f"stage{s}.depth"]:
                stage[b] = nn.Identity()
                continue
            block, prefix = stage[b], f"stage{s}.block{b + 1}"
            inputs = block.expand.conv.in_channels
            hidden = make_divisible(round(inputs * architecture[f"{prefix}.expand"]))
            kernel = architecture[f"{prefix}.kernel"]
            with torch.no_grad():
                block.project.conv.weight[:, hidden:] = 0
                if block.squeeze is not None:
                    inner = make_divisible(hidden // 4)
                    block.squeeze.reduce.weight[:, hidden:] = 0
                    block.squeeze.expand.weight[:, inner:] = 0
                weight = block.depthwise.conv.weight
                filters = reference_kernel(net, f"stage{s}_block{b + 1}", weight, kernel, config)
                margin = (largest - kernel) // 2
                weight.copy_(F.pad(filters, [margin] * 4))
    return model


def reference_kernel(
    net: Supernet, prefix: str, weight: torch.Tensor, kernel: int, config: family.Config
) -> torch.Tensor:
    """The chained transform, one filter and one step at a time, as the paper words it."""
    size = max(config.kernels)
    for smaller in sorted(config.kernels, reverse=True)[1:]:
        if size == kernel:
            break
        matrix = net.shared[f"{prefix}_kernel{smaller}"]
        margin = (size - smaller) // 2
        steps = []
        for channel in range(weight.shape[0]):
            crop = weight[channel, 0, margin : size - margin, margin : size - margin]
            steps.append((matrix @ crop.reshape(-1)).reshape(1, smaller, smaller))
        weight, size = torch.stack(steps), smaller
    return weight


@pytest.mark.parametrize("kernels", [(3, 5), (3, 5, 7)])
def test_subnetworks_equal_the_masked_full_network(kernels: tuple[int, ...]) -> None:
    config = replace(family.PRESETS["tiny"], kernels=kernels, depths=(1, 2, 3))
    net = shake_statistics(family.build(config), 0.1).double()
    rng = np.random.default_rng(0)
    pixels = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(12):
            architecture = net.space.sample_one(rng)
            size = int(architecture["resolution"])
            x = torch.rand(4, 1, size, size, dtype=torch.float64, generator=pixels)
            expected = masked(net, config, architecture)(x)
            difference = (net(x, architecture) - expected).abs().max()
            assert difference < 1e-12
            assert expected.std(dim=0).max() > 1e-4


def test_kernel_transform_starts_as_the_plain_crop() -> None:
    weight = torch.randn(6, 1, 7, 7)
    identity = [torch.eye(25), torch.eye(9)]
    assert torch.equal(transform_kernel(weight, (7,), *identity), weight)
    assert torch.equal(transform_kernel(weight, (5,), *identity), weight[..., 1:6, 1:6])
    assert torch.equal(transform_kernel(weight, (3,), *identity), weight[..., 2:5, 2:5])


def test_kernel_transforms_are_trained_with_the_rest() -> None:
    net = family.build(family.PRESETS["tiny"]).train()
    x = torch.rand(8, 1, 8, 8)
    net(x, net.space.largest).square().sum().backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in net.shared.parameters())
    values = {**net.space.largest.to_dict(), "stage2.block1.kernel": 3}
    net(x, net.space.architecture(values)).square().sum().backward()
    gradient = net.shared["stage2_block1_kernel3"].grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert "shared.stage2_block1_kernel3" in net.no_decay


@pytest.mark.parametrize(
    ("width", "expected"), [(24 * 4, 96), (16 * 3, 48), (12, 16), (18, 24), (4, 8), (112.5, 112)]
)
def test_make_divisible(width: float, expected: int) -> None:
    assert make_divisible(width) == expected


def test_the_published_space() -> None:
    config = family.PRESETS["imagenet"]
    net = family.build(config)
    per_resolution = (9**2 + 9**3 + 9**4) ** 5
    assert net.space.size == per_resolution * len(config.resolutions)
    matrices = sum(p.numel() for p in net.shared.parameters())
    assert matrices == 20 * (25 * 25 + 9 * 9)
    assert sum(p.numel() for p in net.model.parameters()) == 7_664_760
    macs = net.macs(net.space.largest)
    assert 500e6 < macs < 620e6


def test_ofa_dictionary_form() -> None:
    config = family.PRESETS["imagenet"]
    space = family.make_space(config)
    record = {"ks": [7, 3, 5, 3] * 5, "e": [3, 4, 6, 6] * 5, "d": [2, 3, 4, 2, 4], "r": [160]}
    architecture = family.from_ofa(config, space, record)
    assert architecture["stage3.block4.kernel"] == 3
    assert architecture["resolution"] == 160
    assert family.from_ofa(config, space, family.to_ofa(config, architecture)) == architecture
    with pytest.raises(ValueError, match="'ks' must list 20 values"):
        family.from_ofa(config, space, {**record, "ks": [3]})
    with pytest.raises(ValueError, match=r"stage1.block1.kernel = 4 is not a legal value"):
        family.from_ofa(config, space, {**record, "ks": [4] * 20})
    assert family.from_ofa(config, space, {**record, "weight_bits": 32}) == architecture
    with pytest.raises(InputError, match=r"weights of 4 bits, .*--precision w4a32,w8a32,fp32"):
        family.from_ofa(config, space, {**record, "weight_bits": 4})


def test_settings_of_earlier_releases() -> None:
    """They name bits of weights, which are empty for the weights in float that there still are."""
    written = {**encode_config(family, family.PRESETS["tiny"]), "weight_bits": []}
    assert decode_config(family, written) == family.PRESETS["tiny"]
    with pytest.raises(OutdatedError, match=r"train it again .*--precision w4a32,w8a32,fp32$"):
        decode_config(family, {**written, "weight_bits": [4, 8, 32]})
    with pytest.raises(InputError, match="must be an object with fields by name"):
        decode_config(family, [])
    with pytest.raises(InputError, match="unknown field 'weight_bit'"):
        decode_config(family, {**written, "weight_bit": []})


def test_configure_follows_the_data() -> None:
    shape = DataShape(
        task="image-classification",
        input=(3, 48, 48),
        classes=7,
        labels=tuple("abcdefg"),
        mean=(0.1, 0.2, 0.3),
        std=(1.0, 1.0, 1.0),
    )
    config = family.configure("small-image", shape)
    assert (config.classes, config.channels, config.resolutions) == (7, 3, (36, 42, 48))
    net = family.build(config)
    assert net(torch.rand(2, 3, 36, 36), net.space.smallest).shape == (2, 7)
    with pytest.raises(
        ValueError, match=r"unknown preset 'smal-image'.*did you mean 'small-image'"
    ):
        family.configure("smal-image", shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolutions": (2, 8)}, "resolution 2 is below the total stride 4"),
        ({"stem_stride": 0}, "the strides multiply to 0; every stride must be at least 1"),
        ({"depths": (0, 1)}, "gives a stage without blocks"),
        ({"kernels": (3, 4)}, "must be odd"),
        ({"expands": (4, 3)}, "must be rising"),
        ({"expands": ()}, "expands is empty"),
    ],
)
def test_impossible_configurations(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(family.PRESETS["tiny"], **change)

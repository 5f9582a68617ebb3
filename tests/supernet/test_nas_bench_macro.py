"""NAS-Bench-Macro: the same space, parameters and operations as published."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from supernet.data import open_data
from supernet.families import nas_bench_macro as family

PUBLISHED = Path(__file__).resolve().parents[3] / "shared/data/bench/nas_bench_macro.npz"


def test_parameters_and_macs_of_all_networks_equal_the_published() -> None:
    """The published FLOPs are multiply-accumulates of convolutions and the classifier."""
    if not PUBLISHED.exists():
        pytest.skip("needs shared/data/bench/nas_bench_macro.npz beside the repository")
    table = np.load(PUBLISHED)
    net = family.build(family.PRESETS["cifar"])
    assert tuple(table["ops"]) == family.OPERATIONS
    assert len(np.unique(table["arch"], axis=0)) == 3**8 == net.space.size
    costs = net.cost_model()
    assert np.array_equal(costs.parameters(table["arch"]), table["params"])
    assert np.array_equal(costs.macs(table["arch"]), table["flops"])


def test_smallest_and_largest_by_hand() -> None:
    net = family.build(family.PRESETS["cifar"])
    widths = [32, 64, 128, 256]
    ends = 27 * 32 + 2 * 32 + 256 * 1280 + 2 * 1280 + 1281 * 10
    plain = sum(a * b + 2 * b for a, b in pairwise(widths))
    assert net.parameter_count(net.space.smallest) == ends + plain == 387_882

    def bottleneck(inputs: int, outputs: int) -> int:
        hidden = 6 * inputs
        return hidden * (inputs + 2 + 25 + 2 + outputs) + 2 * outputs

    pairs = [(32, 64), (64, 64), (64, 128), *[(128, 128)] * 2, (128, 256), *[(256, 256)] * 2]
    assert net.parameter_count(net.space.largest) == ends + sum(bottleneck(*p) for p in pairs)


def test_an_identity_leaves_nothing_but_a_projection_where_shapes_change() -> None:
    net = family.build(family.PRESETS["tiny"])
    alone = net.extract(net.space.smallest)
    layers = list(alone.get_submodule("layers").children())
    assert [type(layer) for layer in layers[2::2]] == [nn.Identity, nn.Identity]
    assert all(isinstance(layers[i], nn.Sequential) for i in (0, 1, 3))
    assert sum(p.numel() for layer in layers for p in layer.parameters()) == sum(
        a * b + 2 * b for a, b in ((12, 24), (24, 48), (48, 96))
    )


def test_operations_share_nothing_and_only_the_picked_one_learns() -> None:
    net = family.build(family.PRESETS["tiny"])
    middle = net.space.architecture(dict.fromkeys(net.space.names, "mb_e3_k3"))
    net.train()(net.example(middle, 4) + 0.5, middle).square().sum().backward()
    with_gradient = {n for n, p in net.model.named_parameters() if p.grad is not None}
    operations = {n.split(".")[2] for n in with_gradient if n.startswith("layers.")}
    assert operations == {"mb_e3_k3"}
    statistics = dict(net.model.named_buffers())
    moved = {n for n, t in statistics.items() if n.endswith("num_batches_tracked") and t > 0}
    assert {n.split(".")[2] for n in moved if n.startswith("layers.")} == {"mb_e3_k3"}


def test_configure_follows_the_data_and_refuses_what_does_not_fit() -> None:
    shape = open_data("digits").shape
    config = family.configure("tiny", shape)
    assert (config.channels, config.size, config.classes) == (1, 8, 10)
    net = family.build(config)
    assert net(torch.rand(2, 1, 8, 8), net.space.largest).shape == (2, 10)
    with pytest.raises(ValueError, match=r"unknown preset 'cifer'.*did you mean 'cifar'\?"):
        family.configure("cifer", shape)
    with pytest.raises(ValueError, match="size 4 is below the total stride 8"):
        family.Config(size=4)

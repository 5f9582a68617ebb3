"""Subnetworks of imported supernets against the published implementation, weight for weight."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from supernet.families import ofa_mobilenetv3, ofa_proxyless, ofa_resnet50
from supernet.importing.ofa import Recognised, canonicalise, load_supernet, recognise
from tests.supernet import ofa_package

ARCHITECTURES = 50
MOBILE = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
RESNET = {
    "depth_list": [0, 1, 2],
    "expand_ratio_list": [0.2, 0.25, 0.35],
    "width_mult_list": [0.65, 0.8, 1.0],
}
# As the authors' model zoo builds them.
PUBLISHED = {
    "mbv3-w1.0": ("OFAMobileNetV3", MOBILE, ofa_mobilenetv3, "imagenet"),
    "mbv3-w1.2": (
        "OFAMobileNetV3", {**MOBILE, "width_mult": 1.2}, ofa_mobilenetv3, "imagenet-w1.2"
    ),
    "proxyless-w1.3": (
        "OFAProxylessNASNets", {**MOBILE, "width_mult": 1.3}, ofa_proxyless, "imagenet"
    ),
    "resnet50": ("OFAResNets", RESNET, ofa_resnet50, "imagenet"),
}  # fmt: skip


def reference(name: str, size: int, **options: Any) -> torch.nn.Module:
    """A randomised network of the package."""
    network = getattr(ofa_package.networks(), name)(**options)
    return ofa_package.randomised(network, size)


def compare(theirs: torch.nn.Module, recognised: Recognised, count: int, size: int) -> None:
    """Both on the same pixels, over random architectures."""
    supernet, family = load_supernet(recognised), recognised.family
    space = supernet.space
    generator = torch.Generator().manual_seed(1)
    pixels = ofa_package.images(2, size, generator)
    normalised = supernet.model.get_submodule("normalize")(pixels)
    positions = space.sample(np.random.default_rng(0), count)
    seen = []
    for architecture in [space.smallest, space.largest, *space.decode(positions)]:
        theirs.set_active_subnet(**_record(family, recognised.config, architecture))
        with torch.no_grad():
            expected = theirs(normalised)
            ours = supernet(pixels, architecture)
        # Both images must give something of their own, at the scale of logits.
        scale = float(expected.abs().max())
        assert expected.std(dim=0).mean() > 3e-4
        assert 0.05 < scale < 1000
        assert (ours - expected).abs().max() < 1e-5 * max(1.0, scale)
        seen.append(expected)
    assert torch.stack(seen).std(dim=0).mean() > 0.1


def _record(family: ModuleType, config: Any, architecture: Any) -> dict[str, Any]:
    record = dict(family.to_ofa(config, architecture))
    del record["r"]
    return record


@pytest.mark.parametrize("name", PUBLISHED)
def test_subnetworks_equal_those_of_the_published_implementation(name: str) -> None:
    network, options, family, preset = PUBLISHED[name]
    size = 32 if family is ofa_resnet50 else 64
    theirs = reference(network, size, n_classes=10, dropout_rate=0, **options)
    recognised = recognise(theirs.state_dict(), "a file")
    assert (recognised.family, recognised.preset) == (family, preset)
    compare(theirs, recognised, ARCHITECTURES, size)


def test_sizes_that_nobody_published_are_read_from_the_shapes() -> None:
    options = {"ks_list": [3, 5], "expand_ratio_list": [3, 4], "depth_list": [2]}
    theirs = reference(
        "OFAMobileNetV3", 64, n_classes=7, dropout_rate=0, width_mult=0.35, **options
    )
    recognised = recognise(theirs.state_dict(), "a file")
    config = recognised.config
    assert recognised.preset == "custom"
    assert (config.width_multiplier, config.kernels, config.expands) == (0.35, (3, 5), (3, 4))
    assert (config.depths, config.classes) == ((2,), 7)
    compare(theirs, recognised, 5, 64)


def test_older_spellings_of_names() -> None:
    older = {
        "blocks.1.mobile_inverted_conv.inverted_bottleneck.conv.weight",
        "blocks.1.mobile_inverted_conv.inverted_bottleneck.conv.conv.weight",
        "blocks.1.conv.inverted_bottleneck.conv.conv.weight",
    }
    assert {canonicalise(n) for n in older} == {"blocks.1.conv.inverted_bottleneck.conv.weight"}
    assert canonicalise("blocks.3.conv.depth_conv.bn.bn.running_var") == canonicalise(
        "blocks.3.mobile_inverted_conv.depth_conv.bn.running_var"
    )
    assert canonicalise("classifier.linear.linear.bias") == canonicalise("classifier.linear.bias")
    kept = "blocks.1.conv.depth_conv.conv.7to5_matrix"
    assert canonicalise(kept) == kept


def test_stand_ins_for_undeclared_imports_are_gone() -> None:
    ofa_package.networks()
    assert not any(isinstance(m, ofa_package.StandIn) for m in sys.modules.values())


def test_a_strange_block_number_makes_no_strange_network() -> None:
    one = torch.zeros(8, 8, 1, 1)
    names = ("first_conv.conv.weight", "blocks.99999999.conv.point_linear.conv.weight")
    recognised = recognise(dict.fromkeys(names, one), "a file")
    with pytest.raises(ValueError, match=r"a file is incomplete: \d+ of \d+ tensors are missing"):
        load_supernet(recognised)

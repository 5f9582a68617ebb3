"""ProxylessNAS and ResNet50 of Once-for-All: published sizes, records and impossible settings."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

from supernet.data import DataShape
from supernet.elastic.edit_index import Values
from supernet.elastic.edits import Cut, Drop
from supernet.families import ofa_proxyless, ofa_resnet50
from supernet.family_config import decode_config, encode_config

DIGITS = DataShape(
    "image-classification", (1, 8, 8), 10, tuple("0123456789"), mean=(0.3,), std=(0.4,)
)


def test_published_sizes() -> None:
    """Parameters of the largest networks in the authors' package, without kernel transforms."""
    for family, parameters, matrices in (
        (ofa_proxyless, 7_942_056, 21 * (25 * 25 + 9 * 9)),
        (ofa_resnet50, 48_105_992, 0),
    ):
        net = family.build(family.PRESETS["imagenet"])
        assert sum(p.numel() for p in net.model.parameters()) == parameters
        assert sum(p.numel() for p in net.shared.parameters()) == matrices
    proxyless = ofa_proxyless.make_space(ofa_proxyless.PRESETS["imagenet"])
    assert proxyless.size == (9**2 + 9**3 + 9**4) ** 5 * 9 * 4
    resnet = ofa_resnet50.make_space(ofa_resnet50.PRESETS["imagenet"])
    short, long = 3**2 + 3**3 + 3**4, 3**4 + 3**5 + 3**6
    assert resnet.size == 4 * 2 * 3**6 * short**3 * long


def test_records_of_the_package() -> None:
    for family, record in (
        (ofa_proxyless, {"ks": [7, 3, 5, 3] * 5 + [5], "e": [3, 4, 6, 6] * 5 + [4],
                         "d": [2, 3, 4, 2, 4, 1], "r": [160]}),
        (ofa_resnet50, {"d": [2, 0, 1, 2, 0], "e": [0.2, 0.25, 0.35] * 6, "w": [0, 1, 2, 2, 1, 0],
                        "r": [160]}),
    ):  # fmt: skip
        config = family.PRESETS["imagenet"]
        space = family.make_space(config)
        architecture = family.from_ofa(config, space, record)
        assert architecture["resolution"] == 160
        again = family.to_ofa(config, architecture)
        assert family.from_ofa(config, space, again) == architecture
        assert again["d"] == record["d"]
        for key in ("d", "e"):
            with pytest.raises(ValueError, match=f"'{key}' must list"):
                family.from_ofa(config, space, {**record, key: [1]})
    with pytest.raises(ValueError, match="'w' holds 3; it lists positions from 0 to 2"):
        ofa_resnet50.from_ofa(config, space, {**record, "w": [3] * 6})
    assert architecture["stem.depth"] == 1
    assert architecture["stage3.depth"] == 6
    assert architecture["stage4.width"] == 0.65


def test_an_absent_stem_layer_changes_the_network() -> None:
    net = ofa_resnet50.build(ofa_resnet50.PRESETS["tiny"]).eval()
    x = torch.rand(2, 1, 8, 8)
    without = net.space.architecture({**net.space.largest.to_dict(), "stem.depth": 0})
    absent = {n for n, _ in net.model.named_parameters()} - {
        n for n, _ in net.extract(without).named_parameters()
    }
    assert absent == {f"stem.optional.0.body.{n}" for n in ("conv.weight", "bn.weight", "bn.bias")}
    assert not torch.equal(net(x, net.space.largest), net(x, without))


def test_one_rule_for_one_set_of_channels() -> None:
    """Cuts that share a rule fit together; those around an inner convolution are two sets."""
    net = ofa_resnet50.build(ofa_resnet50.PRESETS["tiny"])
    rules = {(row.tensor, row.dim): row.size for row in net.edits if isinstance(row, Cut)}
    block, after = "stages.1.0", "stages.1.1"
    outputs = rules[f"{block}.expand.conv.weight", 0]
    assert outputs is rules[f"{block}.shortcut.conv.weight", 0]
    assert outputs is rules[f"{after}.reduce.conv.weight", 1]
    assert outputs is rules[f"{after}.expand.conv.weight", 0]
    assert outputs is rules["head.classifier.weight", 1]
    assert rules[f"{block}.reduce.conv.weight", 1] is rules["stages.0.1.expand.conv.weight", 0]
    before = rules[f"{block}.reduce.conv.weight", 0]
    assert before is rules[f"{block}.convolve.conv.weight", 1]
    assert before is not rules[f"{block}.convolve.conv.weight", 0]
    assert before is not rules[f"{after}.reduce.conv.weight", 0]


def test_a_fixed_stage_has_no_depth() -> None:
    net = ofa_proxyless.build(ofa_proxyless.PRESETS["tiny"])
    assert "stage3.depth" not in net.space.names
    stacks = [row.stack for row in net.edits if isinstance(row, Drop)]
    assert stacks == ["stages.0", "stages.1"]
    values = Values(net.space.smallest)
    assert all(values.find(row.keep) == 1 for row in net.edits if isinstance(row, Drop))


@pytest.mark.parametrize("family", [ofa_proxyless, ofa_resnet50])
def test_images_must_be_large_enough_and_square(family: ModuleType) -> None:
    assert family.configure("tiny", DIGITS).resolutions == (5, 6, 8)
    with pytest.raises(
        ValueError,
        match=r"preset 'imagenet' is not for images of 8x8 pixels: resolution 5 is below",
    ):
        family.configure("imagenet", DIGITS)
    with pytest.raises(ValueError, match="images are 8x4; this family takes square ones"):
        family.configure("tiny", replace(DIGITS, input=(1, 8, 4)))
    with pytest.raises(ValueError, match=r"unknown preset 'tini'.*did you mean 'tiny'"):
        family.configure("tini", DIGITS)


@pytest.mark.parametrize("family", [ofa_proxyless, ofa_resnet50])
@pytest.mark.parametrize(
    ("depths", "message"),
    [
        ((0, 2), "depths = .0, 2. of stage 1 gives a stage without blocks"),
        ((), "depths = .. of stage 1 gives a stage without blocks"),
        ((2, 1), "of stage 1 must be rising"),
    ],
)
def test_stages_without_blocks(family: ModuleType, depths: Any, message: str) -> None:
    config = family.PRESETS["tiny"]
    stages = (replace(config.stages[0], depths=depths), *config.stages[1:])
    with pytest.raises(ValueError, match=message):
        replace(config, stages=stages)
    with pytest.raises(ValueError, match="stages is empty"):
        replace(config, stages=())


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        (ofa_proxyless, {"kernels": (3, 4)}, "must be odd"),
        (ofa_proxyless, {"expands": (4, 3)}, "expands = .4, 3. must be rising"),
        (ofa_resnet50, {"widths": ()}, "widths is empty"),
        (ofa_resnet50, {"widths": (0.0, 1.0)}, "must be positive"),
        (ofa_resnet50, {"expands": (0.5, 0.25)}, "must be rising"),
    ],
)
def test_impossible_configurations(family: ModuleType, change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(family.PRESETS["tiny"], **change)


def test_a_mistyped_field_of_a_stage() -> None:
    payload = encode_config(ofa_resnet50, ofa_resnet50.PRESETS["tiny"])
    payload["stages"] = [{"width": 8, "strides": 1}]
    with pytest.raises(ValueError, match=r"unknown field 'strides'.*did you mean 'stride'"):
        decode_config(ofa_resnet50, payload)

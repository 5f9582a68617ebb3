"""AttentiveNAS: published costs, shortcuts that depend on widths, and resolution inside."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from supernet.families import attentivenas as family
from supernet.families._attentive import Resample, Stage
from supernet.family_config import decode_config, encode_config
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.exactness import assert_extraction_is_exact, doubled, relative_difference
from supernet.training.schedules.reorganise import reorganise
from tests.toys.networks import (
    assert_images_are_refused,
    assert_onnx_runtime_agrees,
    describe_images,
)

TINY = family.PRESETS["tiny"]

# Resolution, widths, kernels, expand ratios, depths and millions of multiply-accumulates of the
# released networks A0 to A6 (Wang et al. 2021, "AttentiveNAS").
PUBLISHED = [
    (192, [16, 16, 24, 32, 64, 112, 192, 216, 1792], "3333333", "1444466", "1333331", 203),
    (224, [16, 16, 24, 32, 64, 112, 192, 216, 1984], "3335353", "1444466", "1333331", 279),
    (224, [16, 16, 24, 32, 64, 112, 200, 224, 1984], "3333353", "1454466", "1333341", 317),
    (224, [16, 16, 24, 32, 64, 112, 208, 224, 1984], "3335333", "1444466", "2334351", 357),
    (256, [16, 16, 24, 32, 64, 112, 192, 216, 1984], "3335353", "1445466", "1334351", 444),
    (256, [16, 16, 24, 32, 72, 112, 192, 216, 1792], "3335333", "1454466", "1333461", 491),
    (288, [16, 16, 24, 32, 64, 112, 216, 224, 1984], "3333353", "1465466", "1334461", 709),
]


def record(resolution: int, width: list[int], kernel: str, expand: str, depth: str) -> Any:
    lists = {"kernel_size": kernel, "expand_ratio": expand, "depth": depth}
    return {"resolution": resolution, "width": width} | {
        key: [int(digit) for digit in digits] for key, digits in lists.items()
    }


def test_costs_of_the_released_networks_equal_the_published() -> None:
    config = family.PRESETS["attentivenas"]
    net = family.build(config)
    for *row, millions in PUBLISHED:
        published = record(*row)  # type: ignore[arg-type]
        architecture = family.from_published(config, published)
        assert round(net.macs(architecture) / 1e6) == millions
        assert family.to_published(config, architecture) == published


def with_width(net: Supernet, **changes: int) -> Architecture:
    values = dict(zip(net.space.names, net.space.largest.values, strict=True))
    return net.space.architecture(values | {k.replace("_", "."): v for k, v in changes.items()})


def shortcuts(network: nn.Module) -> dict[str, str]:
    blocks = {path: m for path, m in network.named_modules() if type(m).__name__ == "Block"}
    return {path: type(block.shortcut).__name__ for path, block in blocks.items()}


def test_the_shortcut_of_a_first_block_follows_the_active_widths() -> None:
    net = family.build(TINY)
    # Stage 1 keeps the size of the image, stages 2 and 3 halve it.
    same = net.extract(with_width(net, stem_width=8, stage1_width=8, stage2_width=16))
    assert shortcuts(same)["stages.0.0"] == "Identity"
    assert shortcuts(same)["stages.1.0"] == "Sequential"  # 8 to 16 channels
    wider = net.extract(with_width(net, stem_width=8, stage1_width=16, stage2_width=16))
    assert shortcuts(wider)["stages.0.0"] == "Sequential"
    assert shortcuts(wider)["stages.1.0"] == "Shrink"  # 16 to 16 channels
    projection = wider.get_submodule("stages.0.0.shortcut.conv")
    assert (projection.in_channels, projection.out_channels) == (8, 16)
    assert projection.bias is None
    later = {k: v for k, v in shortcuts(wider).items() if not k.endswith(".0")}
    assert set(later.values()) == {"Identity"}


def disturbed(config: family.Config) -> Supernet:
    """In double precision, with trained-looking weights."""
    net = family.build(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return net.eval().double()


@pytest.mark.exactness
def test_extraction_is_exact_for_every_pair_of_widths() -> None:
    """Identity, pooled and projected shortcuts, each with trained-looking weights."""
    net = disturbed(TINY)
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    outputs = []
    for stem, first, second in itertools.product((8, 16), (8, 16), (16, 24)):
        widths = {"stem_width": stem, "stage1_width": first, "stage2_width": second}
        outputs.append(assert_extraction_is_exact(net, with_width(net, **widths), x))
    assert all(not torch.allclose(outputs[0], other) for other in outputs[1:])


def test_a_width_changes_its_own_stage_and_the_first_block_of_the_next() -> None:
    net = family.build(TINY)
    whole = net.extract(net.space.largest).state_dict()
    narrow = net.extract(with_width(net, stage2_width=16)).state_dict()
    assert narrow.keys() - whole.keys() == set()
    changed = {n for n in whole if n not in narrow or narrow[n].shape != whole[n].shape}
    places = {".".join(name.split(".")[:3]) for name in changed}
    assert places == {"stages.1.0", "stages.1.1", "stages.2.0"}
    # What the first block of the next stage makes of them keeps its shape.
    assert "stages.2.0.body.project.bn.weight" not in changed
    assert "stages.2.0.body.expand.conv.weight" in changed


def test_costs_add_up_to_what_is_measured() -> None:
    """The contract counts a dozen; here the rule of shortcuts makes costs depend on two widths."""
    net = family.build(TINY)
    positions = net.space.sample(np.random.default_rng(3), 50)
    costs = net.cost_model()
    architectures = net.space.decode(positions)
    macs, parameters = costs.macs(positions), costs.parameters(positions)
    for row, architecture in enumerate(architectures):
        alone = net.extract(architecture).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            alone(net.example(architecture, 1))
        assert macs[row] == counter.get_total_flops() // 2
        assert parameters[row] == sum(p.numel() for p in alone.parameters())


def test_interpolation_at_native_resolution_does_nothing() -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert Resample(32)(x) is x
    assert Resample(24)(x).shape == (2, 3, 24, 24)
    net = family.build(TINY).eval()
    small = with_width(net, resolution=5)
    assert net.input_shape(small) == net.input_shape(net.space.largest) == (1, 8, 8)
    graph = net.graph(small)
    assert graph.inputs[0].shape == ("batch", 1, 8, 8)
    assert [node.op for node in graph.nodes].count("Resize") == 1
    assert all(node.op != "Resize" for node in net.graph(net.space.largest).nodes)
    assert graph.macs < net.macs(net.space.largest) / 1.5


@pytest.mark.parametrize("preset", ["tiny", "bignas"])
def test_onnx_runtime_agrees_on_images_of_native_size(preset: str) -> None:
    config = family.PRESETS[preset]
    if preset == "bignas":
        config = replace(config, resolutions=(48, 64), stages=config.stages[:3])
    net = family.build(config).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("project.bn.weight"):
                parameter.fill_(0.5)
    x = torch.rand(3, *net.inputs.shape, generator=torch.Generator().manual_seed(1))
    for architecture in (net.space.smallest, net.space.largest):
        expected = assert_onnx_runtime_agrees(net.extract(architecture), x)
        assert expected.std(0).max() > 1e-4


def test_blocks_start_without_effect_so_kernels_and_depths_agree() -> None:
    net = family.build(TINY).eval().double()
    x = doubled(torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    shallow = {f"stage{s}_depth": 1 for s in (1, 2, 3)}
    kernels = {f"stage{s}_kernel": 3 for s in (1, 2, 3)}
    with torch.no_grad():
        deep = net(x, net.space.largest)
        flat = net(x, with_width(net, **shallow, **kernels))
        assert relative_difference(flat, deep) < 1e-12
        assert relative_difference(net(x, with_width(net, stem_width=8)), deep) > 1e-4


def test_channels_sorted_by_importance_leave_the_largest_as_it_was() -> None:
    net = family.build(TINY).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    x = torch.rand(3, 1, 8, 8, generator=generator)
    with torch.no_grad():
        before = net(x, net.space.largest)
        done = reorganise(net)
        # Hidden channels of both blocks of stage 2; the other stages have one expand ratio.
        assert len(done) == 2
        torch.testing.assert_close(net(x, net.space.largest), before, rtol=1e-4, atol=1e-4)


def test_options_of_one_value_are_no_choice() -> None:
    names = family.make_space(family.PRESETS["attentivenas"]).names
    assert "stage1.expand" not in names
    assert "stage2.expand" in names
    fixed = replace(
        TINY,
        resolutions=(8,),
        stem_widths=(8,),
        stages=(
            Stage((16,), (2,), (3,), (1,), 1, False),
            Stage((16, 24), (1,), (3,), (2,), 2, True),
        ),
        last_widths=(64,),
    )
    net = disturbed(fixed)
    assert net.space.names == ("stage2.width",)
    x = torch.rand(2, 1, 8, 8)
    for architecture in (net.space.smallest, net.space.largest):
        assert_extraction_is_exact(net, architecture, x)


def test_configure_follows_the_data_and_refuses_what_does_not_fit() -> None:
    config = family.configure("small-image", describe_images(3, 64, 64))
    assert (config.resolutions, config.classes) == ((48, 56, 64), 7)
    assert decode_config(family, json.loads(json.dumps(encode_config(family, config)))) == config
    assert_images_are_refused(
        family, "attentivenas", 32, "resolution 21 is below the total stride 32"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ()}, "stages is empty"),
        ({"resolutions": ()}, "resolutions is empty"),
        ({"resolutions": (8, 6)}, r"resolutions = \[8, 6\] must be rising"),
        ({"last_widths": (0, 8)}, r"last_widths = \[0, 8\] must be at least 1"),
        ({"stages": (Stage((8,), (0, 1), (3,), (1,), 1, False),)}, "stage 1 gives a stage without"),
        ({"stages": (Stage((8,), (1,), (4,), (1,), 1, False),)}, r"kernels = \[4\] must be odd"),
        ({"stages": (Stage((8,), (1,), (), (1,), 1, False),)}, "kernels of stage 1 is empty"),
        ({"stages": (Stage((16, 8), (1,), (3,), (1,), 1, False),)}, "stage 1 = .* must be rising"),
        ({"stem_stride": 4}, "resolution 5 is below the total stride 16"),
    ],
)  # fmt: skip
def test_bad_configurations_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


def test_bad_records_are_named() -> None:
    config = family.PRESETS["attentivenas"]
    good = record(*PUBLISHED[0][:-1])  # type: ignore[arg-type]
    for changes, message in (
        ({"depth": [1, 3]}, "'depth' must list 7 values"),
        ({"resolution": 200}, r"resolution = 200 is not a legal value; legal values are \[192"),
        ({"expand_ratio": [2, 4, 4, 4, 4, 6, 6]}, "stage1.expand = 2 is not a legal value"),
    ):
        with pytest.raises(ValueError, match=message):
            family.from_published(config, {**good, **changes})
    del good["resolution"]
    with pytest.raises(ValueError, match="'resolution' is missing"):
        family.from_published(config, good)

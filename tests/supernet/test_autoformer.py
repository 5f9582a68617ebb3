"""AutoFormer against independent references: formulas by loops, masks, and published counts."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from supernet.families import autoformer as family
from supernet.families._pixels import PixelStatistics
from supernet.families._vit import RelativeAttention, index_distances
from supernet.space import Architecture, SearchSpace, Value
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
from tests.toys.written_vit import Written, attend_by_loops, evaluate_written, find_entries

CONFIG = family.Config(
    classes=7,
    channels=2,
    size=6,
    patch=2,
    widths=(12, 16, 20),
    heads=(1, 2, 3),
    head_size=4,
    ratios=(1.5, 2.0, 2.75),
    depths=(1, 2, 4),
    # Kept in single precision, which holds these exactly.
    pixels=PixelStatistics((0.5, 0.25), (0.25, 0.5)),
)
IMAGES = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def describe(architecture: Architecture, config: family.Config) -> Written:
    """The sizes of a subnetwork; the width of its feed-forwards is rounded down."""
    width, layers = int(architecture["width"]), []
    for i in range(1, int(architecture["depth"]) + 1):
        hidden = int(width * float(architecture[f"layer{i}.ratio"]))
        layers.append((int(architecture[f"layer{i}.heads"]), hidden))
    return Written(config.patch, width, config.head_size, layers, config.relative)


def formula(
    weights: dict[str, Tensor], architecture: Architecture, config: family.Config
) -> Tensor:
    mean, std = (
        torch.tensor(part, dtype=torch.float64).view(2, 1, 1)
        for part in (config.pixels.mean, config.pixels.std)
    )
    return evaluate_written(weights, (IMAGES - mean) / std, describe(architecture, config))


def name_weights(net: Supernet) -> dict[str, Tensor]:
    return {n: p.detach().clone().requires_grad_() for n, p in net.model.named_parameters()}


@pytest.mark.exactness
@pytest.mark.parametrize("relative", [True, False])
def test_subnetworks_equal_the_written_out_formula(relative: bool) -> None:
    config = replace(CONFIG, relative=relative)
    net = shake(family.build(config))
    weights = name_weights(net)
    with torch.no_grad():
        for architecture in draw_members(net, 12):
            expected = formula(weights, architecture, config)
            assert (net(IMAGES, architecture) - expected).abs().max() < 1e-11
            assert expected.std(0).min() > 1e-3


def test_gradients_equal_autograd_through_the_written_out_formula() -> None:
    net = shake(family.build(CONFIG))
    for architecture in draw_members(net, 3):
        net.zero_grad()
        net(IMAGES, architecture).square().sum().backward()
        weights = name_weights(net)
        formula(weights, architecture, CONFIG).square().sum().backward()
        assert_gradients_agree(net.model, weights, 1e-8)
        heads = int(architecture["layer1.heads"]) * CONFIG.head_size
        query = net.model.layers[0].attention.query.weight.grad
        width = int(architecture["width"])
        assert query[:heads, :width].abs().max() > 0
        assert not query[heads:].any()
        assert not query[:, width:].any()


def masked(net: Supernet, architecture: Architecture) -> nn.Module:
    """The full network in which whatever is not kept adds nothing; its width is whole."""
    model = copy.deepcopy(net.model)
    with torch.no_grad():
        for i, layer in enumerate(model.layers, start=1):
            if i > architecture["depth"]:
                for module in (layer.attention.out, layer.ffn.down):
                    module.weight.zero_()
                    module.bias.zero_()
                continue
            heads = int(architecture[f"layer{i}.heads"])
            layer.attention.out.weight[:, heads * CONFIG.head_size :] = 0
            hidden = int(CONFIG.widths[-1] * float(architecture[f"layer{i}.ratio"]))
            layer.ffn.down.weight[:, hidden:] = 0
    return model


@pytest.mark.exactness
def test_heads_hidden_units_and_layers_equal_the_masked_full_network() -> None:
    net = shake(family.build(CONFIG))
    with torch.no_grad():
        for member in draw_members(net, 20):
            values = {**member.to_dict(), "width": CONFIG.widths[-1]}
            architecture = net.space.architecture(values)
            expected = masked(net, architecture)(IMAGES)
            assert (net(IMAGES, architecture) - expected).abs().max() < 1e-11
            assert expected.std(0).min() > 1e-4


# -- relative position -----------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "reach"), [(3, 14), (4, 2), (5, 1)])
def test_distances_by_loops(side: int, reach: int) -> None:
    """Also where patches are further apart than tables reach."""
    found = index_distances(side, reach)
    tokens = 1 + side * side
    assert found.dtype == torch.int64
    assert int(found.max()) == reach + 1 + min(reach, side - 1) < 2 * reach + 2
    assert found.shape == (2, tokens, tokens)
    for i in range(tokens):
        for j in range(tokens):
            assert tuple(found[:, i, j].tolist()) == find_entries(i, j, side, reach)


@pytest.mark.exactness
def test_relative_attention_equals_a_loop_over_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    attention = RelativeAttention(3, 4, reach=1).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(generator=generator)
    assert [p.shape for p in attention.parameters()] == [(4, 4)] * 4
    q, k, v = torch.randn(3, 2, 2, 10, 4, generator=generator, dtype=torch.float64)
    tables = {f"attention.relative.{n}": p for n, p in attention.named_parameters()}
    with torch.no_grad():
        found = attention(q, k, v)
        for head in range(2):
            expected = attend_by_loops(q[:, head], k[:, head], v[:, head], 3, tables, reach=1)
            torch.testing.assert_close(found[:, head], expected, rtol=1e-12, atol=1e-12)


def test_tables_are_those_published_and_whole_in_every_subnetwork() -> None:
    net = family.build(CONFIG)
    for architecture in (net.space.smallest, net.space.largest):
        relative = net.extract(architecture).get_submodule("layers.0.attention.relative")
        shapes = {name: tuple(p.shape) for name, p in relative.named_parameters()}
        assert shapes == {
            f"{of}_{along}": (2 * 14 + 2, 4)
            for of in ("key", "value") for along in ("rows", "columns")
        }  # fmt: skip
        assert not set(relative.state_dict()) - set(shapes)


def test_query_biases_change_queries_and_no_keys() -> None:
    """Rows of fused weights that are cut as one prefix mix the roles of biases."""
    net = shake(family.build(CONFIG))
    for architecture in draw_members(net, 3):
        before = record_projections(net, architecture)
        with torch.no_grad():
            net.model.layers[0].attention.query.bias.add_(1.0)
        after = record_projections(net, architecture)
        torch.testing.assert_close(after["query"], before["query"] + 1)
        assert torch.equal(after["key"], before["key"])
        assert torch.equal(after["value"], before["value"])


def record_projections(net: Supernet, architecture: Architecture) -> dict[str, Tensor]:
    """What the first layer of a subnetwork makes its queries, keys and values."""
    seen: dict[str, Tensor] = {}
    attention = net.shell(architecture).network.get_submodule("layers.0.attention")
    handles = [
        attention.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: output})
        )
        for name in ("query", "key", "value")
    ]
    with torch.no_grad():
        net(IMAGES, architecture)
    for handle in handles:
        handle.remove()
    return seen


# -- counts ----------------------------------------------------------------------------------------


def count_by_hand(architecture: Architecture, config: family.Config) -> int:
    sizes = describe(architecture, config)
    width, patches = sizes.width, (config.size // config.patch) ** 2
    total = config.channels * config.patch**2 * width + width  # filters
    total += width + (1 + patches) * width + 2 * width  # class token, positions, last norm
    total += width * config.classes + config.classes
    for heads, hidden in sizes.layers:
        inner = heads * config.head_size
        total += 3 * (width * inner + inner) + inner * width + width
        total += width * hidden + hidden + hidden * width + width + 4 * width
        total += 4 * 30 * config.head_size if config.relative else 0
    return total


def make_even(space: SearchSpace, width: int, heads: int, ratio: float, depth: int) -> Architecture:
    """The architecture whose layers are all alike."""
    values: dict[str, Value] = {"width": width, "depth": depth}
    for i in range(1, depth + 1):
        values |= {f"layer{i}.heads": heads, f"layer{i}.ratio": ratio}
    return space.architecture(values)


def test_parameters_equal_the_closed_form() -> None:
    net = family.build(CONFIG)
    chosen = draw_members(net, 10)
    expected = [count_by_hand(architecture, CONFIG) for architecture in chosen]
    positions = net.space.encode(chosen)
    assert net.cost_model().parameters(positions).tolist() == expected
    assert [net.parameter_count(architecture) for architecture in chosen] == expected


@pytest.mark.parametrize(
    ("preset", "width", "heads", "published"),
    [("t", 192, 3, 5_717_416), ("s", 384, 6, 22_050_664)],
)
def test_the_spaces_hold_the_published_networks_of_deit(
    preset: str, width: int, heads: int, published: int
) -> None:
    """DeiT-Ti and DeiT-S (Touvron et al. 2021) are members, but for relative positions."""
    config = replace(family.PRESETS[preset], relative=False)
    architecture = make_even(family.make_space(config), width, heads, 4.0, 12)
    assert count_by_hand(architecture, config) == published
    if preset == "t":
        assert family.build(config).parameter_count(architecture) == published


@pytest.mark.parametrize(("preset", "millions"), [("t", 5.7), ("s", 22.9), ("b", 53.7)])
def test_the_published_spaces_hold_networks_of_the_published_sizes(
    preset: str, millions: float
) -> None:
    config = family.PRESETS[preset]
    space = family.make_space(config)
    ends = [count_by_hand(a, config) / 1e6 for a in (space.smallest, space.largest)]
    assert ends[0] < millions < ends[1]


def test_the_space_counts_layers_that_are_there() -> None:
    space = family.make_space(CONFIG)
    assert space.size == 3 * sum(9**depth for depth in (1, 2, 4))
    assert space.choice("layer1.heads").needs is None
    # Depths are 1, 2 and 4: the third layer comes together with the fourth.
    assert space.choice("layer3.ratio").needs == ("depth", 4)
    assert family.make_space(family.PRESETS["t"]).size == 3 * sum(4**d for d in (12, 13, 14))


def test_hidden_units_are_rounded_down() -> None:
    assert [family.compute_hidden(w, r) for w, r in ((20, 2.75), (12, 2.75), (100, 2.3))] == [
        55, 33, 230,
    ]  # fmt: skip
    assert family.compute_hidden(216, 3.5) == 756
    assert family.compute_hidden(9, 1.5) == 13


# -- the rest --------------------------------------------------------------------------------------


def test_onnx_runtime_agrees_for_any_batch() -> None:
    for relative in (True, False):
        net = family.build(replace(CONFIG, relative=relative)).eval()
        for architecture in draw_members(net, 1):
            network = net.extract(architecture)
            outputs = assert_onnx_runtime_agrees(network, IMAGES.float(), rtol=1e-5)
            assert_onnx_runtime_agrees(network, IMAGES[:1].float(), rtol=1e-5)
            assert outputs.std(0).min() > 1e-3


def test_hidden_units_sorted_by_importance_leave_the_largest_as_it_was() -> None:
    net = shake(family.build(CONFIG))
    assert len(find_channel_groups(net, ["expand"])) == 4
    with torch.no_grad():
        before = net(IMAGES, net.space.largest)
        small = net(IMAGES, net.space.smallest)
        reorganise(net)
        torch.testing.assert_close(net(IMAGES, net.space.largest), before)
        assert not torch.allclose(net(IMAGES, net.space.smallest), small, atol=1e-3)


def test_what_is_looked_up_by_place_does_not_decay() -> None:
    net = family.build(CONFIG)
    tables = {f"{of}_{along}" for of in ("key", "value") for along in ("rows", "columns")}
    expected = {"model.embedding.token", "model.embedding.positions"}
    expected |= {f"model.layers.{i}.attention.relative.{t}" for i in range(4) for t in tables}
    assert net.no_decay == expected
    assert expected <= {name for name, _ in net.named_parameters()}


def test_configure_follows_the_data() -> None:
    config = family.configure("tiny", describe_images(3, 20, 20))
    assert (config.size, config.patch, config.classes, config.channels) == (20, 5, 7, 3)
    assert config.pixels.mean == (0.5, 0.5, 0.5)
    # 14 patches a side do not divide 256 pixels; patches of 16 do.
    assert family.configure("t", describe_images(3, 256, 256)).patch == 16
    assert family.configure("t", describe_images(3, 448, 448)).patch == 32
    message = "not for images of 9x9 pixels: size = 9 is not a multiple of patch = 2"
    assert_images_are_refused(family, "tiny", 9, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (20, 12)}, r"widths = \[20, 12\] must be rising"),
        ({"heads": ()}, "heads is empty"),
        ({"heads": (0, 1)}, "heads = 0 must be at least 1"),
        ({"head_size": 0}, "head_size = 0 must be at least 1"),
        ({"depths": (0, 1)}, "depths = 0 must be at least 1"),
        ({"ratios": (0.01, 1.0)}, r"ratios = \[0.01, 1.0\] leave no hidden units at width 12"),
        ({"patch": 4}, "size = 6 is not a multiple of patch = 4"),
        ({"patch": 0}, "patch = 0 must be at least 1"),
        ({"dropout": 1.0}, "dropout = 1.0 must be at least 0 and below 1"),
    ],
)
def test_impossible_configurations(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)

"""Weight bits as ordinary choices: levels, gradients, exact sizes, and the same search arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.elastic.edits import Derive
from supernet.elastic.fake_quantisation import fake_quantize
from supernet.families import ofa_mobilenetv3 as family
from supernet.space import Architecture, Value
from supernet.supernet import Supernet
from supernet.testing.exactness import (
    assert_extraction_is_exact,
    assert_same_outputs,
    doubled,
    relative_difference,
)
from tests.toys.networks import draw_members, shake_statistics

CONFIG = family.PRESETS["tiny-bits"]


def images(net: Supernet, architecture: Architecture, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((count, *net.input_shape(architecture)), generator=generator)


def at_bits(net: Supernet, architecture: Architecture, bits: int) -> Architecture:
    """The same network with every block at these bits."""
    values: dict[str, Value] = dict(zip(architecture.names, architecture.values, strict=True))
    values.update({name: bits for name in values if name.endswith(".weight_bits")})
    return net.space.architecture(values)


def bits_of(architecture: Architecture) -> dict[str, int]:
    """Bits of every weight that has a choice, by its name in the extracted network."""
    result = {}
    for name, value in architecture.to_dict().items():
        if name.endswith(".weight_bits"):
            stage, block = (int(part.lstrip("stageblock")) for part in name.split(".")[:2])
            path = f"stages.{stage - 1}.{block - 1}"
            for part in ("expand", "depthwise", "project"):
                result[f"{path}.{part}.conv.weight"] = int(value)
            for part in ("reduce", "expand"):
                result[f"{path}.squeeze.{part}.weight"] = int(value)
    return result


def levels(channel: Tensor) -> int:
    return len(torch.unique(channel))


def test_bits_are_choices_of_the_space() -> None:
    plain = family.build(family.PRESETS["tiny"]).space
    space = family.make_space(CONFIG)
    bits = [choice for choice in space.choices if choice.kind == "weight_bits"]
    assert len(bits) == 6
    assert all(choice.values == (4, 8, 32) for choice in bits)
    assert len(space) == len(plain) + 6
    # Three stages of one or two blocks: two kernels, three expand ratios, three bits each.
    assert space.size == 3 * (18 + 18**2) ** 3
    absent = space.architecture({**space.largest.to_dict(), "stage2.depth": 1})
    assert "stage2.block2.weight_bits" not in absent.to_dict()


def test_32_bits_are_the_network_without_quantisation() -> None:
    net = shake_statistics(family.build(CONFIG), 0.2).double()
    plain = family.build(family.PRESETS["tiny"]).double()
    plain.load_state_dict(net.state_dict())
    plain.eval()
    with torch.no_grad():
        for architecture in draw_members(net, 10):
            full = at_bits(net, architecture, 32)
            names = (n for n in full.names if not n.endswith(".weight_bits"))
            same = plain.space.architecture({name: full[name] for name in names})
            x = doubled(images(net, full))
            assert_same_outputs(net(x, full), plain(x, same))
            coarse = at_bits(net, architecture, 4)
            assert relative_difference(net(x, coarse), net(x, full)) > 1e-4


def test_weights_have_no_more_levels_than_their_bits() -> None:
    net = shake_statistics(family.build(CONFIG), 0.2)
    met = set()
    for architecture in draw_members(net, 12, seed=1):
        weights = dict(net.extract(architecture).named_parameters())
        for name, bits in bits_of(architecture).items():
            if name not in weights or bits == 32:
                continue
            met.add(bits)
            for channel in weights[name].detach():
                assert levels(channel) <= 2**bits - 1
                # The scale belongs to what is kept: its largest weight is exactly a level.
                step = channel.abs().max() / (2 ** (bits - 1) - 1)
                assert torch.allclose(channel / step, (channel / step).round(), atol=1e-3)
    assert met == {4, 8}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_rounding_is_to_the_nearest_level(bits: int) -> None:
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(2))
    weight[4] = 0
    result = fake_quantize(weight, (bits,))
    most = 2 ** (bits - 1) - 1
    step = weight.abs().amax((1, 2, 3), keepdim=True) / most
    assert ((result - weight).abs() <= step / 2 * 1.001).all()
    torch.testing.assert_close(result.abs().amax((1, 2, 3)), weight.abs().amax((1, 2, 3)))
    assert not result[4].any()
    assert max(levels(channel) for channel in result) <= 2**bits - 1
    assert levels(torch.linspace(-1, 1, 1000)) == 1000
    assert levels(fake_quantize(torch.linspace(-1, 1, 1000)[None], (bits,))) == 2**bits - 1


@pytest.mark.exactness
def test_extraction_is_exact() -> None:
    net = shake_statistics(family.build(CONFIG), 0.2).double()
    for architecture in draw_members(net, 100, seed=3):
        assert_extraction_is_exact(net, architecture, images(net, architecture))


def quantised_by_hand(weight: Tensor, bits: int) -> Tensor:
    most = 2 ** (bits - 1) - 1
    step = weight.abs().amax((1, 2, 3), keepdim=True) / most
    return (weight / step).round().clamp(-most, most) * step


def test_gradients_pass_straight_through_the_rounding() -> None:
    """What reaches a weight is the gradient at the rounded weight, as if it had been the weight."""
    net = shake_statistics(family.build(CONFIG), 0.2)
    architecture = at_bits(net, net.space.largest, 4)
    x = images(net, architecture)
    net(x, architecture).square().sum().backward()
    alone = net.extract(architecture)
    weights = dict(net.model.named_parameters())
    for name in bits_of(architecture):
        if name in weights:
            rounded = quantised_by_hand(weights[name].detach(), 4)
            torch.testing.assert_close(alone.get_parameter(name).detach(), rounded)
    alone(x).square().sum().backward()
    met = 0
    for name, parameter in alone.named_parameters():
        assert weights[name].grad is not None
        torch.testing.assert_close(weights[name].grad, parameter.grad, rtol=1e-4, atol=1e-5)
        met += name in bits_of(architecture) and bool(parameter.grad.any())
    assert met == len([name for name in bits_of(architecture) if name in weights])


def test_gradients_of_a_smaller_network_stay_in_what_is_kept() -> None:
    net = shake_statistics(family.build(CONFIG), 0.2)
    smallest = net.space.smallest
    assert set(bits_of(smallest).values()) == {4}
    net(images(net, smallest), smallest).square().sum().backward()
    kept = net.extract(smallest).get_parameter("stages.1.0.project.conv.weight").shape[1]
    gradient = net.model.get_parameter("stages.1.0.project.conv.weight").grad
    assert gradient is not None
    assert gradient[:, :kept].any()
    assert not gradient[:, kept:].any()


def size_by_hand(network: nn.Module, bits: dict[str, int]) -> int:
    """Whole bytes of every tensor at its own precision, plus a float scale per rounded channel."""
    total = 0
    for name, parameter in network.named_parameters():
        width = bits.get(name, 32)
        total += -(-parameter.numel() * width // 8)
        total += 4 * len(parameter) if width < 32 else 0
    statistics = ("running_mean", "running_var", "normalize.mean", "normalize.std")
    named = network.named_buffers()
    return total + sum(4 * b.numel() for name, b in named if name.endswith(statistics))


def test_sizes_are_those_of_the_extracted_network() -> None:
    net = shake_statistics(family.build(CONFIG), 0.2)
    model = net.cost_model()
    chosen = draw_members(net, 25, seed=4)
    sizes = model.size_bytes(net.space.encode(chosen))
    expected = [size_by_hand(net.extract(a), bits_of(a)) for a in chosen]
    assert sizes.tolist() == expected
    full, half, least = (at_bits(net, net.space.largest, bits) for bits in (32, 8, 4))
    plain, middle, small = model.size_bytes(net.space.encode([full, half, least]))
    rows = bits_of(full)
    choosable = sum(p.numel() for n, p in net.model.named_parameters() if n in rows)
    scales = sum(len(p) for n, p in net.model.named_parameters() if n in rows)
    assert plain - middle == choosable * 3 - 4 * scales
    assert middle - small == choosable / 2
    assert plain == size_by_hand(net.model, {})


def test_bits_change_neither_latency_units_nor_counts() -> None:
    """Arithmetic stays in float: bits change storage and quality, nothing that takes time."""
    net = shake_statistics(family.build(CONFIG), 0.2)
    model = net.cost_model()
    chosen = draw_members(net, 6, seed=5)
    rows = [net.space.encode([at_bits(net, a, bits) for a in chosen]) for bits in (4, 8, 32)]
    for other in rows[1:]:
        assert (model.index(rows[0]) == model.index(other)).all()
        assert (model.macs(rows[0]) == model.macs(other)).all()
        assert (model.parameters(rows[0]) == model.parameters(other)).all()
    plain = family.build(family.PRESETS["tiny"]).cost_model()
    assert {u.digest for u in model.distinct} == {u.digest for u in plain.distinct}


def test_search_arrays_treat_bits_like_any_gene() -> None:
    net = shake_statistics(family.build(CONFIG), 0.2)
    space, rng = net.space, np.random.default_rng(0)
    first, second = space.sample(rng, 300), space.sample(rng, 300)
    for positions in (first, space.mutate(first, rng, 0.3), space.crossover(first, second, rng)):
        assert (space.canonical(positions) == positions).all()
        assert (space.encode(space.decode(positions)) == positions).all()
    column = space.index("stage1.block1.weight_bits")
    assert set(np.unique(first[:, column])) == {0, 1, 2}
    assert (space.mutate(first, rng, 1.0)[:, column] != first[:, column]).all()
    least = space.restrict({n: (4,) for n in space.names if n.endswith(".weight_bits")})
    assert least.size == family.make_space(family.PRESETS["tiny"]).size
    assert space.architecture_from_json(space.largest.to_json()) == space.largest


def test_rows_are_ordinary_rows() -> None:
    net = shake_statistics(family.build(CONFIG), 0.2)
    rows = [edit for edit in net.edits if isinstance(edit, Derive) and edit.bits is not None]
    assert {row.function for row in rows} == {fake_quantize}
    depthwise = [
        edit
        for edit in net.edits
        if getattr(edit, "tensor", "").endswith("0.depthwise.conv.weight")
    ]
    kinds = [
        type(edit).__name__ + ("-bits" if getattr(edit, "bits", None) else "") for edit in depthwise
    ]
    # Cut, then crop the kernel, then round: the scale belongs to what is left.
    assert kinds[:3] == ["Cut", "Derive", "Derive-bits"]

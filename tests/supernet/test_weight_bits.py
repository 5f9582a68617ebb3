"""Weights of few bits as number formats: levels, gradients, exact sizes, the same search arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supernet.families import ofa_mobilenetv3 as family
from supernet.precision.elastic import list_precision_choices
from supernet.quantization.formats import find_format
from supernet.quantization.weights import quantize_weight
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.testing.exactness import (
    assert_extraction_is_exact,
    assert_same_outputs,
    doubled,
    relative_difference,
)
from supernet.testing.precision_networks import build_elastic, draw_prepared
from tests.toys.networks import draw_members, shake_statistics

POLICY = "fp32,w4a32,w8a32"


def build() -> Supernet:
    return shake_statistics(build_elastic(family, POLICY), 0.2)


def images(net: Supernet, architecture: Architecture, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((count, *net.input_shape(architecture)), generator=generator)


def in_format(net: Supernet, architecture: Architecture, name: str) -> Architecture:
    """The same network with every unit in one format."""
    values = architecture.to_dict()
    kinds = {choice.name for choice in list_precision_choices(net.space)}
    return net.space.architecture({n: name if n in kinds else v for n, v in values.items()})


def bits_of(architecture: Architecture, network: nn.Module) -> dict[str, int]:
    """Bits of every weight of a convolution or a product, by its name in the network."""
    layers = (nn.Conv2d, nn.Linear)
    return {
        f"{path}.weight": find_format(str(value)).weight_bits
        for unit, value in architecture.to_dict().items()
        if unit.endswith(".precision")
        for path, module in network.named_modules()
        if path.startswith(f"{unit.removesuffix('.precision')}.") and isinstance(module, layers)
    }


def levels(channel: Tensor) -> int:
    return len(torch.unique(channel))


def test_bits_are_choices_of_the_space() -> None:
    net = build_elastic(family, POLICY)
    plain = family.make_space(family.PRESETS["tiny"])
    bits = list_precision_choices(net.space)
    # Stem, first block, three stages of two blocks, head.
    assert len(bits) == 9
    assert all(choice.values == ("w4a32", "w8a32", "fp32") for choice in bits)
    assert len(net.space) == len(plain) + 9
    # Stages of one or two blocks: two kernels, three expand ratios, three formats each.
    assert net.space.size == 3 * (18 + 18**2) ** 3 * 3**3
    absent = net.space.architecture({**net.space.largest.to_dict(), "stage2.depth": 1})
    assert "stages.1.1.precision" not in absent.to_dict()


def test_in_float_it_is_the_network_without_bits() -> None:
    net = build().double()
    plain = family.build(family.PRESETS["tiny"]).double()
    plain.load_state_dict(net.state_dict())
    plain.eval()
    with torch.no_grad():
        for architecture in draw_members(net, 10):
            full = in_format(net, architecture, "fp32")
            same = plain.space.architecture({name: full[name] for name in plain.space.names})
            x = doubled(images(net, full))
            assert_same_outputs(net(x, full), plain(x, same))
            coarse = in_format(net, architecture, "w4a32")
            assert relative_difference(net(x, coarse), net(x, full)) > 1e-4


def test_stored_weights_are_the_integers_of_their_bits() -> None:
    met = set()
    for prepared in draw_prepared(build(), 12, seed=1):
        for spec in prepared.graph.weights:
            if spec.dtype != "int8":
                continue
            bits = spec.bits or 8
            most = 2 ** (bits - 1) - 1
            # The scale belongs to what is kept: its largest weight is exactly the last level.
            assert np.abs(prepared.values[spec.name]).max() == most
            met.add(bits)
    assert met == {4, 8}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_rounding_is_to_the_nearest_level(bits: int) -> None:
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(2))
    weight[4] = 0
    result = quantize_weight(weight, bits)
    most = 2 ** (bits - 1) - 1
    step = weight.abs().amax((1, 2, 3), keepdim=True) / most
    assert ((result - weight).abs() <= step / 2 * 1.001).all()
    torch.testing.assert_close(result.abs().amax((1, 2, 3)), weight.abs().amax((1, 2, 3)))
    assert not result[4].any()
    assert max(levels(channel) for channel in result) <= 2**bits - 1
    assert levels(torch.linspace(-1, 1, 1000)) == 1000
    assert levels(quantize_weight(torch.linspace(-1, 1, 1000)[None], bits)) == 2**bits - 1


@pytest.mark.exactness
def test_extraction_is_exact() -> None:
    net = build().double()
    for architecture in draw_members(net, 100, seed=3):
        assert_extraction_is_exact(net, architecture, images(net, architecture))


def round_by_hand(network: nn.Module, bits: dict[str, int]) -> None:
    """Put rounded weights in the place of those of a network in float."""
    for name, parameter in network.named_parameters():
        if bits.get(name, 32) < 32:
            most = 2 ** (bits[name] - 1) - 1
            weight = parameter.detach()
            step = weight.flatten(1).abs().amax(1).view(-1, *[1] * (weight.dim() - 1)) / most
            parameter.data = (weight / step).round().clamp(-most, most) * step


def test_gradients_pass_straight_through_the_rounding() -> None:
    """What reaches a weight is the gradient at the rounded weight, as if it had been the weight.

    Bengio et al. 2013, section 4; EQ-Net uses the same estimator.
    """
    net = build()
    architecture = in_format(net, net.space.largest, "w4a32")
    x = images(net, architecture)
    expected = net(x, architecture)
    expected.square().sum().backward()
    alone = net.extract(in_format(net, architecture, "fp32"))
    bits = bits_of(architecture, alone)
    round_by_hand(alone, bits)
    output = alone(x)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    output.square().sum().backward()
    inside = dict(net.model.named_parameters())
    met = 0
    for name, parameter in alone.named_parameters():
        torch.testing.assert_close(inside[name].grad, parameter.grad, rtol=1e-3, atol=1e-4)
        met += name in bits and bool(parameter.grad.any())
    assert met == len(bits)


def test_gradients_of_a_smaller_network_stay_in_what_is_kept() -> None:
    net = build()
    smallest = net.space.smallest
    assert set(bits_of(smallest, net.extract(smallest)).values()) == {4}
    net(images(net, smallest), smallest).square().sum().backward()
    kept = net.extract(smallest).get_parameter("stages.1.0.project.conv.weight").shape[1]
    gradient = net.model.get_parameter("stages.1.0.project.conv.weight").grad
    assert gradient is not None
    assert gradient[:, :kept].any()
    assert not gradient[:, kept:].any()


def size_by_hand(network: nn.Module, bits: dict[str, int]) -> int:
    """Bytes of every tensor at its own bits, eight entries a time, plus a scale per channel."""
    total = 0
    for name, parameter in network.named_parameters():
        width = bits.get(name, 32)
        total += width * -(-parameter.numel() // 8) if width < 32 else 4 * parameter.numel()
        total += 4 * len(parameter) if width < 32 else 0
    statistics = ("running_mean", "running_var", "normalize.mean", "normalize.std")
    named = network.named_buffers()
    return total + sum(4 * b.numel() for name, b in named if name.endswith(statistics))


def test_sizes_are_those_of_the_extracted_network() -> None:
    net = build()
    model = net.cost_model()
    chosen = draw_members(net, 25, seed=4)
    sizes = model.size_bytes(net.space.encode(chosen))
    networks = [net.extract(architecture) for architecture in chosen]
    expected = [size_by_hand(n, bits_of(a, n)) for a, n in zip(chosen, networks, strict=True)]
    assert sizes.tolist() == expected
    largest = net.space.largest
    full, half, least = (in_format(net, largest, name) for name in ("fp32", "w8a32", "w4a32"))
    plain, middle, small = model.size_bytes(net.space.encode([full, half, least]))
    rows = bits_of(half, net.model)
    choosable = sum(p.numel() for n, p in net.model.named_parameters() if n in rows)
    scales = sum(len(p) for n, p in net.model.named_parameters() if n in rows)
    assert plain - middle == choosable * 3 - 4 * scales
    assert middle - small == choosable / 2
    assert plain == size_by_hand(net.model, {})


def test_bits_change_neither_multiply_adds_nor_weights() -> None:
    net = build()
    model = net.cost_model()
    chosen = draw_members(net, 6, seed=5)
    names = ("w4a32", "w8a32", "fp32")
    rows = [net.space.encode([in_format(net, a, name) for a in chosen]) for name in names]
    for other in rows[1:]:
        assert (model.macs(rows[0]) == model.macs(other)).all()
    assert (model.parameters(rows[0]) == model.parameters(rows[1])).all()


def test_search_arrays_treat_formats_like_any_gene() -> None:
    net = build()
    space, rng = net.space, np.random.default_rng(0)
    first, second = space.sample(rng, 300), space.sample(rng, 300)
    for positions in (first, space.mutate(first, rng, 0.3), space.crossover(first, second, rng)):
        assert (space.canonical(positions) == positions).all()
        assert (space.encode(space.decode(positions)) == positions).all()
    column = space.index("stages.0.0.precision")
    assert set(np.unique(first[:, column])) == {0, 1, 2}
    assert (space.mutate(first, rng, 1.0)[:, column] != first[:, column]).all()
    least = space.restrict({c.name: ("w4a32",) for c in list_precision_choices(space)})
    assert least.size == family.make_space(family.PRESETS["tiny"]).size
    assert space.architecture_from_json(space.largest.to_json()) == space.largest

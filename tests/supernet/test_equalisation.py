"""Data-free corrections: the float function stays, the error of per-tensor weights falls."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from supernet.errors import InputError
from supernet.quantization.equalisation import (
    FoldedLayer,
    equalise,
    equalise_pair,
)
from supernet.quantization.weights import quantize_weight


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def folded(module: nn.Module) -> FoldedLayer:
    assert isinstance(module, (nn.Conv2d, nn.Linear))
    bias = None if module.bias is None else module.bias.data
    return FoldedLayer(module.weight.data, bias)


def spread(network: nn.Sequential, decades: float = 4.0) -> nn.Sequential:
    """Scale the channels between layers over some decades, the function staying the same."""
    layers = [layer for layer in network if not isinstance(layer, nn.ReLU)]
    with torch.no_grad():
        for first, second in itertools.pairwise(layers):
            one, two = folded(first), folded(second)
            channels = len(one.weight)
            exponents = (torch.rand(channels, generator=generator(channels)) - 0.5) * decades
            factors = 10**exponents
            one.weight.mul_(factors.reshape(-1, *[1] * (one.weight.dim() - 1)))
            assert one.bias is not None
            one.bias.mul_(factors)
            groups = channels // two.weight.shape[1]
            for output, row in enumerate(two.weight):
                group = output * groups // len(two.weight)
                read = factors[group * len(row) : (group + 1) * len(row)]
                row.div_(read.reshape(-1, *[1] * (row.dim() - 1)))
    return network


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


def inverted_residual() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 24, 1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1, groups=24),
        nn.ReLU(),
        nn.Conv2d(24, 8, 1),
    )


def grouped() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 3, padding=1, groups=4)
    )


def pairs(network: nn.Sequential) -> list[tuple[FoldedLayer, FoldedLayer]]:
    layers = [folded(layer) for layer in network if not isinstance(layer, nn.ReLU)]
    return list(itertools.pairwise(layers))


def inputs(network: nn.Sequential, count: int = 64) -> Tensor:
    shape = (count, 32) if isinstance(network[0], nn.Linear) else (count, 8, 6, 6)
    return torch.randn(shape, generator=generator(1))


@torch.no_grad()
def quantized_output(network: nn.Sequential, x: Tensor) -> Tensor:
    """Outputs with weights of 8 bits and one scale per tensor."""
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    for name, value in network.named_parameters():
        if name.endswith("weight"):
            value.copy_(quantize_weight(value, 8, granularity="tensor"))
    output: Tensor = network(x)
    network.load_state_dict(kept)
    return output


@pytest.mark.parametrize("build", [perceptron, inverted_residual, grouped])
@torch.no_grad()
def test_equalising_keeps_the_function_and_lowers_the_error(
    build: Callable[[], nn.Sequential],
) -> None:
    network = spread(build())
    x = inputs(network)
    before = network(x)
    error_before = (quantized_output(network, x) - before).square().mean().item()
    rounds = equalise(pairs(network))
    assert rounds < 100
    after = network(x)
    assert (after - before).abs().max() <= 2e-6 * before.abs().max()
    error_after = (quantized_output(network, x) - after).square().mean().item()
    assert error_after < 1e-3 * error_before


@torch.no_grad()
def test_ranges_agree_afterwards() -> None:
    first, second = pairs(spread(grouped()))[0]
    equalise_pair(first, second)
    of_first = first.weight.abs().flatten(1).amax(1)
    # Input channel c is the (c mod 4)th of group c // 4, which has three outputs.
    for channel in range(16):
        group = channel // 4
        reader = second.weight[3 * group : 3 * group + 3, channel % 4]
        assert reader.abs().max().item() == pytest.approx(of_first[channel].item(), rel=1e-5)
    assert torch.allclose(equalise_pair(first, second), torch.ones(16), atol=1e-5)


def test_chains_need_several_rounds_and_end_where_nothing_moves() -> None:
    chain = pairs(spread(inverted_residual()))
    assert equalise(chain) > 2
    assert equalise(chain) == 1
    assert equalise([]) == 1


def test_dead_channels_stay_as_they_are() -> None:
    network = perceptron()
    (first, second), *_ = pairs(network)
    first.weight[3] = 0
    second.weight[:, 5] = 0
    kept = second.weight[:, 3].clone(), first.weight[5].clone()
    factors = equalise_pair(first, second)
    assert factors[3] == factors[5] == 1
    assert torch.equal(second.weight[:, 3], kept[0])
    assert torch.equal(first.weight[5], kept[1])
    assert factors.isfinite().all()


def test_layers_that_do_not_follow_one_another_are_refused() -> None:
    weight = torch.ones(6, 4)
    with pytest.raises(InputError, match=r"shape \(6, 4\) does not read 10 channels"):
        equalise_pair(FoldedLayer(torch.ones(10, 3)), FoldedLayer(weight))

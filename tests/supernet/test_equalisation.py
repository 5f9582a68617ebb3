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
    absorb_bias,
    correct_bias,
    equalise,
    equalise_pair,
    mean_output,
    relu_mean,
)
from supernet.quantization.quantizers import quantize_weight


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
    with pytest.raises(InputError, match="does not read 2 channels"):
        mean_output(weight, torch.ones(2))


@torch.no_grad()
def test_absorbing_keeps_the_function_where_all_pass() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(4, 6, 1).double(), nn.Conv2d(6, 5, 3).double()
    assert first.bias is not None
    first.bias.copy_(torch.tensor([9.0, 6.0, 0.1, -3.0, 7.0, 12.0]))
    x = torch.rand((16, 4, 5, 5), generator=generator(), dtype=torch.float64)
    hidden = first(x)
    before = second(hidden.relu())
    mean, std = hidden.mean((0, 2, 3)), hidden.std((0, 2, 3))
    # No sample lies so many deviations below its mean: the ReLU passes all that is absorbed.
    absorbed = absorb_bias(folded(first), folded(second), mean, std, deviations=4.0)
    assert (absorbed > 0).tolist() == [True, True, False, False, True, True]
    assert torch.allclose(second(first(x).relu()), before, atol=1e-12)
    assert first(x).relu().amax() < 0.5 * hidden.relu().amax()


def test_absorbing_needs_biases() -> None:
    layer = FoldedLayer(torch.ones(3, 3), torch.zeros(3))
    bare = FoldedLayer(torch.ones(3, 3))
    for first, second in ((layer, bare), (bare, layer)):
        with pytest.raises(InputError, match="needs one in both layers"):
            absorb_bias(first, second, torch.ones(3), torch.ones(3))


@pytest.mark.parametrize("groups", [1, 4, 12])
@torch.no_grad()
def test_a_corrected_bias_removes_the_mean_error(groups: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 24, 3, groups=groups, bias=False).double()
    shift = torch.linspace(0.5, 3, 12, dtype=torch.float64)
    x = torch.randn((64, 12, 12, 12), generator=generator(), dtype=torch.float64)
    x = (x + shift[:, None, None]).relu()
    quantized = quantize_weight(layer.weight, 3, granularity="tensor")
    exact = layer(x)
    rounded = nn.functional.conv2d(x, quantized, groups=groups)
    change = correct_bias(layer.weight, quantized, x.mean((0, 2, 3)))
    assert change.shape == (24,)
    error = (rounded - exact).mean((0, 2, 3))
    corrected = error + change
    # What is left is that the means under the kernel are not quite those of the image.
    assert corrected.abs().max() < 0.03 * error.abs().max()


def test_the_mean_after_a_relu_is_that_of_samples() -> None:
    mean = torch.tensor([-2.0, -0.5, 0.0, 1.0, 5.0, 0.7, -0.7], dtype=torch.float64)
    std = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0, 0.0, 0.0], dtype=torch.float64)
    samples = torch.randn((200_000, 7), generator=generator(), dtype=torch.float64) * std + mean
    assert torch.allclose(relu_mean(mean, std), samples.relu().mean(0), atol=0.015)

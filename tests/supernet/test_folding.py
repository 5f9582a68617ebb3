"""Normalisation is folded into a convolution only where it is all that reads the convolution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.quantization.calibration import calibrate_ranges
from supernet.quantization.execution import Execution
from supernet.quantization.folding import fold_normalization
from supernet.quantization.formats import INT8
from supernet.quantization.tracking import name_layer

Body = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Two convolutions and a normalisation, put together by a function."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.norm, self.other = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def prepare(body: Body) -> tuple[Net, Execution, Tensor]:
    torch.manual_seed(0)
    net = Net(body).eval()
    for path, parameter in net.named_parameters():
        name_layer(parameter, path.rpartition(".")[0])
    with torch.no_grad():
        net.first.weight.mul_(6)
        for norm in (net.norm, net.other):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                assert tensor is not None
                tensor.normal_()
    execution = Execution({"": INT8})
    execution.attach(net)
    return net, execution, torch.randn(4, 3, 8, 8)


def norm(net: Net, x: Tensor) -> Tensor:
    return net.second(F.relu(net.norm(net.first(x))))


def norm_of_a_copy(net: Net, x: Tensor) -> Tensor:
    return net.second(F.relu(net.norm(net.first(x).clone())))


def norm_and_size(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(net.norm(y).reshape(y.shape))


def call_both_twice(net: Net, x: Tensor) -> Tensor:
    return net.second(net.norm(net.first(x)) + net.norm(net.first(-x)))


def norm_after_relu(net: Net, x: Tensor) -> Tensor:
    return net.second(net.norm(F.relu(net.first(x))))


def norm_after_hard_swish_has_read(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(F.hardswish(y) + net.norm(y))


def read_after_norm(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.norm(y) + net.second(y)


def hard_swish_after_norm(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.norm(y) + net.second(F.hardswish(y))


def relu_beside_norm(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(F.relu(y) + net.norm(y))


def read_a_copy(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(y) + net.norm(y.clone())


def norm_twice(net: Net, x: Tensor) -> Tensor:
    return net.second(net.norm(net.norm(net.first(x))))


def two_norms(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(net.norm(y) + net.other(y))


def call_again_without_norm(net: Net, x: Tensor) -> Tensor:
    return net.second(net.norm(net.first(x)) + net.first(x))


def norm_of_two_layers(net: Net, x: Tensor) -> Tensor:
    y = net.norm(net.first(x))
    return net.norm(net.second(F.relu(y)))


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (norm, 1),
        (norm_of_a_copy, 1),
        (norm_and_size, 1),
        (call_both_twice, 1),
        (norm_after_relu, 0),
        (norm_after_hard_swish_has_read, 0),
        (read_after_norm, 0),
        (hard_swish_after_norm, 0),
        (relu_beside_norm, 0),
        (read_a_copy, 0),
        (norm_twice, 0),
        (two_norms, 0),
        (call_again_without_norm, 0),
        (norm_of_two_layers, 0),
    ],
)
def test_folding_leaves_what_a_network_computes_alone(body: Body, count: int) -> None:
    net, execution, inputs = prepare(body)
    with torch.no_grad(), execution.suspended():
        exact = net(inputs)
    assert fold_normalization(net, execution, inputs) == count
    calibrate_ranges(net, execution, [inputs], "minmax")
    with torch.no_grad():
        rounded = net(inputs)
        with execution.suspended():
            folded = net(inputs)
    assert torch.allclose(folded, exact, atol=1e-4)
    assert float((rounded - exact).norm()) < 0.05 * float(exact.norm())

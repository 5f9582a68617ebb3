"""Number formats of a network stay with it: through copies, interrupts and in-place operators."""

from __future__ import annotations

import copy
import gc
import io
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from supernet.quantization.affine import Affine
from supernet.quantization.execution import Execution, find_execution
from supernet.quantization.formats import INT8
from supernet.quantization.tracking import find_layer, find_state, name_layer

Body = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def quantize(network: nn.Module) -> Execution:
    """Let a network compute in 8 bits as a whole."""
    for path, parameter in network.named_parameters():
        name_layer(parameter, path.rpartition(".")[0])
    execution = Execution({"": INT8})
    execution.attach(network)
    return execution


def chain(net: Net, x: Tensor) -> Tensor:
    return net.second(F.relu(net.first(x)))


def make_input() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_copies_know_their_layers() -> None:
    net = Net(chain)
    execution = quantize(net)
    execution.steps = {"second@8": torch.full((8,), 0.05)}
    expected = net(make_input())
    twin = copy.deepcopy(net)
    of_twin = find_execution(twin)
    assert of_twin is not None
    assert of_twin is not execution
    assert find_layer(twin.second.weight) == ""
    with torch.no_grad(), of_twin.unchanged_weights():
        found = twin(make_input())
    assert torch.equal(found, expected)
    execution.steps = {}
    assert not torch.equal(net(make_input()), expected)


def test_copies_round_their_own_weights() -> None:
    net = Net(chain)
    execution = quantize(net)
    with torch.no_grad(), execution.unchanged_weights():
        net(make_input())
        twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in (*net.parameters(), *twin.parameters()):
            parameter.mul_(1.5)
        assert torch.equal(twin(make_input()), net(make_input()))


def test_outputs_are_tensors_like_any_other() -> None:
    net, reader = Net(lambda net, x: net.first(x)), Net(lambda net, x: net.first(x[:, :3]))
    quantize(net)
    known = quantize(reader)
    with torch.no_grad():
        found = net(make_input())
        plain = torch.from_numpy(found.numpy().copy())
        # The layer of the second network that has this name gives what is ten times as large.
        known.calibrated["first"] = Affine("first", torch.tensor(0.2), torch.tensor(128.0))
        assert torch.equal(reader(found), reader(plain))
        file = io.BytesIO()
        torch.save(found, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True), plain)


def test_an_interrupt_leaves_nothing_behind() -> None:
    def interrupt(net: Net, x: Tensor) -> Tensor:
        net.first(x)
        raise KeyboardInterrupt

    net, x = Net(interrupt), make_input()
    execution = quantize(net)
    with pytest.raises(KeyboardInterrupt):
        net(x)
    running = execution.running
    assert (running.depth, running.outer, running.unit) == (0, [], "")
    assert _get_current_function_mode_stack() == []
    assert find_state(x) is None


def add_in_place(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    y.add_(net.second(y))
    return net.second(y)


def activate_in_place(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    F.hardswish(y, True)
    return net.second(y)


def end_in_place(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    z = net.second(y)
    y.add_(z)
    return y


@pytest.mark.parametrize("body", [add_in_place, activate_in_place, end_in_place])
def test_what_is_overwritten_is_read_as_it_is_then(body: Body) -> None:
    torch.manual_seed(0)
    net = Net(body)
    with torch.no_grad():
        expected = net(make_input())
        quantize(net)
        found = net(make_input())
    assert float((found - expected).norm() / expected.norm()) < 0.02


def test_floats_written_into_integers_are_rounded_again() -> None:
    def scale(net: Net, x: Tensor) -> Tensor:
        y = net.first(x)
        y /= 3.0
        return net.second(y)

    net = Net(scale)
    execution = quantize(net)
    with torch.no_grad():
        net(make_input())
    assert list(execution.limits) == ["first/input", "first", "second/input"]


def test_networks_that_are_not_trained_further_are_freed() -> None:
    net = Net(lambda net, x: net.second(net.first(x)))
    execution = quantize(net)
    net(make_input())
    learned = torch.tensor([0.05, 0.0])
    execution.ranges = {f"{key}@8": nn.Parameter(learned.clone()) for key in execution.limits}
    alive: list[weakref.ref[Tensor]] = []
    net.first.register_forward_hook(lambda m, args, out: alive.append(weakref.ref(out)))
    net(make_input())
    gc.collect()
    assert [reference() for reference in alive] == [None]

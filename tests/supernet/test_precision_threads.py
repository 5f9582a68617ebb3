"""One extracted network in integers in several threads at once."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor, nn

from supernet.families import ofa_mobilenetv3, resnet
from supernet.quantization.execution import find_execution
from supernet.testing.precision_networks import build_elastic, draw_prepared, prepare

THREADS, ROUNDS = 2, 12


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Threads that take turns a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def run_together(networks: list[nn.Module], inputs: list[Tensor]) -> list[list[Tensor]]:
    """Outputs of each network over and over again, every one in a thread of its own."""
    start = Barrier(len(networks))

    def run(network: nn.Module, images: Tensor) -> list[Tensor]:
        start.wait()
        with torch.no_grad():
            return [network(images) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(len(networks)) as pool:
        return list(pool.map(run, networks, inputs))


@pytest.mark.parametrize("family", [ofa_mobilenetv3, resnet])
def test_threads_that_share_a_network_get_what_one_gets(family: object) -> None:
    net = build_elastic(family, "fp32,int8,w4a8")  # type: ignore[arg-type]
    prepared = next(draw_prepared(net, 1, seed=3))
    inputs = [prepared.inputs[:2], prepared.inputs[2:4]]
    with torch.no_grad():
        alone = [prepared.network(images) for images in inputs]
    together = run_together([prepared.network] * THREADS, inputs)
    for expected, found in zip(alone, together, strict=True):
        assert all(torch.equal(expected, output) for output in found)


def test_units_that_share_an_input_do_not_take_each_others_ranges() -> None:
    """What is noted of an input while a network runs belongs to the thread that runs it."""
    net = build_elastic(resnet, "int8")
    smallest = net.space.smallest
    images = [torch.rand(16, *net.input_shape(smallest)) * scale for scale in (1.0, 1.7)]
    networks = [prepare(net, smallest, sample).network for sample in images]
    shared = images[1] * 2 - 1
    units = [network.get_submodule("stem") for network in networks]

    def settle(unit: nn.Module, network: nn.Module) -> Tensor:
        execution = find_execution(network)
        assert execution is not None
        return execution.settle(unit(shared))

    with torch.no_grad():
        pairs = list(zip(units, networks, strict=True))
        alone = [settle(*pair) for pair in pairs]
        assert not torch.equal(*alone)
    start = Barrier(THREADS)

    def run(pair: tuple[nn.Module, nn.Module]) -> list[Tensor]:
        start.wait()
        with torch.no_grad():
            return [settle(*pair) for _ in range(20 * ROUNDS)]

    with ThreadPoolExecutor(THREADS) as pool:
        for expected, found in zip(alone, pool.map(run, pairs), strict=True):
            assert all(torch.equal(expected, output) for output in found)


def test_an_error_in_one_thread_leaves_the_others_alone() -> None:
    net = build_elastic(resnet, "int8")
    prepared = next(draw_prepared(net, 1, seed=1))
    images = prepared.inputs[:2]
    with torch.no_grad():
        expected = prepared.network(images)
    start = Barrier(THREADS)

    def fail() -> int:
        start.wait()
        failed = 0
        for _ in range(ROUNDS):
            try:
                prepared.network(images[:, :, :1, :1].expand(2, 5, 1, 1))
            except RuntimeError:
                failed += 1
        return failed

    def run() -> list[Tensor]:
        start.wait()
        with torch.no_grad():
            return [prepared.network(images) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(THREADS) as pool:
        failures, outputs = pool.submit(fail), pool.submit(run)
        assert failures.result() == ROUNDS
        assert all(torch.equal(expected, output) for output in outputs.result())


def test_a_copy_runs_in_another_thread() -> None:
    net = build_elastic(resnet, "int8")
    prepared = next(draw_prepared(net, 1, seed=2))
    with torch.no_grad():
        expected = prepared.network(prepared.inputs)
    copied = copy.deepcopy(prepared.network)
    assert find_execution(copied) is not find_execution(prepared.network)
    (found,) = run_together([copied], [prepared.inputs])
    assert all(torch.equal(expected, output) for output in found)

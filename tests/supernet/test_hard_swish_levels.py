"""Hard swish of integers: levels at -3 and 3, and the clipped integers that are its factor."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.graph.fusion.plan import plan_operators
from supernet.graph.integer.integer_simulator import simulate
from supernet.graph.language import Graph
from supernet.graph.lowering import lower
from supernet.graph.onnx_model import to_onnx
from supernet.quantization.calibration import calibrate_ranges
from supernet.quantization.execution import Execution
from supernet.quantization.formats import INT8
from supernet.quantization.quantizers import aligned_step, count_steps_to_bend
from supernet.quantization.ranges import choose_aligned
from supernet.quantization.tracking import name_layer

Body = Callable[["Net", Tensor], Tensor]
RANGES = [(-5.0, 4.0), (-1.0, 4.0), (0.0, 2.0), (-8.0, -1.0), (-0.01, 0.02), (-900.0, 700.0)]


class Net(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def swish(net: Net, x: Tensor) -> Tensor:
    return net.second(F.hardswish(net.first(x)))


def swish_then_add(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(F.hardswish(y) + y)


def add_after_reading(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(y) + F.hardswish(y)


def swish_after_relu(net: Net, x: Tensor) -> Tensor:
    return net.second(F.hardswish(F.relu6(net.first(x))))


def prepare(body: Body, factor: float = 3.0) -> tuple[Net, Execution, Tensor]:
    """A calibrated network of 8 bits whose first convolution gives values about ``factor``."""
    torch.manual_seed(0)
    net = Net(body).eval()
    with torch.no_grad():
        net.first.weight.mul_(2 * factor)
        net.first.bias.mul_(factor)
    for path, parameter in net.named_parameters():
        name_layer(parameter, path.rpartition(".")[0])
    execution = Execution({"": INT8})
    execution.attach(net)
    inputs = torch.randn(4, 3, 8, 8)
    calibrate_ranges(net, execution, [inputs], "minmax")
    return net, execution, inputs


def write(net: Net, inputs: Tensor) -> tuple[Graph, dict[str, np.ndarray]]:
    graph, found = lower(net, (inputs[:1],))
    return graph, {name: value for name, value in found.items() if value is not None}


def run_everywhere(net: Net, inputs: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the simulation, the integer simulator and ONNX Runtime make of the inputs."""
    ort = pytest.importorskip("onnxruntime")
    graph, values = write(net, inputs)
    feeds = {graph.inputs[0].name: inputs.numpy()}
    model = to_onnx(graph, values).SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        simulated = net(inputs).numpy()
    return (
        simulated,
        next(iter(simulate(graph, values, feeds).values())),
        session.run(None, feeds)[0],
    )


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_levels_hold_the_bends_and_the_range(low: float, high: float, bits: int) -> None:
    levels = 2**bits - 1
    scale, zero_point = choose_aligned(low, high, levels)
    assert 0 <= zero_point <= levels
    if scale <= 3:
        assert 3 / scale == pytest.approx(round(3 / scale), rel=1e-6)
        assert zero_point >= round(3 / scale)
    assert -zero_point * scale <= min(low, -3) + scale / 2 + 1e-5 * abs(low)
    assert (levels - zero_point) * scale >= high - scale / 2 - 1e-5 * abs(high)


def test_steps_widen_by_less_than_one_in_their_count_and_keep_gradients() -> None:
    steps = torch.logspace(-3, 2, 2001).requires_grad_()
    wide = aligned_step(steps)
    assert (wide >= steps * (1 - 1e-4)).all()
    small = steps < 3
    counts = count_steps_to_bend(wide.detach())
    assert torch.equal(counts[small], torch.round(3 / wide.detach()[small]))
    assert (counts[small] == torch.floor(3 / steps.detach()[small] * (1 + 2.0**-16))).all()
    assert torch.equal(wide[steps > 3.001], steps[steps > 3.001])
    wide.sum().backward()
    assert torch.equal(steps.grad, torch.ones_like(steps))


@pytest.mark.parametrize("factor", [0.1, 1.0, 3.0, 10.0, 3000.0])
def test_clipped_integers_are_the_factor(factor: float) -> None:
    net, execution, inputs = prepare(swish, factor)
    affine = execution.calibrated["first"]
    assert affine.aligned
    _, values = write(net, inputs)
    scale, zero_point = values["first.scale"], int(values["first.zero_point"])
    below, above = int(values["first.below"]), int(values["first.above"])
    levels = np.arange(256)
    x = (levels - zero_point) * np.float64(scale)
    share = (np.clip(levels, below, above) - below) * np.float64(values["first.factor"])
    expected = F.hardswish(torch.from_numpy(x)).numpy()
    assert np.allclose(x * share, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("factor", [0.1, 3.0, 3000.0])
@pytest.mark.parametrize("body", [swish, swish_then_add, add_after_reading])
def test_simulation_simulator_and_runtime_agree(body: Body, factor: float) -> None:
    net, execution, inputs = prepare(body, factor)
    simulated, integers, run = run_everywhere(net, inputs)
    assert np.array_equal(integers, run)
    step = float(np.diff(np.unique(run)).min())
    assert (np.abs(simulated - run) > step / 2).mean() < 1e-3
    with torch.no_grad(), execution.suspended():
        exact = net(inputs).numpy()
    assert np.linalg.norm(run - exact) < 0.05 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("body", "aligned"),
    [(swish, True), (swish_then_add, True), (add_after_reading, False), (swish_after_relu, False)],
)
def test_levels_are_chosen_by_the_first_reader(body: Body, aligned: bool) -> None:
    from hardware.fusion_probe import probe_contract

    net, execution, inputs = prepare(body)
    graph, values = write(net, inputs)
    assert any(affine.aligned for affine in execution.calibrated.values()) == aligned
    execution.calibrated = {}
    structure, _ = lower(net.to("meta"), (inputs[:1].to("meta"),), structure_only=True)
    assert [node.op for node in structure.nodes] == [node.op for node in graph.nodes]
    plan = plan_operators(graph, probe_contract(), weights=values)
    assert plan.count()["Clip"] == aligned
    # What leaves the network is not rounded.
    assert plan.count()["QLinearConv"] >= 1
    assert not any("Clip" in island.operators for island in plan.islands)


@pytest.mark.parametrize("offset", [-6.0, -3.0, -1.0, 0.0])
def test_learned_ranges_keep_their_upper_end(offset: float) -> None:
    net, execution, inputs = prepare(swish)
    step = 0.03
    execution.ranges = {"first@8": nn.Parameter(torch.tensor([step, offset]))}
    net(inputs)
    execution.fix_ranges()
    affine = execution.calibrated["first"]
    assert affine.scale is not None
    assert affine.zero_point is not None
    scale, zero_point = float(affine.scale), float(affine.zero_point)
    assert 3 / scale == pytest.approx(round(3 / scale), rel=1e-6)
    assert zero_point >= round(3 / scale)
    end = step * 255 + offset
    assert end - scale <= (255 - zero_point) * scale <= end + 0.02 * 255 * scale
    assert -zero_point * scale == pytest.approx(min(offset, -3), abs=scale)


@pytest.mark.parametrize("start", [(0.3, -20.0), (0.004, -0.5), (0.02, -1.0)])
def test_learned_ranges_descend_to_smaller_errors(start: tuple[float, float]) -> None:
    net, execution, inputs = prepare(swish)
    with torch.no_grad(), execution.suspended():
        exact = net(inputs)
    execution.calibrated.pop("first")
    learned = nn.Parameter(torch.tensor(start))
    execution.ranges = {"first@8": learned}
    optimiser = torch.optim.Adam([learned], lr=1e-3)
    errors = []
    for _ in range(300):
        optimiser.zero_grad()
        error = F.mse_loss(net(inputs), exact)
        error.backward()
        assert learned.grad is not None
        assert learned.grad.isfinite().all()
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[0] > 0
    assert math.isfinite(errors[-1])
    assert min(errors[-20:]) < 0.8 * errors[0]

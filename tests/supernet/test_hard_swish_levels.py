"""Hard swish of integers: levels from -3 up, and the clipped integers that are its factor."""

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
from supernet.quantization.formats import INT8, find_format
from supernet.quantization.quantizers import anchored_step, count_steps_to_bend
from supernet.quantization.ranges import choose_anchored, may_be_anchored
from supernet.quantization.tracking import name_layer
from tests.toys.saturating_processors import skip_unless_exact

Body = Callable[["Net", Tensor], Tensor]


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


def add_a_ramp(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(F.hardswish(y) + F.relu(y))


def scale_by_the_mean(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(F.hardswish(y) * F.hardsigmoid(F.adaptive_avg_pool2d(y, 1)))


def add_a_silu(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(F.hardswish(y) + F.silu(y))


def read_a_copy_first(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    copied = net.second(y.clone())
    return net.second(F.hardswish(y)) + copied


def read_a_copy_last(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.second(F.hardswish(y)) + net.second(y.clone())


def swish_after_relu(net: Net, x: Tensor) -> Tensor:
    return net.second(F.hardswish(F.relu6(net.first(x))))


formats = pytest.mark.parametrize("form", ["int8", "w6a8"])
"""With weights of 6 bits, too, whose products are exact on every processor."""


def prepare(body: Body, factor: float = 3.0, form: str = "int8") -> tuple[Net, Execution, Tensor]:
    """A calibrated network of 8 bits whose first convolution gives values about ``factor``."""
    torch.manual_seed(0)
    net = Net(body).eval()
    with torch.no_grad():
        net.first.weight.mul_(2 * factor)
        net.first.bias.mul_(factor)
    for path, parameter in net.named_parameters():
        name_layer(parameter, path.rpartition(".")[0])
    execution = Execution({"": find_format(form)})
    execution.attach(net)
    inputs = torch.randn(4, 3, 8, 8)
    calibrate_ranges(net, execution, [inputs], "minmax")
    return net, execution, inputs


def write(net: Net, inputs: Tensor) -> tuple[Graph, dict[str, np.ndarray]]:
    graph, found = lower(net, (inputs[:1],))
    return graph, {name: value for name, value in found.items() if value is not None}


def run_everywhere(net: Net, inputs: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the simulation, the integer simulator and ONNX Runtime make of the inputs.

    Skips where the processor may compute a layer wrong.
    """
    ort = pytest.importorskip("onnxruntime")
    graph, values = write(net, inputs)
    skip_unless_exact(graph, values)
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


def gate(net: Net, x: Tensor) -> Tensor:
    return net.second(F.hardsigmoid(net.first(x)))


def gate_after_relu(net: Net, x: Tensor) -> Tensor:
    return net.second(F.hardsigmoid(F.relu6(net.first(x))))


@formats
@pytest.mark.parametrize("body", [gate, gate_after_relu, swish_after_relu])
def test_sums_that_lie_between_two_levels_are_rounded_as_the_runtime_does(
    body: Body, form: str
) -> None:
    net, _, inputs = prepare(body, form=form)
    simulated, integers, executed = run_everywhere(net, inputs)
    # Zero is halfway between two levels of the sum, and after a ReLU6 every level is.
    assert (simulated != integers).mean() < 1e-3
    assert (simulated != executed).mean() < 1e-3


def test_a_gate_has_the_gradient_of_its_slope_within_its_bends() -> None:
    net, _, inputs = prepare(gate)
    found: list[Tensor] = []
    original = net.body

    def keep(net: Net, x: Tensor) -> Tensor:
        found.append(net.first(x).detach().requires_grad_())
        return F.hardsigmoid(found[0])

    net.body = keep
    net(inputs).sum().backward()
    net.body = original
    slope = found[0].grad
    assert slope is not None
    inside = found[0].abs() < 2.5
    assert torch.allclose(slope[inside], torch.tensor(1 / 6))
    assert (slope[found[0].abs() > 3.5] == 0).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("high", [-1.0, 0.0, 0.02, 2.9, 3.0, 4.0, 17.3, 42.0, 700.0])
def test_levels_begin_at_minus_three_and_reach_the_upper_end(high: float, bits: int) -> None:
    levels = 2**bits - 1
    scale, zero_point = choose_anchored(high, levels)
    assert 0 <= zero_point <= levels
    assert (levels - zero_point) * scale >= high * (1 - 1e-6)
    if high + 3 <= 3 * levels:
        assert zero_point * scale == pytest.approx(3, rel=1e-6)
        # One level less would not reach.
        assert 3 / (zero_point + 1) < (max(high, 0) + 3) / levels * (1 + 1e-6)
    else:
        assert zero_point == 0


def test_ranges_far_from_the_bends_are_not_anchored() -> None:
    assert may_be_anchored(-3, 3)
    assert may_be_anchored(-900, 700)
    assert may_be_anchored(-8, -1)
    assert may_be_anchored(-1, 4)
    assert not may_be_anchored(-1, 1)
    assert not may_be_anchored(-0.01, 0.02)
    assert not may_be_anchored(0, 2)


def test_steps_widen_by_less_than_one_in_their_count_and_keep_gradients() -> None:
    steps = torch.logspace(-3, 2, 2001).requires_grad_()
    wide = anchored_step(steps)
    assert (wide >= steps * (1 - 1e-4)).all()
    small = steps < 3
    counts = count_steps_to_bend(wide.detach())
    assert torch.equal(counts[small], torch.round(3 / wide.detach()[small]))
    assert (counts[small] == torch.floor(3 / steps.detach()[small] * (1 + 2.0**-16))).all()
    assert torch.equal(wide[steps > 3.001], steps[steps > 3.001])
    wide.sum().backward()
    assert torch.equal(steps.grad, torch.ones_like(steps))


@pytest.mark.parametrize("factor", [1.5, 3.0, 10.0, 3000.0])
def test_clipped_integers_are_the_factor(factor: float) -> None:
    net, execution, inputs = prepare(swish, factor)
    affine = execution.calibrated["first"]
    assert affine.anchored
    _, values = write(net, inputs)
    scale, zero_point = values["first.scale"], int(values["first.zero_point"])
    levels = np.arange(256)
    x = (levels - zero_point) * np.float64(scale)
    share = np.minimum(levels, int(values["first.bend"])) * np.float64(values["first.factor"])
    expected = F.hardswish(torch.from_numpy(x)).numpy()
    assert np.allclose(x * share, expected, rtol=1e-6, atol=1e-6)


@formats
@pytest.mark.parametrize("factor", [0.1, 3.0, 3000.0])
@pytest.mark.parametrize("body", [swish, swish_then_add, add_after_reading])
def test_simulation_simulator_and_runtime_agree(body: Body, factor: float, form: str) -> None:
    net, execution, inputs = prepare(body, factor, form)
    simulated, integers, run = run_everywhere(net, inputs)
    assert np.array_equal(integers, run)
    step = float(np.diff(np.unique(run)).min())
    assert (np.abs(simulated - run) > step / 2).mean() < 1e-3
    with torch.no_grad(), execution.suspended():
        exact = net(inputs).numpy()
    assert np.linalg.norm(run - exact) < 0.05 * np.linalg.norm(exact)


@formats
@pytest.mark.parametrize("factor", [0.1, 3.0])
@pytest.mark.parametrize(
    "body",
    [add_a_ramp, scale_by_the_mean, add_a_silu, read_a_copy_first, read_a_copy_last],
)
def test_whoever_else_reads_has_all_values_under_names_that_values_leave_alone(
    body: Body, factor: float, form: str
) -> None:
    net, execution, inputs = prepare(body, factor, form)
    known = dict(execution.calibrated)
    simulated, integers, run = run_everywhere(net, inputs)
    assert np.array_equal(integers, run)
    assert np.linalg.norm(run - simulated) < 0.01 * np.linalg.norm(run)
    with torch.no_grad(), execution.suspended():
        exact = net(inputs).numpy()
    assert np.linalg.norm(run - exact) < 0.05 * np.linalg.norm(exact)
    execution.limits.clear()
    with torch.no_grad():
        net(inputs)
    assert execution.limits.keys() == known.keys()


@pytest.mark.parametrize(
    ("body", "factor", "anchored"),
    [
        (swish, 3.0, True),
        (swish, 0.1, False),
        (swish_then_add, 3.0, True),
        (add_after_reading, 3.0, False),
        (swish_after_relu, 3.0, False),
    ],
)
def test_who_has_levels_from_minus_three_up(body: Body, factor: float, anchored: bool) -> None:
    from hardware.fusion_probe import probe_contract

    net, execution, inputs = prepare(body, factor)
    graph, values = write(net, inputs)
    assert any(affine.anchored for affine in execution.calibrated.values()) == anchored
    plan = plan_operators(graph, probe_contract(), weights=values)
    assert plan.count()["Clip"] == anchored
    assert not any("Clip" in island.operators for island in plan.islands)
    if factor == 3.0:
        execution.calibrated = {}
        structure, _ = lower(net.to("meta"), (inputs[:1].to("meta"),), structure_only=True)
        assert [node.op for node in structure.nodes] == [node.op for node in graph.nodes]


def test_few_levels_are_chosen_for_their_values_alone() -> None:
    net, execution, inputs = prepare(swish)
    execution.formats[""] = find_format("w4a4")
    calibrate_ranges(net, execution, [inputs], "minmax")
    assert execution.calibrated["first"].bits == 4
    assert not execution.calibrated["first"].anchored


def test_later_readers_have_all_values() -> None:
    net, execution, inputs = prepare(swish_then_add)
    whole = execution.calibrated["first/whole"]
    assert whole.scale is not None
    assert whole.zero_point is not None
    with torch.no_grad(), execution.suspended():
        lowest = float(net.first(inputs).min())
    assert lowest < -5
    assert float(-whole.zero_point * whole.scale) == pytest.approx(lowest, abs=float(whole.scale))


def test_what_a_unit_passes_on_has_all_values() -> None:
    net, _, inputs = prepare(swish)

    def pass_on(net: Net, x: Tensor) -> Tensor:
        y = net.first(x)
        F.hardswish(y)
        return y

    unit, execution = Net(pass_on), Execution({"": INT8})
    unit.first = net.first
    execution.guard({"": unit})
    with torch.no_grad():
        given = execution.settle(unit(inputs))
    assert list(execution.limits) == ["first/input", "first", "first/whole"]
    assert float(given.min()) < -5


@pytest.mark.parametrize("offset", [-6.0, -3.0, -1.0, -0.2])
@pytest.mark.parametrize("step", [0.005, 0.03])
def test_learned_ranges_keep_their_upper_end(offset: float, step: float) -> None:
    net, execution, inputs = prepare(swish)
    execution.ranges = {"first@8": nn.Parameter(torch.tensor([step, offset]))}
    net(inputs)
    execution.fix_ranges()
    affine = execution.calibrated["first"]
    assert affine.scale is not None
    assert affine.zero_point is not None
    scale, zero_point, end = float(affine.scale), float(affine.zero_point), step * 255 + offset
    if end < 0 or may_be_anchored(offset, end):
        assert affine.anchored
        assert zero_point * scale == pytest.approx(3, rel=1e-6)
        assert end - 1e-4 <= (255 - zero_point) * scale <= max(end, 0) + 0.02 * 255 * scale
    else:
        assert (scale, zero_point) == (pytest.approx(step), round(-offset / step))


def test_saturated_values_leave_a_learned_step_alone() -> None:
    net, execution, _ = prepare(swish)
    learned = nn.Parameter(torch.tensor([0.03, -4.0]))
    execution.ranges = {"first@8": learned}
    with torch.no_grad():
        net.first.weight.zero_()
        net.first.bias.fill_(-7.0)
    execution.calibrated["second"] = execution.calibrated.pop("first")
    seen: list[Tensor] = []
    net.body = lambda net, x: seen.append(execution.take_for_hard_swish(net.first(x))) or seen[0]
    net(torch.zeros(1, 3, 8, 8))
    assert torch.allclose(seen[0], torch.full_like(seen[0], -3.0))
    seen[0].sum().backward()
    assert learned.grad is not None
    assert torch.allclose(learned.grad, torch.zeros(2), atol=1e-3)


@pytest.mark.parametrize("start", [(0.3, -20.0), (0.01, -3.5), (0.02, -1.0)])
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

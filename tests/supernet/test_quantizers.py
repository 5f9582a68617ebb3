"""Quantizers: ONNX Runtime's numbers, gradients written out by hand, steps that stay usable."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from supernet.errors import InputError
from supernet.quantization.quantizers import (
    SMALLEST_STEP,
    Granularity,
    activation_levels,
    from_levels,
    gradient_scale_of,
    learned_zero_point,
    positive_step,
    quantize_affine,
    quantize_learned,
    to_levels,
    weight_levels,
)
from supernet.quantization.step_fitting import fit_step, fit_step_and_offset
from supernet.quantization.weights import dequantize_weight, integer_weight, quantize_weight

GRANULARITIES: tuple[Granularity, ...] = ("tensor", "channel", "group")


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def scalar(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(value, dtype=dtype)


def gradients(value: Tensor, weights: Tensor, *sources: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((value * weights).sum(), sources)


def run_onnx(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, np.ndarray[Any, Any]],
    constants: list[Any],
    level: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
) -> np.ndarray[Any, Any]:
    """Run nodes whose last output is ``y`` under ONNX Runtime, unoptimised unless told."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model.SerializeToString(), options)
    result: np.ndarray[Any, Any] = session.run(["y"], inputs)[0]
    return result


@pytest.mark.parametrize(("scale", "zero_point"), [(0.1, 0), (0.0371, 117), (1 / 3, 255)])
def test_the_values_are_those_of_onnx_runtime(scale: float, zero_point: int) -> None:
    step = torch.tensor(scale)
    # Half of them lie on the ties between two levels, as exactly as float32 can.
    ties = (torch.arange(-300, 300) + 0.5) * step
    x = torch.cat([normal(600, dtype=torch.float32) * 100 * step, ties])
    constants = [
        numpy_helper.from_array(step.numpy(), "s"),
        numpy_helper.from_array(np.array(zero_point, np.uint8), "z"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    expected = run_onnx(nodes, {"x": x.numpy()}, constants)
    zero = torch.tensor(zero_point)
    np.testing.assert_array_equal(quantize_affine(x, step, zero, 0, 255).numpy(), expected)
    learned = quantize_learned(x, step, zero, 0, 255, 0.1)
    np.testing.assert_array_equal(learned.numpy(), expected)


def test_blocks_of_int4_are_those_of_onnx_runtime() -> None:
    weight = normal(6, 64, dtype=torch.float32)
    fake = quantize_weight(weight, 4, granularity="group", group=32)
    stored = integer_weight(weight, 4, granularity="group", group=32)
    # Stored transposed, two entries to a byte, the first in the low half.
    entries = stored.values.T.contiguous().flatten().numpy()
    packed = ((entries[1::2] & 15) << 4 | (entries[0::2] & 15)).astype(np.uint8).tobytes()
    constants = [
        helper.make_tensor("w", TensorProto.INT4, (64, 6), packed, raw=True),
        numpy_helper.from_array(stored.scale.T.contiguous().numpy(), "s"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0, block_size=32),
        helper.make_node("Add", ["d", "x"], ["y"]),
    ]
    result = run_onnx(nodes, {"x": np.zeros((1, 1), np.float32)}, constants)
    np.testing.assert_array_equal(result, fake.T.numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    x = normal(4, 32, dtype=torch.float32).to(dtype)
    step, zero = scalar(0.1, torch.float32), torch.tensor(3)
    assert quantize_affine(x, step, zero, 0, 255).dtype == dtype
    assert quantize_learned(x, step, zero, 0, 255, 1.0).dtype == dtype
    assert quantize_weight(x, 4).dtype == dtype
    assert fit_step(x, 4).dtype == dtype


def test_the_affine_gradient_is_one_inside_and_zero_outside() -> None:
    x = torch.tensor([-0.6, -0.4, 0.0, 1.0, 15.4, 15.6], dtype=torch.float64, requires_grad=True)
    step = scalar(1.0).requires_grad_()
    y = quantize_affine(x, step, torch.tensor(0), 0, 15)
    assert y.tolist() == [0, 0, 0, 1, 15, 15]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]
    assert step.grad is None


def test_the_step_has_the_gradient_of_lsq() -> None:
    low, high, factor = -7, 7, 0.3
    x = (2 * normal(500)).requires_grad_()
    step = scalar(0.21).requires_grad_()
    weights = normal(500, seed=1)
    y = quantize_learned(x, step, torch.tensor(0), low, high, factor)
    of_x, of_step = gradients(y, weights, x, step)
    # Esser et al. (2020), equations 3 and 5, one value at a time.
    expected_x, expected_step = [], 0.0
    for value, weight in zip(x.tolist(), weights.tolist(), strict=True):
        position = value / step.item()
        if position <= low:
            slope, passed = low, 0.0
        elif position >= high:
            slope, passed = high, 0.0
        else:
            slope, passed = round(position) - position, 1.0
        expected_x.append(passed * weight)
        expected_step += slope * weight * factor
    assert of_x.tolist() == expected_x
    assert of_step.item() == pytest.approx(expected_step, rel=1e-9)
    assert 0 < sum(passed == 0 for passed in expected_x) < 500


def test_single_precision_suffices_for_the_gradient_of_a_small_step() -> None:
    x, weights, step = normal(20_000), normal(20_000, seed=1), scalar(0.01)
    slopes = []
    for dtype in (torch.float32, torch.float64):
        learned = step.to(dtype).requires_grad_()
        y = quantize_learned(x.float().to(dtype), learned, torch.tensor(128), 0, 255, 1.0)
        slopes.append(gradients(y, weights.float().to(dtype), learned)[0].item())
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-3)


def test_step_and_offset_have_the_gradients_of_lsq_plus() -> None:
    low, high = 0, 15
    x = (2 * normal(500)).requires_grad_()
    weights = normal(500, seed=1)
    # Where -offset / step is whole, the whole zero point and LSQ+'s real offset are the same.
    step, offset = scalar(0.25).requires_grad_(), scalar(-1.5).requires_grad_()
    zero_point = learned_zero_point(offset, step, low, high)
    assert zero_point.item() == 6
    y = quantize_learned(x, step, zero_point, low, high, 1.0)
    of_step, of_offset = gradients(y, weights, step, offset)
    # Bhalgat et al. (2020), equations 2 to 6.
    expected_step = expected_offset = 0.0
    for value, weight in zip(x.tolist(), weights.tolist(), strict=True):
        position = (value - offset.item()) / step.item()
        if position < low or position > high:
            expected_step += weight * min(max(position, low), high).__trunc__()
            expected_offset += weight
        else:
            expected_step += weight * (round(position) - position)
    assert of_step.item() == pytest.approx(expected_step, rel=1e-9)
    assert of_offset.item() == pytest.approx(expected_offset, rel=1e-9)


def test_a_zero_point_beyond_the_levels_is_clamped_and_finds_back() -> None:
    step = scalar(0.1)
    for start, target in ((3.0, -0.5), (-9.0, -0.9)):
        offset = scalar(start).requires_grad_()
        x = torch.linspace(target, target + 1.5, 100, dtype=torch.float64)
        optimizer = torch.optim.Adam([offset], lr=0.3)
        for _ in range(100):
            zero_point = learned_zero_point(offset, step, 0, 15)
            assert 0 <= zero_point.item() <= 15
            y = quantize_learned(x, step, zero_point, 0, 15, 1.0)
            optimizer.zero_grad()
            (y - x).square().mean().backward()
            optimizer.step()
        assert zero_point.item() == pytest.approx(-target / 0.1, abs=1.01)


def test_gradients_that_lead_out_of_the_levels_do_not_pass() -> None:
    offset = scalar(0.5).requires_grad_()
    zero_point = learned_zero_point(offset, scalar(0.1), 0, 15)
    assert zero_point.item() == 0
    # The offset is above 0 already: descent may lower it and not raise it.
    assert torch.autograd.grad(zero_point, offset, scalar(1.0), retain_graph=True)[0].item() == 0
    assert torch.autograd.grad(zero_point, offset, scalar(-1.0))[0].item() == pytest.approx(10)


@pytest.mark.parametrize("value", [0.0, 1e-40, -1e-40, -0.3, 0.3])
def test_a_step_stays_positive_and_keeps_its_gradient(value: float) -> None:
    step = scalar(value).requires_grad_()
    scale = positive_step(step)
    assert scale.item() == max(abs(value), SMALLEST_STEP)
    (slope,) = torch.autograd.grad(scale, step)
    assert abs(slope.item()) == 1
    x = normal(50).requires_grad_()
    y = quantize_learned(x, step, torch.tensor(0), -7, 7, 1.0)
    for gradient in gradients(y, torch.ones(50, dtype=torch.float64), x, step):
        assert gradient.isfinite().all()


def test_a_learned_step_goes_to_the_least_squared_error() -> None:
    x = normal(4000)
    step = (2 * x.abs().mean() / math.sqrt(3)).requires_grad_()
    start = step.item()
    optimizer = torch.optim.SGD([step], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        error = quantize_learned(x, step, torch.tensor(0), -3, 3, gradient_scale_of(1, 3)) - x
        error.square().mean().backward()
        optimizer.step()
    best = fit_step(x, 3, p=2.0, steps=400).item()
    assert abs(start - best) > 0.3 * best
    assert step.item() == pytest.approx(best, rel=0.06)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_integers_times_scale_are_the_fake_quantized_weight(
    granularity: Granularity, symmetric: bool, learned: bool, axis: int
) -> None:
    weight = normal(8, 8, 3, 4, dtype=torch.float32) + 0.3
    for bits in (2, 3, 4, 5, 6, 8):
        step = offset = None
        if learned and symmetric:
            step = fit_step(weight, bits, axis=axis, granularity=granularity, group=16)
        elif learned:
            step, offset = fit_step_and_offset(
                weight, bits, axis=axis, granularity=granularity, group=16
            )
        fake = quantize_weight(
            weight, bits, axis=axis, granularity=granularity, group=16,
            symmetric=symmetric, step=step, offset=offset,
        )  # fmt: skip
        stored = integer_weight(
            weight, bits, axis=axis, granularity=granularity, group=16,
            symmetric=symmetric, step=step, offset=offset,
        )  # fmt: skip
        assert stored.values.dtype == stored.zero_point.dtype == torch.int8
        assert stored.scale.shape == {"tensor": (), "channel": (8,), "group": (8, 6)}[granularity]
        low, high = weight_levels(bits, symmetric and (learned or granularity != "group"))
        assert low <= int(stored.values.min()) < int(stored.values.max()) <= high
        assert torch.equal(dequantize_weight(stored, axis), fake)
        if symmetric:
            assert not stored.zero_point.any()


def test_steps_per_channel_count_the_weights_of_a_channel() -> None:
    weight = normal(5, 48).requires_grad_()
    step = fit_step(weight, 4, granularity="channel").requires_grad_()
    upstream = normal(5, 48, seed=1)
    of_weight, of_step = gradients(quantize_weight(weight, 4, step=step), upstream, weight, step)
    for channel in range(5):
        position = weight[channel] / step[channel]
        slope = torch.where(position.abs() < 7, position.round() - position, position.sign() * 7)
        expected = (slope * upstream[channel]).sum() / math.sqrt(48 * 7)
        assert of_step[channel].item() == pytest.approx(expected.item(), rel=1e-9)
        assert torch.equal(of_weight[channel], upstream[channel] * (position.abs() < 7))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_zeros_and_vanishing_channels_stay_finite(
    granularity: Granularity, symmetric: bool
) -> None:
    weight = normal(4, 32, dtype=torch.float32)
    weight[1], weight[2] = 0, 1e-43
    for bits in (2, 8):
        fake = quantize_weight(weight, bits, granularity=granularity, symmetric=symmetric)
        assert fake.isfinite().all()
        assert not fake[1].any()
        step = fit_step(weight, bits, granularity=granularity)
        assert step.isfinite().all()
        assert bool((step > 0).all())


def test_finer_granularity_and_more_bits_err_less() -> None:
    weight = normal(16, 128) * torch.logspace(-2, 0, 16, dtype=torch.float64)[:, None]

    def error(bits: int, granularity: Granularity) -> float:
        fake = quantize_weight(weight, bits, granularity=granularity)
        return ((fake - weight).square().mean(1) / weight.square().mean(1)).mean().item()

    for granularity in GRANULARITIES:
        errors = [error(bits, granularity) for bits in (2, 3, 4, 5, 6, 8)]
        assert errors == sorted(errors, reverse=True)
    assert error(4, "group") < error(4, "channel") < error(4, "tensor")


def test_groups_use_all_levels_by_the_sign_of_their_scale() -> None:
    weight = normal(64, 128, dtype=torch.float32)
    stored = integer_weight(weight, 4, granularity="group")
    assert (stored.values.view(64, 4, 32).amin(-1) == -8).all()
    extreme = weight.view(64, 4, 32).gather(-1, weight.view(64, 4, 32).abs().argmax(-1, True))
    # The divisor is a power of two: the largest entries are exact.
    assert torch.equal(stored.scale * -8, extreme.squeeze(-1))
    fake = quantize_weight(weight, 4, granularity="group")
    assert torch.equal(dequantize_weight(stored), fake)
    positive = weight.view(64 * 4, 32)
    fifteen = quantize_weight(positive, 4, granularity="channel").view_as(weight)
    assert (fake - weight).square().sum() < 0.82 * (fifteen - weight).square().sum()
    assert torch.equal(quantize_weight(-weight, 4, granularity="group"), -fake)


@pytest.mark.parametrize("rows", [1, 5])
def test_negative_scales_are_multiplied_in_blocks_by_onnx_runtime(rows: int) -> None:
    weight, x = normal(48, 64, dtype=torch.float32), normal(rows, 64, dtype=torch.float32)
    stored = integer_weight(weight, 4, granularity="group")
    assert (stored.scale < 0).any()
    assert (stored.scale > 0).any()
    entries = stored.values.T.contiguous().flatten().numpy()
    packed = ((entries[1::2] & 15) << 4 | (entries[0::2] & 15)).astype(np.uint8).tobytes()
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0, block_size=32),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    constants = [
        helper.make_tensor("w", TensorProto.INT4, (64, 48), packed, raw=True),
        numpy_helper.from_array(stored.scale.T.contiguous().numpy(), "s"),
    ]
    found = run_onnx(nodes, {"x": x.numpy()}, constants, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    blocks = x.view(rows, 2, 32)
    step = blocks.abs().amax(-1, keepdim=True) / 127
    rounded = ((blocks / step).round() * step).view_as(x)
    expected = rounded @ quantize_weight(weight, 4, granularity="group").T
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-6 * float(expected.abs().max()))


def test_groups_must_divide_the_inputs() -> None:
    with pytest.raises(
        InputError, match="10 outputs has 48 weights per output, which groups of 32"
    ):
        quantize_weight(normal(10, 48), 4, granularity="group", group=32)
    with pytest.raises(InputError, match="groups of 0"):
        integer_weight(normal(10, 48), 4, granularity="group", group=0)


def test_bits_without_uniform_levels_are_refused() -> None:
    with pytest.raises(InputError, match="1 bit"):
        quantize_weight(normal(4, 4), 1)
    with pytest.raises(InputError, match="9 bits"):
        integer_weight(normal(4, 4), 9)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_fitted_step_errs_least(bits: int) -> None:
    x = normal(3000)

    def error(step: float) -> float:
        low, high = weight_levels(bits)
        zero = scalar(0.0)
        levels = to_levels(x, scalar(step), zero, low, high)
        return (from_levels(levels, scalar(step), zero) - x).abs().pow(2.4).mean().item()

    fitted = fit_step(x, bits).item()
    largest = x.abs().max().item() / weight_levels(bits)[1]
    assert error(fitted) <= min(error(largest * share) for share in np.linspace(0.05, 1, 77)) * 1.02
    assert fitted < largest or bits == 8


def test_a_one_sided_activation_is_fitted_unsigned() -> None:
    x = normal(3000).relu()
    low, high = activation_levels(4)
    step = fit_step(x, 4, signed=False)
    fitted = quantize_affine(x, step, torch.tensor(0), low, high)
    extreme = quantize_affine(x, x.max() / high, torch.tensor(0), low, high)
    assert (fitted - x).square().mean() < 0.9 * (extreme - x).square().mean()


def test_an_offset_fits_what_lies_on_one_side() -> None:
    weight = normal(8, 64).abs() + 0.2
    step, offset = fit_step_and_offset(weight, 3, granularity="channel")
    asymmetric = quantize_weight(weight, 3, symmetric=False, step=step, offset=offset)
    symmetric = quantize_weight(weight, 3, step=fit_step(weight, 3, granularity="channel"))
    errors = [(fake - weight).square().mean().item() for fake in (asymmetric, symmetric)]
    assert errors[0] < 0.5 * errors[1]

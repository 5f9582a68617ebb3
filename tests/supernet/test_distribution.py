"""The penalty on weight distributions: known moments, and descent that evens a weight out."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from supernet.quantization.distribution import distribution_penalty, kurtosis, skewness
from supernet.quantization.step_fitting import fit_step
from supernet.quantization.weights import quantize_weight


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_moments_are_the_standardised_ones() -> None:
    for weight in (normal(40, 30), normal(5, 4, 3, 3).exp(), 1e-20 * normal(100), normal(50) + 7):
        flat = weight.flatten().numpy()
        assert kurtosis(weight).item() == pytest.approx(stats.kurtosis(flat, fisher=False))
        assert skewness(weight).item() == pytest.approx(stats.skew(flat), abs=1e-9)


def test_the_penalty_is_that_of_eq_net() -> None:
    weights = [normal(40, 30), normal(8, 3, 3, 3, seed=1).exp()]
    kurtoses = [stats.kurtosis(weight.flatten().numpy(), fisher=False) for weight in weights]
    skews = [stats.skew(weight.flatten().numpy()) for weight in weights]
    expected = 0.015 * sum((k - 1.8) ** 2 for k in kurtoses) / 2 + sum(s**2 for s in skews) / 2
    assert distribution_penalty(weights).item() == pytest.approx(expected)


def test_gradients_are_those_of_differences() -> None:
    weight = normal(4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: distribution_penalty([w, w.exp()]), weight)


def test_descent_evens_out_a_normal_weight() -> None:
    weights = [
        normal(32, 64).requires_grad_(),
        (0.4 * normal(64, 16, seed=1)).exp().requires_grad_(),
    ]
    before = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.Adam(weights, lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        distribution_penalty(weights).backward()
        optimizer.step()
    for weight, start in zip(weights, before, strict=True):
        distance = [abs(kurtosis(w).item() - 1.8) for w in (start, weight)]
        assert distance[1] < 0.3 * distance[0]
        assert abs(skewness(weight).item()) < max(0.1, 0.3 * abs(skewness(start).item()))
    assert kurtosis(before[0]).item() == pytest.approx(3, abs=0.2)

    def relative_error(weight: Tensor, bits: int) -> float:
        step = fit_step(weight, bits)
        fake = quantize_weight(weight.detach(), bits, granularity="tensor", step=step)
        return ((fake - weight).square().mean() / weight.var()).item()

    # What it is for: levels fit it better, whatever their number.
    for bits in (2, 3, 4):
        assert relative_error(weights[0], bits) < 0.75 * relative_error(before[0], bits)


def test_weights_without_a_distribution_do_not_count() -> None:
    weight = normal(8, 8)
    alone = distribution_penalty([weight])
    constant = torch.full((3, 3), 0.1, requires_grad=True)
    assert distribution_penalty([weight, torch.zeros(4), torch.ones(1), constant]) == alone
    assert distribution_penalty([]).item() == 0
    assert kurtosis(constant).isfinite()


def test_half_precision_is_computed_in_float32() -> None:
    weight = normal(30, 30).to(torch.bfloat16)
    assert distribution_penalty([weight]).dtype == torch.float32

"""Alpha-divergences against autograd of their definition, clipping, and AlphaNet's choice."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from supernet.losses import adaptive_alpha, alpha_divergence

ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0, 2.0)


def pair(seed: int = 0, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = scale * torch.randn(3, 7, generator=generator, dtype=torch.float64)
    teacher = scale * torch.randn(3, 7, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher


def definition(logits: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    p, q = torch.softmax(teacher, -1), torch.softmax(logits, -1)
    if alpha == 1:
        return (p * (p / q).log()).sum(-1)
    if alpha == 0:
        return (q * (q / p).log()).sum(-1)
    return (q * ((p / q) ** alpha - 1)).sum(-1) / (alpha * (alpha - 1))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_value_and_gradient_are_those_of_the_definition(alpha: float) -> None:
    student, teacher = pair()
    expected = definition(student, teacher, alpha)
    (wanted,) = torch.autograd.grad(expected.sum(), student)
    value = alpha_divergence(student, teacher, alpha)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.dtype == torch.float64
    assert (value - expected).abs().max() < 1e-12
    assert (gradient - wanted).abs().max() < 1e-10
    assert gradient.abs().max() > 1e-2


@pytest.mark.parametrize("alpha", ALPHAS)
def test_it_is_zero_for_equals_and_positive_otherwise(alpha: float) -> None:
    student, teacher = pair()
    value = alpha_divergence(teacher.clone().requires_grad_(), teacher, alpha, clip=5.0)
    assert value.abs().max() < 1e-12
    assert (alpha_divergence(student, teacher, alpha) > 0).all()


def test_clipped_ratios_by_hand_still_pull() -> None:
    # p = (1/2, 1/2), q = (99/100, 1/100): (p/q)**-1 is (1.98, 0.02); p/q is (0.505, 50).
    teacher = torch.zeros(2, dtype=torch.float64)
    student = torch.tensor([math.log(99.0), 0.0], dtype=torch.float64, requires_grad=True)
    free = alpha_divergence(student, teacher, -1.0)
    assert free.item() == pytest.approx((0.99 * 1.98 + 0.01 * 0.02 - 1) / 2)
    clipped = alpha_divergence(student, teacher, -1.0, clip=1.5)
    assert clipped.item() == pytest.approx((0.99 * 1.5 + 0.01 * 0.02 - 1) / 2)
    # Surrogate -sum q rho log q with rho = (-1.5, -0.02): gradient -(w - q sum w), w = q rho.
    (gradient,) = torch.autograd.grad(clipped, student)
    weights = (-0.99 * 1.5, -0.01 * 0.02)
    assert float(gradient[0]) == pytest.approx(-(weights[0] - 0.99 * sum(weights)))
    # At 1 nothing is clipped.
    one = alpha_divergence(student, teacher, 1.0, clip=1.5)
    assert one.item() == pytest.approx(-0.5 * math.log(4 * 0.99 * 0.01))


def test_the_branch_follows_over_and_under_confidence() -> None:
    sure = torch.tensor([[5.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    flat = torch.zeros(1, 4, dtype=torch.float64)
    # A student too sure of itself, and one with probability where its teacher has none.
    cases = {1.0: (sure, flat), -1.0: (flat, sure)}
    for alpha, (student, teacher) in cases.items():
        student = student.clone().requires_grad_()
        other = alpha_divergence(student, teacher, -alpha, 5.0)
        chosen = alpha_divergence(student, teacher, alpha, 5.0)
        assert chosen.item() > other.item()
        (wanted,) = torch.autograd.grad(chosen.sum(), student)
        both = adaptive_alpha(student, teacher)
        (gradient,) = torch.autograd.grad(both, student)
        assert both.item() == chosen.item()
        assert torch.equal(gradient, wanted)


def test_the_choice_is_made_per_sample_and_averaged_over_the_batch() -> None:
    student, teacher = pair(3, scale=2.0)
    lower = alpha_divergence(student, teacher, -1.0, 5.0).detach()
    upper = alpha_divergence(student, teacher, 1.0, 5.0).detach()
    assert adaptive_alpha(student, teacher).item() == pytest.approx(
        float(torch.maximum(lower, upper).mean())
    )
    tokens = adaptive_alpha(student[None], teacher[None])
    assert tokens.item() == pytest.approx(adaptive_alpha(student, teacher).item())


def test_extreme_logits_stay_finite_in_float32_under_autocast() -> None:
    student = torch.tensor([[300.0, 0.0, -300.0]], dtype=torch.bfloat16, requires_grad=True)
    teacher = torch.tensor([[-300.0, 0.0, 300.0]], dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = adaptive_alpha(student, teacher)
    assert loss.dtype == torch.float32
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    assert loss.item() == pytest.approx(600.0, rel=1e-3)

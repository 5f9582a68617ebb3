"""Ranking losses against their definitions, and scores brought to units."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from predictors.networks.ranking_losses import (
    differentiable_kendall,
    logistic,
    mse,
    pairwise_hinge,
    to_units,
)
from predictors.scores import kendall_tau


def draws(seed=0, shape=(3, 12)):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def by_pairs(scores, targets, term):
    found = [
        term(float(s - t))
        for s, y in zip(scores, targets, strict=True)
        for t, z in zip(scores, targets, strict=True)
        if y > z
    ]
    return float(np.mean(found)) if found else 0.0


def test_pairwise_losses_equal_their_sums_over_pairs_for_every_member_alone():
    scores, targets = draws()
    targets[:, :2] = 0.5  # Ties make no pair.
    terms = {
        pairwise_hinge: lambda gap: max(0.0, 0.1 - gap),
        logistic: lambda gap: np.log1p(np.exp(-gap)),
    }
    for loss, term in terms.items():
        found = loss(scores, targets)
        assert found.shape == (3,)
        for row in range(3):
            assert found[row].item() == pytest.approx(by_pairs(scores[row], targets[row], term))
    assert mse(scores, targets).tolist() == pytest.approx(
        ((scores - targets) ** 2).mean(1).tolist()
    )


def test_smooth_kendall_is_bounded_whatever_the_scale_and_becomes_kendalls_tau():
    scores, targets = draws(1)
    found = differentiable_kendall(scores, targets)
    assert ((found > -1) & (found < 1)).all()
    assert differentiable_kendall(1e4 * scores + 7, targets).tolist() == pytest.approx(
        found.tolist()
    )
    steep = differentiable_kendall(scores, targets, steepness=1e6)
    for row in range(3):
        expected = kendall_tau(scores[row].numpy(), targets[row].numpy())
        assert steep[row].item() == pytest.approx(-expected, abs=1e-6)
    line = torch.arange(9.0)
    assert differentiable_kendall(line, line, steepness=100).item() == pytest.approx(-1, abs=1e-3)
    assert differentiable_kendall(line, -line, steepness=100).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("loss", [mse, pairwise_hinge, logistic, differentiable_kendall])
def test_descending_every_loss_orders_the_scores(loss):
    scores, targets = draws(2, (10,))
    scores.requires_grad_()
    optimiser = torch.optim.Adam([scores], lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        loss(scores, targets).backward()
        optimiser.step()
    assert kendall_tau(scores.detach().numpy(), targets.numpy()) > 0.95


@pytest.mark.parametrize("loss", [mse, pairwise_hinge, logistic, differentiable_kendall])
def test_constant_targets_and_single_values_have_finite_losses_and_gradients(loss):
    for size in (1, 4):
        scores = torch.zeros(size, requires_grad=True)
        value = loss(scores, torch.ones(size))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(scores.grad).all()


def test_units_follow_a_rising_line_only():
    scores = np.array([0.0, 1.0, 2.0, 3.0])
    assert to_units(scores, 70 + 2 * scores) == pytest.approx((2, 70))
    assert to_units(scores, -scores) == pytest.approx((0, -1.5))
    assert to_units(np.ones(4), scores) == pytest.approx((0, 1.5))

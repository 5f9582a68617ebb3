"""Scores against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from predictors.scores import (
    bootstrap_interval,
    kendall_tau,
    rmse,
    sparse_kendall_tau,
    spearman,
    top_k_regret,
)


def tau_by_pairs(a, b):
    """Kendall's tau-b from its definition: signs of all pairs, ties left out of the scale."""
    signs = [np.sign(values[:, None] - values[None]) for values in (a, b)]
    untied = [np.abs(sign).sum() for sign in signs]
    return (signs[0] * signs[1]).sum() / np.sqrt(untied[0] * untied[1])


def rho_by_ranks(a, b):
    """Spearman's rho from its definition: the correlation of ranks, those of ties averaged."""
    ranks = []
    for values in (a, b):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[inverse])
    return np.corrcoef(*ranks)[0, 1]


@pytest.mark.parametrize("size", [2, 3, 10, 100, 700])
@pytest.mark.parametrize("levels", [2, 9, 10_000])
def test_rank_correlations_equal_their_definitions_with_and_without_ties(size, levels):
    rng = np.random.default_rng(size)
    a, b = rng.integers(0, levels, size), rng.integers(0, levels, size)
    a[:2], b[:2] = (0, 1), (1, 0)
    assert kendall_tau(a, b) == pytest.approx(tau_by_pairs(a, b), abs=1e-14)
    assert spearman(a, b) == pytest.approx(rho_by_ranks(a, b), abs=1e-14)


def test_constant_values_have_no_correlation():
    assert np.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert np.isnan(kendall_tau([1, 2, 3], [0.5, 0.5, 0.5]))
    assert np.isnan(spearman([1], [2]))
    assert np.isnan(kendall_tau([], []))


def test_rmse_and_regret():
    assert rmse([1, 2, 3], [1, 2, 6]) == pytest.approx(np.sqrt(3))
    assert top_k_regret([3, 2, 1], [0.1, 0.5, 0.9], 1) == pytest.approx(0.8)
    assert top_k_regret([3, 2, 1], [0.1, 0.5, 0.9], 3) == 0.0
    with pytest.raises(ValueError, match="k >= 1"):
        top_k_regret([1], [1], 0)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        kendall_tau([1, 2], [1, 2, 3])


def test_sparse_tau_without_rounding_is_kendalls():
    rng = np.random.default_rng(1)
    scores, true = rng.normal(size=40), np.round(rng.normal(size=40), 1)
    expected = tau_by_pairs(scores, true)
    assert sparse_kendall_tau(scores, true, 0.0) == pytest.approx(expected)


def test_sparse_tau_forgives_what_lies_within_a_bin():
    true = [0.9001, 0.9004, 0.9101, 0.9199]
    scores = [2, 1, 3, 4]  # The first two stand the wrong way round, 0.03 % apart.
    assert kendall_tau(scores, true) == pytest.approx(4 / 6)
    assert sparse_kendall_tau(scores, true, 0.001) == pytest.approx(5 / np.sqrt(5 * 6))
    assert np.isnan(sparse_kendall_tau(scores, true, 100.0)), "everything ties"
    with pytest.raises(ValueError, match="threshold = -1"):
        sparse_kendall_tau(scores, true, -1)


def test_bootstrap_interval_covers_as_often_as_it_says():
    def gap(a, b):
        return float((a - b).mean())

    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(0.3, 1.0, 40), rng.normal(0.0, 1.0, 40)
        low, high = bootstrap_interval(gap, a, b, rng, replicates=400)
        hits += low <= 0.3 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_bootstrap_leaves_undefined_draws_out():
    rng = np.random.default_rng(0)
    low, high = bootstrap_interval(kendall_tau, [1, 2, 3, 4], [1, 2, 3, 4], rng)
    assert low == high == 1.0, "constant draws have no tau and do not count"
    assert np.isnan(bootstrap_interval(kendall_tau, [1, 1], [1, 2], rng, 10)).all()
    assert np.isnan(bootstrap_interval(kendall_tau, [], [], rng, 10)).all()

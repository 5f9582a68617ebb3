"""Scores against definitions and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from predictors.scores import kendall_tau, rmse, spearman, top_k_regret


def test_rank_correlations_equal_scipy_with_ties():
    rng = np.random.default_rng(0)
    for size in (2, 10, 700):
        a, b = rng.integers(0, 9, size), rng.integers(0, 9, size)
        a[:2], b[:2] = (0, 1), (1, 0)
        assert kendall_tau(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_constant_values_have_no_correlation():
    assert np.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_rmse_and_regret():
    assert rmse([1, 2, 3], [1, 2, 6]) == pytest.approx(np.sqrt(3))
    assert top_k_regret([3, 2, 1], [0.1, 0.5, 0.9], 1) == pytest.approx(0.8)
    assert top_k_regret([3, 2, 1], [0.1, 0.5, 0.9], 3) == 0.0
    with pytest.raises(ValueError, match="k >= 1"):
        top_k_regret([1], [1], 0)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        kendall_tau([1, 2], [1, 2, 3])

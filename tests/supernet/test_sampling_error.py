"""Errors of means over samples in groups: known values, and intervals that hold what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from supernet.data import IMAGES, TEXT, Split
from supernet.quality.evaluate import summarise_scores
from supernet.quality.sampling_error import (
    compute_standard_error,
    compute_wilson_interval,
    count_independent_answers,
    recover_count,
)


def draw_grouped(rng: np.random.Generator, groups: int, size: int) -> np.ndarray:
    """Right answers of groups with difficulties of their own, 80 % on average."""
    difficulty = rng.beta(1.6, 0.4, groups)
    return (rng.random((groups, size)) < difficulty[:, None]).astype(float).ravel()


def number(groups: int, size: int) -> torch.Tensor:
    return torch.arange(groups).repeat_interleave(size)


def test_groups_of_one_have_the_usual_error() -> None:
    values = np.random.default_rng(0).normal(size=50)
    usual = values.std(ddof=1) / math.sqrt(50)
    assert compute_standard_error(values) == pytest.approx(usual, rel=1e-12)
    own = torch.arange(50).flip(0) * 7
    assert compute_standard_error(values, own) == pytest.approx(usual, rel=1e-12)


def test_a_grouped_error_by_hand() -> None:
    # Mean 2.5; sums of deviations -1.5 - 0.5 = -2 and 0.5 + 1.5 = 2; 2 / 1 * (4 + 4) = 16 = 4^2.
    values = np.array([1.0, 3.0, 2.0, 4.0])
    assert compute_standard_error(values, torch.tensor([5, 9, 5, 9])) == pytest.approx(4 / 4)
    # Groups that are equally good on average tell of no error.
    assert compute_standard_error(values, torch.tensor([5, 9, 9, 5])) == 0


def test_copies_of_samples_add_nothing() -> None:
    values = np.random.default_rng(0).normal(size=40)
    copied = compute_standard_error(np.repeat(values, 6), number(40, 6))
    assert copied == pytest.approx(compute_standard_error(values))


def test_one_value_or_group_tells_of_no_error() -> None:
    assert compute_standard_error(np.array([3.0])) == 0
    assert compute_standard_error(np.array([1.0, 2.0]), torch.tensor([4, 4])) == 0


def test_independent_answers_lie_between_groups_and_samples() -> None:
    rng = np.random.default_rng(0)
    scores, groups = draw_grouped(rng, 359, 6), number(359, 6)
    found = count_independent_answers(scores, groups)
    assert 359 < found < 0.7 * len(scores)
    share = scores.mean()
    same = math.sqrt(share * (1 - share) / found)
    assert same == pytest.approx(compute_standard_error(scores, groups))
    assert count_independent_answers(scores) == len(scores)
    alternating = np.tile([1.0, 0.0], 30)
    assert count_independent_answers(alternating, number(30, 2)) == 60, "never more than samples"
    assert count_independent_answers(np.ones(60), number(10, 6)) == 10
    assert count_independent_answers(np.array([1.0, 0.0]), torch.tensor([3, 3])) == 1
    copies = count_independent_answers(np.repeat([1.0, 0.0, 1.0, 1.0], 6), number(4, 6))
    assert copies == pytest.approx(3), "the error of four answers, by the spread of a sample"


def test_intervals_by_group_hold_the_truth_and_others_do_not() -> None:
    rng, trials = np.random.default_rng(0), 400
    groups, held = number(60, 6), np.zeros(2)
    split = Split(torch.zeros(360, 1, 1, 1), torch.zeros(360, dtype=torch.int64), groups)
    for _ in range(trials):
        scores = draw_grouped(rng, 60, 6)
        for i, samples in enumerate((split, None)):
            found = summarise_scores(scores, IMAGES, "val", 0, 1.0, samples)
            held[i] += found.low <= 0.8 <= found.high
    assert 0.93 <= held[0] / trials <= 0.985
    assert held[1] / trials < 0.88


def test_losses_by_group_have_wider_intervals() -> None:
    rng = np.random.default_rng(0)
    losses = np.repeat(rng.gamma(2.0, 1.0, 40), 6) + 0.01 * rng.random(240)
    tokens = torch.zeros(240, 3, dtype=torch.int64)
    found = summarise_scores(losses, TEXT, "val", 0, 1.0, Split(tokens, tokens, number(40, 6)))
    alone = summarise_scores(losses, TEXT, "val", 0, 1.0, Split(tokens, tokens))
    assert found.value == alone.value
    ratio = (found.high - found.value) / (alone.high - alone.value)
    assert ratio == pytest.approx(math.sqrt(6), rel=0.02)


@pytest.mark.parametrize("share", [0.0, 0.003, 0.4, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("count", [1.0, 7.3, 359.0, 1e5])
def test_the_count_behind_an_interval_is_recovered(share: float, count: float) -> None:
    interval = compute_wilson_interval(share, count)
    assert recover_count(share, *interval) == pytest.approx(count, rel=1e-6)


def test_an_interval_of_no_width_has_no_error() -> None:
    assert recover_count(0.5, 0.5, 0.5) == math.inf

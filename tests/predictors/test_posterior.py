"""Posteriors of noisy measurements: what they are worth for the best of many, and their limits."""

from __future__ import annotations

import numpy as np
import pytest

from predictors import posterior
from predictors.posterior import Posterior, infer_posterior
from supernet.errors import InputError
from supernet.space import Choice, SearchSpace

SPACE = SearchSpace(tuple(Choice(f"width{i}", (1, 2, 3, 4), "width") for i in range(6)))
NOISE = 0.5


def sample(count: int, seed: int) -> np.ndarray:
    return np.unique(SPACE.sample(np.random.default_rng(seed), count), axis=0)


def know(rows: np.ndarray) -> np.ndarray:
    """True values: saturating effects, an interaction, and something of each network's own."""
    steps = np.sqrt(rows + 1.0) @ np.array([1.0, 0.8, 0.5, 0.3, 0.2, 0.1])
    own = np.array([np.random.default_rng([7, *row.tolist()]).standard_normal() for row in rows])
    return steps + 0.1 * rows[:, 0] * rows[:, 1] + 0.1 * own


def measure(rows: np.ndarray, seed: int) -> np.ndarray:
    return know(rows) + NOISE * np.random.default_rng([1, seed]).standard_normal(len(rows))


def infer(rows: np.ndarray, values: np.ndarray, noise: float = NOISE) -> Posterior:
    return infer_posterior(SPACE, rows, values, np.full(len(rows), noise), maximize=True, seed=0)


def test_the_best_of_many_is_not_stated_too_high() -> None:
    raw, optimism, lost, regret, inside, errors = [], [], [], [], [], []
    for seed in range(8):
        rows = sample(150, seed)
        truth, values = know(rows), measure(rows, seed)
        found = infer(rows, values)
        lucky, best = int(values.argmax()), int(found.mean.argmax())
        raw.append(values[lucky] - truth[lucky])
        lost.append(truth.max() - truth[lucky])
        optimism.append(found.mean[best] - truth[best])
        regret.append(truth.max() - truth[best])
        gap = np.abs(found.mean - truth)
        inside.append((gap <= 1.645 * found.deviation).mean())
        errors.append(np.sqrt((gap**2).mean()) / NOISE)
    assert np.mean(raw) > 0.8 * NOISE
    assert abs(np.mean(optimism)) < 0.2 * np.mean(raw)
    assert np.mean(regret) < 0.5 * np.mean(lost)
    assert 0.85 <= np.mean(inside) <= 0.97
    assert np.mean(errors) < 0.5


def test_exact_measurements_are_believed() -> None:
    rows = sample(60, 0)
    found = infer(rows, know(rows), noise=0.0)
    assert found.mean == pytest.approx(know(rows), abs=1e-3)
    assert found.deviation.max() < 0.02


def test_what_is_measured_more_often_counts_more() -> None:
    rows = sample(80, 0)
    values, errors = measure(rows, 0), np.full(len(sample(80, 0)), NOISE)
    errors[0] = 0.02
    values[0] = know(rows)[0] + 0.01
    found = infer_posterior(SPACE, rows, values, errors, maximize=True, seed=0)
    assert found.mean[0] == pytest.approx(values[0], abs=0.03)
    assert found.deviation[0] < 0.03
    assert np.median(found.deviation) > 0.05


@pytest.mark.parametrize("maximize", [True, False])
def test_networks_that_fail_do_not_hide_how_alike_the_others_are(
    maximize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = 1.0 if maximize else -1.0
    rows = sample(150, 3)
    values = measure(rows, 3)
    broken = values.copy()
    broken[::15] -= 40.0
    good = np.ones(len(rows), dtype=bool)
    good[::15] = False
    errors = np.full(len(rows), NOISE)

    def infer_and_compare() -> tuple[Posterior, float]:
        found = infer_posterior(SPACE, rows, sign * broken, errors, maximize=maximize, seed=0)
        return found, float(np.sqrt(((sign * found.mean - know(rows))[good] ** 2).mean()))

    found, error = infer_and_compare()
    assert error < 0.8 * NOISE
    # Those that failed keep what is known of them.
    assert (sign * found.mean)[~good].max() < values.min() - 20
    monkeypatch.setattr(posterior, "TAIL", 1e9)
    monkeypatch.setattr(posterior, "CLOSE_TAIL", 1e9)
    assert error < 0.9 * infer_and_compare()[1]


@pytest.mark.parametrize("failed", [0.0, 40.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_good_networks_that_differ_little_are_not_told_apart_by_luck(
    sign: float, failed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How far networks stay behind what can be reached varies by a factor: much among bad ones.
    noise, cases = 0.5, []
    for seed in range(8):
        rows = sample(150, seed)
        rng = np.random.default_rng([2, seed])
        merit = -np.exp(5.0 - 1.2 * know(rows) + 0.8 * rng.standard_normal(len(rows)))
        values = merit + noise * rng.standard_normal(len(rows))
        # Some may fail altogether, which says nothing about how much others differ.
        values[::15] -= failed
        cases.append((rows, merit, values))

    def measure_optimism() -> float:
        found = []
        for rows, merit, values in cases:
            errors = np.full(len(rows), noise)
            mean = infer_posterior(
                SPACE, rows, sign * values, errors, maximize=sign > 0, seed=0
            ).mean
            best = int((sign * mean).argmax())
            found.append(sign * mean[best] - merit[best])
        return float(np.mean(found))

    optimism = measure_optimism()
    monkeypatch.setattr(posterior, "CLOSE_TAIL", posterior.TAIL)
    assert abs(optimism) < 0.4 * measure_optimism()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_lies_between_is_not_judged_by_networks_that_fail_by_far(sign: float) -> None:
    noise = 0.5
    rows = sample(60, 0)
    steps = (rows + 1.0) @ np.array([1.0, 0.8, 0.5, 0.3, 0.2, 0.1])
    truth = sign * steps
    values = truth + noise * np.random.default_rng(1).standard_normal(len(rows))
    failed = np.zeros(len(rows), dtype=bool)
    failed[[3, 7]] = True
    values[failed] = -sign * 1e30
    errors = np.full(len(rows), noise)
    found = infer_posterior(SPACE, rows, values, errors, maximize=sign > 0, seed=0)
    # Some even of those that did not fail are far behind, as failed ones are.
    near = ~failed & (steps > np.median(steps) - 3.0)
    assert near.sum() > 45
    assert np.abs(found.mean - truth)[near].max() < 3 * noise
    assert (found.deviation[near] > 0.1 * noise).all()
    assert (found.deviation[near] < 1.2 * noise).all()


@pytest.mark.parametrize("noise", [1e-17, 1e-300])
def test_errors_too_small_to_tell_levels_apart(noise: float) -> None:
    rows = sample(60, 0)
    values = np.where(np.arange(len(rows)) < 10, 0.1, 0.9)
    found = infer(rows, values, noise)
    assert found.mean == pytest.approx(values, abs=1e-6)
    assert np.isfinite(found.covariance).all()


def test_draws_follow_the_covariance() -> None:
    covariance = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found = Posterior(np.array([1.0, 2.0, 3.0]), covariance)
    drawn = found.draw(np.array([0, 1, 2]), 20_000, np.random.default_rng(0))
    assert drawn.mean(0) == pytest.approx([1, 2, 3], abs=0.05)
    assert np.cov(drawn.T) == pytest.approx(covariance, abs=0.05)
    part = found.draw(np.array([2, 0]), 5, np.random.default_rng(0))
    assert part.shape == (5, 2)
    assert part[:, 0] == pytest.approx(3.0)


def test_the_same_every_time_and_arrays_are_left_alone() -> None:
    rows, values = sample(400, 5), measure(sample(400, 5), 5)
    before = rows.copy(), values.copy()
    one, other = infer(rows, values), infer(rows, values)
    assert (one.mean == other.mean).all()
    assert (one.covariance == other.covariance).all()
    assert (rows == before[0]).all()
    assert (values == before[1]).all()
    assert one.covariance == pytest.approx(one.covariance.T)


def test_few_or_equal_values_stay_as_they_are() -> None:
    few = sample(6, 0)
    found = infer(few, measure(few, 0))
    assert (found.mean == measure(few, 0)).all()
    assert found.deviation == pytest.approx(NOISE)
    rows = sample(30, 0)
    assert (infer(rows, np.ones(len(rows))).mean == 1).all()


def test_statistics_are_used_where_they_explain() -> None:
    rows = sample(60, 1)
    hidden = np.array([np.random.default_rng(row.tolist()).standard_normal() for row in rows])
    values = hidden + 0.3 * np.random.default_rng(0).standard_normal(len(rows))
    lookup = {row.tobytes(): value for row, value in zip(rows, hidden, strict=True)}

    def statistics(asked: np.ndarray) -> np.ndarray:
        return np.array([[lookup[row.tobytes()]] for row in np.asarray(asked, np.int16)])

    errors = np.full(len(rows), 0.3)
    plain = infer_posterior(SPACE, rows, values, errors, maximize=True, seed=0)
    told = infer_posterior(
        SPACE, rows, values, errors, maximize=True, seed=0, statistics=statistics
    )
    assert np.abs(told.mean - hidden).mean() < 0.6 * np.abs(plain.mean - hidden).mean()


def test_errors_that_some_measurements_have_in_common_are_not_merit() -> None:
    rows = sample(120, 2)
    values, errors = measure(rows, 2), np.full(len(rows), NOISE)
    half = np.random.default_rng(0).permutation(len(rows)) < len(rows) // 2
    together = np.where(half[:, None] & half, 4.0, 0.0)

    def favour(given: np.ndarray | None) -> float:
        found = infer_posterior(
            SPACE, rows, values + 2.0 * half, errors, maximize=True, seed=0, together=given
        )
        error = found.mean - know(rows)
        return float(error[half].mean() - error[~half].mean())

    assert favour(None) > 1.0
    assert abs(favour(together)) < 0.3 * favour(None)
    with pytest.raises(InputError, match=r"118 measurements need errors together of shape"):
        favour(together[:5, :5])
    with pytest.raises(InputError, match="errors together must be finite"):
        favour(np.full_like(together, np.nan))


@pytest.mark.parametrize("errors", [[0.1] * 9, [-0.1] * 10, [float("nan")] * 10])
def test_errors_that_cannot_be(errors: list[float]) -> None:
    rows = sample(10, 0)[:10]
    with pytest.raises(InputError, match="10 measurements need as many errors"):
        infer_posterior(SPACE, rows, np.arange(10.0), np.array(errors), maximize=True, seed=0)

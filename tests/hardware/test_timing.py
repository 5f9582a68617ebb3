"""Latency estimates on a busy machine agree with those of the quiet one."""

from __future__ import annotations

import numpy as np
import pytest

from hardware.network_calibration import Calibration, fit_calibration, kendall_tau
from hardware.timing import (
    Effort,
    Quiet,
    estimate_quiet_reference,
    estimate_sensitivity,
    summarise,
    summarise_all,
    visit,
    weigh_quantile,
)
from hardware.validation import judge_predictions


def samples(true_ns: float, busy: np.ndarray, rng: np.random.Generator, exponent: float = 0.8):
    """Visits of 10 samples whose machine is slowed down by ``busy`` ((visits,) factors)."""
    out = []
    for factor in busy:
        noise = 1 + 0.01 * np.abs(rng.standard_normal((10, 3)))
        row = np.array([true_ns * factor**exponent, 20_000 * factor, 20_000 * factor]) * noise
        out.append(row.astype(np.int64))
    return out


def test_busy_visits_are_brought_to_the_quiet_scale() -> None:
    rng = np.random.default_rng(0)
    visits = {
        str(i): samples(100_000 * (i + 1), rng.choice([1.0, 1.7], 8, p=[0.3, 0.7]), rng)
        for i in range(12)
    }
    visits["always busy"] = samples(500_000, np.full(8, 1.7), rng)
    found, quiet = summarise_all(visits, {}, "wall")
    assert quiet.reference_ns == pytest.approx(20_000, rel=0.02)
    assert quiet.units == pytest.approx(0.8, abs=0.05)
    for i in range(12):
        assert found[str(i)].latency_ms == pytest.approx(0.1 * (i + 1), rel=0.03)
    assert found["always busy"].latency_ms == pytest.approx(0.5, rel=0.04)
    assert found["always busy"].quiet == 0


def test_sensitivity_is_measured() -> None:
    rng = np.random.default_rng(1)
    groups = [
        np.concatenate(samples(1e5, np.array([1.0, 1.6, 1.0, 1.8]), rng, exponent=0.5))
        for _ in range(8)
    ]
    assert estimate_sensitivity(groups, 20_100, 0.8) == pytest.approx(0.5, abs=0.05)
    assert estimate_sensitivity(groups[:1], 20_100, 0.8) == 0.8  # too little to tell


def test_known_quiet_reference_holds_when_the_machine_is_busy_throughout() -> None:
    busy = samples(1e5, np.full(5, 1.7), np.random.default_rng(2))
    assert estimate_quiet_reference(busy) == pytest.approx(34_000, rel=0.02)
    assert estimate_quiet_reference(busy, known=20_000.0) == 20_000.0
    known, _ = summarise_all({}, {"a": busy}, "wall", known=Quiet(20_000.0, 0.0, 0.8))
    assert known["a"].latency_ms == pytest.approx(0.1, rel=0.04)


def test_interval_widens_with_disagreement_between_visits() -> None:
    rng = np.random.default_rng(3)
    calm = samples(1e5, np.ones(6), rng)
    wild = [v * f for v, f in zip(calm, (1, 1.2, 0.9, 1.1, 1, 1.3), strict=True)]
    wild = [np.column_stack([w[:, 0], c[:, 1:]]) for w, c in zip(wild, calm, strict=True)]
    narrow, wide = (summarise(v, 20_000.0, 0.8, "wall", "now") for v in (calm, wild))
    assert narrow.low_ms <= narrow.latency_ms <= narrow.high_ms
    assert wide.high_ms - wide.low_ms > 5 * (narrow.high_ms - narrow.low_ms)
    # Six visits of equal weight: Student's t at 4 degrees of freedom, as tables print it.
    level = wide.spread * wide.latency_ms / np.sqrt(5)
    assert (wide.high_ms - wide.latency_ms) / level == pytest.approx(2.78, abs=0.15)
    with pytest.raises(ValueError, match="no visit to summarise"):
        summarise([], 1.0, 1.0, "wall", "now")


def test_weighted_quantile_ignores_what_weighs_nothing() -> None:
    values = np.array([1.0, 2.0, 3.0, 100.0])
    assert weigh_quantile(values, np.array([1.0, 1.0, 1.0, 1e-9]), 0.5) == pytest.approx(2.0)
    assert weigh_quantile(values, np.ones(4), 0.0) == 1.0


def test_visit_respects_its_budget_and_bursts() -> None:
    calls = []

    def timer() -> int:
        calls.append(1)
        return 1000

    rows = visit(timer, lambda: 500, Effort(warmup=2, least=3, most=5, budget_ms=1.0))
    assert rows.tolist() == [[1000, 500, 500]] * 5
    assert len(calls) == 2 + 5 * 20
    rows = visit(lambda: 10_000_000, lambda: 500, Effort(warmup=1, least=3, budget_ms=1.0))
    assert len(rows) == 3


def test_calibration_recovers_the_terms_it_is_made_of() -> None:
    rng = np.random.default_rng(4)
    features = np.column_stack(
        [
            rng.uniform(0.1, 1, 30),
            np.ones(30),
            rng.uniform(0, 2, 30),
            rng.uniform(0, 1, 30),
            np.zeros(30),
        ]
    )
    membership = rng.integers(0, 2, (20, 30)).astype(float)
    truth = np.array([1.1, -0.02, 0.15, -0.03, 0.0])
    target = membership @ features @ truth + 0.3
    found = fit_calibration(features, membership, target)
    assert np.allclose(found.coefficients, truth, atol=1e-6)
    assert found.fixed_ms == pytest.approx(0.3, abs=1e-6)
    assert Calibration.from_json(found.to_json()) == found


def test_calibration_keeps_units_and_overhead_at_zero_or_more() -> None:
    rng = np.random.default_rng(5)
    features = np.column_stack([rng.uniform(0.01, 1, 20), np.ones(20), np.zeros((20, 3))])
    membership = rng.integers(0, 2, (24, 20)).astype(float)
    target = membership @ np.maximum(0, features[:, 0] - 0.1)
    found = fit_calibration(features, membership, target)
    assert found.unit_ms(features).min() == 0
    assert found.fixed_ms >= 0
    predicted = membership @ found.unit_ms(features) + found.fixed_ms
    assert np.abs(predicted / target - 1).mean() < 0.05


def test_too_few_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="3 calibration networks are too few"):
        fit_calibration(np.ones((2, 5)), np.ones((3, 2)), np.ones(3))


def test_rank_correlation() -> None:
    assert kendall_tau(np.array([1, 2, 3]), np.array([2, 4, 9])) == 1
    assert kendall_tau(np.array([1, 2, 3]), np.array([3, 2, 1])) == -1
    assert kendall_tau(np.array([1, 2, 3, 4]), np.array([1, 2, 4, 3])) == pytest.approx(2 / 3)
    assert kendall_tau(np.ones(3), np.array([1, 2, 3])) == 0
    rng = np.random.default_rng(0)
    for levels in (3, 1000):
        a, b = rng.integers(0, levels, (2, 40))
        rows, columns = np.triu_indices(40, 1)
        x, y = np.sign(a[rows] - a[columns]), np.sign(b[rows] - b[columns])
        by_pairs = (x * y).sum() / (np.abs(x).sum() * np.abs(y).sum()) ** 0.5
        assert kendall_tau(a, b) == pytest.approx(by_pairs, abs=1e-14)


def test_report_gates_on_error_floor_and_rank() -> None:
    truth = np.linspace(1, 2, 20)
    good = judge_predictions(truth * 1.04, truth, (truth, truth * 1.01))
    assert good["trustworthy"]
    assert good["mape"] == pytest.approx(0.04)
    assert good["median_bias"] == pytest.approx(0.04)
    assert good["within_5"] == 1.0
    biased = judge_predictions(truth * 1.08, truth, (truth, truth * 1.01))
    assert "mean error is 8.0% and 5.0% is the most allowed" in biased["verdict"]
    noisy = judge_predictions(truth * 1.08, truth, (truth, truth * 1.05))
    assert noisy["trustworthy"]  # 8 % is within twice what repeating the measurement shows
    shuffled = judge_predictions(truth[::-1], truth, (truth, truth * 2))
    assert "rank correlation is -1.00" in shuffled["verdict"]

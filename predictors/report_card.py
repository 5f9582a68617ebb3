"""Held-out predictions, and the report card that says how far a predictor can be trusted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictors.scores import kendall_tau, rmse, spearman, top_k_regret

Vector = NDArray[np.float64]
LEVEL = 0.9
AIM = 0.9
HIGHEST, LOWEST = "highest", "lowest"
# Share of the rows that count as the predicted best.
_TOP = 20
# Labels vary when no part of them, as large as an interval should hold, lies closer together than
# this share of the range of all.
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class HeldOut:
    """Predictions of the training rows by models that had not seen them.

    Args:
        positions: ``(n, len(space))``, canonical.
        values: What was measured, ``(n,)``.
        mean: Predicted without the row, ``(n,)``.
        std: Standard deviation claimed for it, ``(n,)``.
    """

    positions: NDArray[np.int16]
    values: Vector
    mean: Vector
    std: Vector


@dataclass(frozen=True)
class ReportCard:
    """How well a predictor did on values it had not seen (cross-validation, in their unit).

    Args:
        model: The method, by module name.
        samples: How many values it was fitted on.
        tau: Kendall's tau-b of held-out predictions; NaN when undefined.
        spearman: Spearman's correlation of held-out predictions; NaN when undefined.
        rmse: Error of held-out predictions.
        level: Nominal coverage of the intervals.
        coverage: Share of values inside intervals whose width came from other values; NaN when
            the values hardly vary, so that they say nothing about errors.
        half_width: Median half-width of the intervals on the training rows; NaN likewise.
        widening: Factor applied to the standard deviation to make the interval (conformal).
        regret: How far the best of the twentieth predicted best falls short of the best of all.
        curve: Held-out Kendall tau at growing numbers of samples; empty unless it was asked for.
        needed: About how many more evaluations lead to ``aim``: 0 when it is reached, ``None``
            when the curve was not asked for or does not support an estimate.
        aim: The Kendall tau that ``needed`` is about.
        best: Which values ``regret`` takes for the best: the ``"highest"`` or the ``"lowest"``.
        widest: The largest half-width of any interval: the range of the values it was fitted on.
    """

    model: str
    samples: int
    tau: float
    spearman: float
    rmse: float
    level: float
    coverage: float
    half_width: float
    widening: float
    regret: float = float("nan")
    curve: tuple[tuple[int, float], ...] = ()
    needed: int | None = None
    aim: float = AIM
    best: str = HIGHEST
    widest: float = float("inf")

    @property
    def varied(self) -> bool:
        """Whether the values varied enough to say how far predictions are off."""
        return bool(np.isfinite(self.half_width))

    def bound_half_width(self, std: Vector) -> Vector:
        """Turn standard deviations ``(n,)`` into half-widths of intervals at the level.

        Deviations of a model that learnt from values which hardly vary can be anything; no
        interval is wider than the range of the values to either side.
        """
        return np.minimum(std * self.widening, self.widest)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON; undefined figures become ``None``."""
        record = asdict(self)
        return {
            key: None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in record.items()
        }


def make_report_card(model: str, held_out: HeldOut, level: float = LEVEL) -> ReportCard:
    """Compute scores and the widening of intervals from held-out predictions.

    The widening is the conformal quantile of the residuals over their claimed deviations (split
    conformal prediction, Lei et al. 2018, with leave-one-out residuals in place of a split), one
    standard error of a quantile above the level: the level is then held for most training sets
    and not only on the average of them (Vovk 2012, "Conditional validity of inductive conformal
    predictors", proposition 2). The coverage is that of the level alone, cross-fitted: every half
    of the rows is judged by the other half's quantile. Values most of which are the same give no
    such quantile: one that stands out alone would decide it.

    Args:
        model: The method, by module name.
        held_out: Predictions of unseen rows.
        level: Nominal coverage between 0 and 1.
    """
    error = np.abs(held_out.values - held_out.mean)
    ratios = error / np.maximum(held_out.std, 1e-12)
    even, odd = ratios[::2], ratios[1::2]
    covered = np.concatenate((even <= _quantile(odd, level), odd <= _quantile(even, level)))
    slack = np.sqrt(level * (1 - level) / len(ratios))
    widening = _quantile(ratios, level + slack)
    widest = float(np.ptp(held_out.values))
    varied = _find_shortest_range(held_out.values, level) > _LEAST_SPREAD * widest
    half_width = min(float(np.median(held_out.std) * widening), widest)
    return ReportCard(
        model=model,
        samples=len(ratios),
        tau=kendall_tau(held_out.mean, held_out.values),
        spearman=spearman(held_out.mean, held_out.values),
        rmse=rmse(held_out.mean, held_out.values),
        level=level,
        coverage=float(covered.mean()) if varied else float("nan"),
        half_width=half_width if varied else float("nan"),
        widening=widening,
        regret=_regret(held_out, HIGHEST),
        widest=widest,
    )


def rescore_for_cost(report: ReportCard, held_out: HeldOut) -> ReportCard:
    """The card of a quantity of which less is better: its regret is that of the lowest values.

    Args:
        report: As made by :func:`report_card`.
        held_out: What it was made of.
    """
    return replace(report, regret=_regret(held_out, LOWEST), best=LOWEST)


def summarise_card(name: str, unit: str, report: ReportCard) -> str:
    """Write one line that says how far a predictor can be trusted.

    Args:
        name: What is predicted.
        unit: The unit of what is predicted; empty for none.
        report: The predictor's report card.
    """
    tau = f"tau {report.tau:.2f}" if np.isfinite(report.tau) else "tau undefined"
    width = f"{report.half_width:.3g} {unit}".rstrip()
    parts = [
        f"{name} predictor ({report.model}, {report.samples} evaluations): {tau} on held-out ones",
        f"{report.level:.0%} within ±{width} (held for {report.coverage:.0%})"
        if report.varied
        else "they do not vary enough to say how far it is off",
    ]
    if report.needed:
        parts.append(f"about {report.needed} more evaluations for tau {report.aim:g}")
    elif report.curve and report.needed is None:
        parts.append(f"its learning curve does not say when tau {report.aim:g} is reached")
    return "; ".join(parts)


def _regret(held_out: HeldOut, best: str) -> float:
    sign = 1.0 if best == HIGHEST else -1.0
    most = max(1, len(held_out.values) // _TOP)
    return top_k_regret(sign * held_out.mean, sign * held_out.values, most)


def _find_shortest_range(values: Vector, level: float) -> float:
    """The length of the shortest interval that holds a share of the values."""
    ordered = np.sort(values)
    inside = ceil(level * len(ordered))
    return float((ordered[inside - 1 :] - ordered[: len(ordered) - inside + 1]).min())


def _quantile(scores: Vector, level: float) -> float:
    # With too few scores the conformal quantile is infinite; the largest score is the best finite
    # statement, and the reported coverage then shows the shortfall.
    rank = min(ceil((len(scores) + 1) * level), len(scores))
    return float(np.sort(scores)[rank - 1])

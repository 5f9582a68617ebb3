"""How good a latency table is, on networks it has not seen, beside what repetition allows."""

from __future__ import annotations

from typing import Any

import numpy as np

from hardware.network_calibration import kendall_tau

MAX_ERROR = 0.05
MIN_TAU = 0.90


def judge_predictions(
    predicted_ms: np.ndarray, measured_ms: np.ndarray, halves_ms: tuple[np.ndarray, np.ndarray]
) -> dict[str, Any]:
    """Judge predictions by measurements of other networks.

    Args:
        predicted_ms: The table's predictions, ``(n,)``.
        measured_ms: Measurements, ``(n,)``.
        halves_ms: The same networks measured in each half of the passes, fresh sessions.

    Returns:
        Errors as fractions. ``floor_mape`` and ``floor_tau`` compare the two halves: no
        predictor can be shown to be better than that. ``trustworthy`` is whether
        ``mape <= max(0.05, 2 * floor_mape)`` and ``kendall_tau >= 0.90``, and ``verdict``
        says so in a sentence.
    """
    error = predicted_ms / measured_ms - 1
    floor = np.abs(halves_ms[0] / halves_ms[1] - 1)
    mape, tau, noise = (
        float(np.abs(error).mean()),
        kendall_tau(predicted_ms, measured_ms),
        float(floor.mean()),
    )
    allowed = max(MAX_ERROR, 2 * noise)
    reasons = []
    if mape > allowed:
        reasons.append(f"its mean error is {mape:.1%} and {allowed:.1%} is the most allowed")
    if tau < MIN_TAU:
        reasons.append(f"its rank correlation is {tau:.2f} and {MIN_TAU:.2f} is the least allowed")
    if reasons:
        verdict = f"Not trustworthy: on {len(error)} unseen networks {' and '.join(reasons)}."
    else:
        verdict = (
            f"Trustworthy: on {len(error)} unseen networks its mean error is {mape:.1%} "
            f"(repeating the measurement differs by {noise:.1%}), rank correlation {tau:.2f}."
        )
    return {
        "networks": len(error),
        "mape": mape,
        "median_bias": float(np.median(error)),
        "max_error": float(np.abs(error).max()),
        "within_5": float((np.abs(error) <= 0.05).mean()),
        "within_10": float((np.abs(error) <= 0.10).mean()),
        "kendall_tau": tau,
        "floor_mape": noise,
        "floor_tau": kendall_tau(*halves_ms),
        "trustworthy": not reasons,
        "verdict": verdict,
    }

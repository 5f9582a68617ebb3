"""From sums of isolated unit latencies to network latencies: three coefficients at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# Sets of terms that are tried; more terms fit noise with the few networks there are.
_FORMS = (("scale",), ("scale", "fixed"), ("scale", "per_unit"), ("scale", "fixed", "per_unit"))


@dataclass(frozen=True, slots=True)
class Calibration:
    """``latency = scale * sum of units + per_unit * number of units + fixed``.

    ``per_unit`` is usually negative: a unit measured alone pays for a call into the runtime that
    the network pays once.

    Attributes:
        scale: factor on every unit's latency.
        per_unit_ms: milliseconds added for every unit.
        fixed_ms: milliseconds added to every network, 0 or more.
        error: leave-one-out mean relative error on the calibration networks.
        networks: number of calibration networks.
    """

    scale: float
    per_unit_ms: float
    fixed_ms: float
    error: float
    networks: int

    def unit_ms(self, isolated_ms: np.ndarray) -> np.ndarray:
        """What units measured alone contribute to a network, same shape, 0 or more."""
        return np.maximum(0.0, self.scale * isolated_ms + self.per_unit_ms)

    def to_json(self) -> dict[str, Any]:
        """All coefficients, with the formula in words."""
        return {
            "version": 1,
            "formula": "scale * sum of unit latencies + per_unit_ms * units + fixed_ms",
            "scale": self.scale,
            "per_unit_ms": self.per_unit_ms,
            "fixed_ms": self.fixed_ms,
            "leave_one_out_error": self.error,
            "networks": self.networks,
        }

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Calibration:
        """The calibration :meth:`to_json` wrote."""
        return cls(payload["scale"], payload["per_unit_ms"], payload["fixed_ms"],
                   payload["leave_one_out_error"], payload["networks"])  # fmt: skip


def calibrate(
    sums_ms: np.ndarray, units: np.ndarray, measured_ms: np.ndarray, smallest_ms: float
) -> Calibration:
    """Fit the coefficients on measured networks by least relative squares.

    Of the forms tried, the one with the least leave-one-out error is kept, provided that it
    ranks no worse than the plain scale does.

    Args:
        sums_ms: sum of isolated unit latencies of each network, ``(n,)``.
        units: number of units of each network, ``(n,)``.
        measured_ms: measured latency, ``(n,)``.
        smallest_ms: latency of the fastest unit; no unit may come out below 0.

    Raises:
        ValueError: if there are fewer than 4 networks.
    """
    count = len(measured_ms)
    if count < 4:
        raise ValueError(f"{count} calibration networks are too few; measure 4 or more")
    best: tuple[float, tuple[str, ...]] | None = None
    floor_tau = -1.0
    for form in _FORMS:
        predicted = np.empty(count)
        for left in range(count):
            kept = np.arange(count) != left
            a, c, b = _fit(form, sums_ms[kept], units[kept], measured_ms[kept], smallest_ms)
            predicted[left] = a * sums_ms[left] + c * units[left] + b
        error = float(np.abs(predicted / measured_ms - 1).mean())
        tau = kendall_tau(predicted, measured_ms)
        if form == ("scale",):
            floor_tau = tau
        if (best is None or error < best[0]) and tau >= floor_tau - 0.01:
            best = (error, form)
    assert best is not None
    a, c, b = _fit(best[1], sums_ms, units, measured_ms, smallest_ms)
    return Calibration(a, c, b, best[0], count)


def _fit(
    form: tuple[str, ...], sums: np.ndarray, units: np.ndarray, target: np.ndarray, smallest: float
) -> tuple[float, float, float]:
    """Scale, per-unit and fixed coefficient, with units and the fixed part kept at 0 or more."""
    columns = {"scale": sums, "per_unit": units, "fixed": np.ones(len(target))}
    found = _solve([columns[name] for name in form], target)
    fitted = {"scale": 0.0, "per_unit": 0.0, "fixed": 0.0, **dict(zip(form, found, strict=True))}
    if fitted["fixed"] < 0:
        return _fit(tuple(f for f in form if f != "fixed"), sums, units, target, smallest)
    if fitted["scale"] * smallest + fitted["per_unit"] < 0:
        # Tie the per-unit term to the scale, so that the fastest unit costs nothing.
        rest = [columns["fixed"]] if "fixed" in form else []
        scale, *fixed = _solve([sums - smallest * units, *rest], target)
        if fixed and fixed[0] < 0:
            scale, fixed = _solve([sums - smallest * units], target)[0], [0.0]
        return float(scale), float(-scale * smallest), float(fixed[0]) if fixed else 0.0
    return fitted["scale"], fitted["per_unit"], fitted["fixed"]


def _solve(columns: list[np.ndarray], target: np.ndarray) -> list[float]:
    design = np.stack(columns, axis=1) / target[:, None]
    return [float(v) for v in np.linalg.lstsq(design, np.ones(len(target)), rcond=None)[0]]


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's rank correlation (tau-b), -1 to 1; 0 where one side is constant."""
    rows, columns = np.triu_indices(len(first), 1)
    a, b = np.sign(first[rows] - first[columns]), np.sign(second[rows] - second[columns])
    scale = float((np.abs(a).sum() * np.abs(b).sum()) ** 0.5)
    return float((a * b).sum()) / scale if scale else 0.0

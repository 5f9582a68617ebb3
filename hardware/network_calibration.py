"""From isolated unit latencies to what the units cost inside a network: six numbers at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from supernet.costs.cost_model import BORDER, CostModel, CostUnit
from supernet.errors import InputError
from supernet.graph.language import Graph
from supernet.graph.quantized.packing import stored_bytes

# Term, and the sign its coefficient must have to mean what it says; 0 leaves the sign open.
TERMS = (
    ("scale", 1),  # every unit alike: the machine's state differs inside a network
    ("per_unit_ms", 0),  # a unit measured alone pays for its own call into the runtime
    ("per_million_weights_ms", 1),  # measured alone, a unit's weights stay in the cache
    ("per_million_values_ms", -1),  # measured alone, a unit converts its input and output layout
)
# What converts between precisions has the scale of units and a part of its own: measured alone it
# pays for its own call, in a network the layout of floats turns, too.
BORDER_TERM = ("per_border_ms", 0)
FIXED = "fixed_ms"
_SCALE, _BORDER = 0, len(TERMS)
_INTEGERS = ("uint8", "int8")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Coefficients of the terms, each additive over units, and a fixed part per network.

    Args:
        coefficients: One for each entry of ``TERMS`` and, where networks have borders between
            precisions, of ``BORDER_TERM``; 0 where the term is not used.
        fixed_ms: Milliseconds added to every network, 0 or more.
        error: Leave-one-out mean relative error on the calibration networks.
        networks: Number of calibration networks.
    """

    coefficients: tuple[float, ...]
    fixed_ms: float
    error: float
    networks: int

    def unit_ms(self, features: np.ndarray) -> np.ndarray:
        """Compute what units add to a network, in milliseconds, 0 or more.

        Args:
            features: :func:`collect_unit_features` of the space the networks are of, or of its
                part without borders.

        Returns:
            Shape ``(units,)``.
        """
        used = np.array(self.coefficients[: features.shape[1]])
        return np.asarray(np.maximum(0.0, features @ used))

    def to_json(self) -> dict[str, Any]:
        """Return all coefficients by name."""
        names = [name for name, _ in (*TERMS, BORDER_TERM)]
        return {
            "version": 1,
            "terms": dict(zip(names, self.coefficients, strict=False)),
            FIXED: self.fixed_ms,
            "leave_one_out_error": self.error,
            "networks": self.networks,
        }

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Calibration:
        """Restore the calibration that :meth:`to_json` wrote."""
        terms = payload["terms"]
        border, _ = BORDER_TERM
        return cls(
            (*(terms[name] for name, _ in TERMS), *([terms[border]] if border in terms else [])),
            payload[FIXED],
            payload["leave_one_out_error"],
            payload["networks"],
        )


def collect_unit_features(cost_model: CostModel, isolated_ms: np.ndarray) -> np.ndarray:
    """Collect the columns of ``TERMS`` for every distinct unit, ``(units, len(TERMS))``.

    Weights and values count in words of 32 bits, four 8-bit integers as one. Where there are
    borders, ``BORDER_TERM`` is one column more, and borders have that and the scale.

    Args:
        cost_model: Names the distinct units.
        isolated_ms: Latency of each of them measured alone, ``(units,)``.
    """
    rows = np.array(
        [
            _describe_unit(unit, float(ms))
            for unit, ms in zip(cost_model.distinct, isolated_ms, strict=True)
        ]
    )
    return rows if rows[:, _BORDER].any() else rows[:, :_BORDER]


def _describe_unit(unit: CostUnit, ms: float) -> tuple[float, ...]:
    if unit.precision == BORDER:
        return (ms, 0.0, 0.0, 0.0, 1.0)
    floats = all(w.dtype.startswith("float") for w in unit.graph.weights)
    words = unit.parameters if floats else stored_bytes(unit.graph) / 4
    return (ms, 1.0, words / 1e6, _count_border_words(unit.graph) / 1e6, 0.0)


def drop_borders(features: np.ndarray) -> np.ndarray:
    """Make features under which passing from one precision to another costs nothing.

    Args:
        features: :func:`collect_unit_features` of a space with borders.

    Returns:
        The columns of ``TERMS``, 0 for borders.
    """
    return np.where(features[:, [_BORDER]] > 0, 0.0, features)[:, :_BORDER]


def fit_calibration(
    features: np.ndarray, membership: np.ndarray, measured_ms: np.ndarray
) -> Calibration:
    """Fit the coefficients on measured networks by least relative squares.

    Of the sets of terms, the one with the least leave-one-out error is kept, provided that it
    ranks no worse than the least of them does. Coefficients of the wrong sign are dropped. The
    scale is in all of them, and the part of every border wherever networks have borders.

    Args:
        features: :func:`collect_unit_features`, ``(units, terms)``.
        membership: How often each network contains each unit, ``(n, units)``.
        measured_ms: Measured latency, ``(n,)``.

    Raises:
        InputError: There are fewer than 4 networks.
    """
    count = len(measured_ms)
    if count < 4:
        raise InputError(f"{count} calibration networks are too few; measure 4 or more")
    design = np.column_stack([membership @ features, np.ones(count)])
    terms = (*TERMS, BORDER_TERM)[: features.shape[1]]
    signs = np.array([*(sign for _, sign in terms), 1])
    required = (_SCALE, *range(_BORDER, len(terms)))
    optional = [c for c in range(len(signs)) if c not in required]
    best: tuple[float, tuple[int, ...]] | None = None
    floor_tau = -1.0
    for size in range(len(optional) + 1):
        for extra in combinations(optional, size):
            chosen = (*required, *extra)
            predicted = np.array(
                [
                    design[left]
                    @ _solve(
                        np.delete(design, left, 0), np.delete(measured_ms, left), chosen, signs
                    )
                    for left in range(count)
                ]
            )
            error = float(np.abs(predicted / measured_ms - 1).mean())
            tau = kendall_tau(predicted, measured_ms)
            if not extra:
                floor_tau = tau
            if (best is None or error < best[0]) and tau >= floor_tau - 0.01:
                best = (error, chosen)
    assert best is not None
    found = _solve(design, measured_ms, best[1], signs)
    # No unit may cost less than nothing; what that adds is taken from the other parts again.
    kept = membership @ np.maximum(0.0, features @ found[:-1])
    again = _solve(np.column_stack([kept, np.ones(count)]), measured_ms, (0, 1), signs[[0, -1]])
    coefficients = tuple(float(v) for v in found[:-1] * again[0])
    return Calibration(coefficients, float(again[1]), best[0], count)


def _solve(
    design: np.ndarray, target: np.ndarray, chosen: tuple[int, ...], signs: np.ndarray
) -> np.ndarray:
    """Fit the chosen columns, 0 elsewhere; columns of the wrong sign are left out."""
    columns = list(chosen)
    relative = design / target[:, None]
    while True:
        values = np.linalg.lstsq(relative[:, columns], np.ones(len(target)), rcond=None)[0]
        wrong = [
            c for c, v in zip(columns, values, strict=True) if v * signs[c] < 0 and c != _SCALE
        ]
        if not wrong:
            break
        columns = [c for c in columns if c not in wrong]
    result = np.zeros(design.shape[1])
    result[columns] = values
    return result


def _count_border_words(graph: Graph) -> float:
    """Count the 32-bit words in a unit's inputs and outputs for one sample."""
    return sum(
        int(np.prod([d for d in spec.shape if isinstance(d, int)]))
        / (4 if spec.dtype in _INTEGERS else 1)
        for spec in (*graph.inputs, *graph.outputs)
    )


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Compute Kendall's rank correlation (tau-b), -1 to 1; 0 where one side is constant."""
    from scipy.stats import kendalltau

    tau = float(kendalltau(first, second).statistic)
    return tau if np.isfinite(tau) else 0.0

"""Reading ``front.json`` into values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.records.front import Estimate, Front, Point
from app.records.quantities import LATENCY, Quantity, counted_quantities, stored_quantity

FORMAT_VERSION = 1


def front_from_json(payload: Mapping[str, Any], where: str, search: str) -> Front:
    """Read the content of a ``front.json``.

    Args:
        payload: The decoded file.
        where: Its path, for messages.
        search: Name of the search, from its folder.

    Raises:
        ValueError: Unknown version, or something that every front has is missing.
    """
    if not isinstance(payload, Mapping):
        raise ValueError(f"{where} is not a front; it was damaged or edited")
    if payload.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{where} has version {payload.get('version')!r}; "
            f"this release reads version {FORMAT_VERSION}"
        )
    try:
        objectives = tuple(
            stored_quantity(str(o["name"]), str(o.get("unit", "")), str(o["direction"]))
            for o in payload["objectives"]
        )
        points = tuple(_point(row) for row in payload["points"])
        limits = {
            str(c["objective"]): float(c["at_most"])
            for c in payload.get("constraints") or ()
            if c.get("at_most") is not None
        }
    except KeyError as error:
        raise ValueError(f"{where} is incomplete: an entry lacks {error}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{where} is not a front: {error}") from None
    if not objectives:
        raise ValueError(f"{where} names no objectives, so its points cannot be compared")
    return Front(
        search=search,
        device=str(payload.get("device") or ""),
        strategy=str(payload.get("strategy", "")),
        seed=payload.get("seed"),
        evaluations=payload.get("evaluations"),
        space_digest=str(payload.get("space", "")),
        objectives=objectives,
        limits=limits,
        points=points,
        hypervolume={
            name: value
            for name, value in (payload.get("hypervolume") or {}).items()
            if isinstance(value, (int, float))
        },
        reports=dict(_reports(payload.get("report"), objectives)),
        latency_method=str(payload.get("latency_method") or ""),
        unmeasured=tuple(str(name) for name in payload.get("unmeasured_devices") or ()),
        failed=int(_number(payload.get("failed")) or 0),
        stopped=str(payload.get("stopped") or ""),
    )


def _point(row: Mapping[str, Any]) -> Point:
    estimates = {str(name): _estimate(entry) for name, entry in row["objectives"].items()}
    for quantity in counted_quantities():
        count = _number(row.get(quantity.name))
        if quantity.name not in estimates and count is not None:
            estimates[quantity.name] = Estimate(None, count, "analytic", None, None, None)
    return Point(
        digest=str(row["digest"]),
        choices=dict(row["architecture"]),
        on_front=bool(row.get("on_front")),
        verified=bool(row.get("verified")),
        estimates=estimates,
        breakdown=tuple(
            (str(part["unit"]), float(part[LATENCY.name])) for part in row.get("breakdown") or ()
        ),
        indistinguishable=bool(row.get("indistinguishable")),
    )


def _estimate(entry: Mapping[str, Any]) -> Estimate:
    figures = {
        key: _number(entry.get(key)) for key in ("predicted", "value", "low", "high", "test")
    }
    return Estimate(
        figures["predicted"],
        figures["value"],
        str(entry.get("source", "")),
        figures["low"],
        figures["high"],
        figures["test"],
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _reports(
    report: object, objectives: Sequence[Quantity]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Predictor report cards by objective: the file holds one card, or one per objective."""
    if not isinstance(report, Mapping) or not report:
        return
    nested = {str(k): v for k, v in report.items() if isinstance(v, Mapping)}
    if nested:
        yield from nested.items()
    else:
        yield objectives[0].name, report

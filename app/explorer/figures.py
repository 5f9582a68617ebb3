"""The figures of a network as a table: value, interval, source, prediction and test."""

from __future__ import annotations

from app.explorer.markup import write_text
from app.records import numbers
from app.records.front import Estimate, Front, Point
from app.records.quantities import Quantity


def list_figures(front: Front, point: Point) -> list[dict[str, str]]:
    """A row for each quantity that is known of a network; cells are escaped for Markdown."""
    rows = []
    for axis in front.axes:
        estimate = point.estimate(axis.name)
        if estimate.best is None:
            continue
        row = {
            "figure": axis.title,
            "value": axis.show(estimate.best),
            "95 % interval": _show_interval(axis, estimate.interval),
            "source": _name_source(estimate),
            "evaluated": axis.show(estimate.value),
            "predicted": axis.show(estimate.predicted),
            "on test": axis.show(estimate.test),
        }
        rows.append({name: write_text(text) for name, text in row.items()})
    return rows


def _name_source(estimate: Estimate) -> str:
    """Where the value is from; what evaluations and predictor say together is expected."""
    if estimate.posterior is not None:
        samples = f", {estimate.samples:,} samples" if estimate.samples else ""
        return f"expected from all evaluations{samples}"
    if estimate.value is None:
        return "predicted"
    return estimate.source or numbers.MISSING


def _show_interval(axis: Quantity, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return numbers.MISSING
    low, high = interval
    return f"{axis.show(low)} to {axis.show(high)}"

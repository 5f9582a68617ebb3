"""The figures of a network as a table: value, interval, source, prediction and test."""

from __future__ import annotations

from app.records import numbers
from app.records.quantities import Quantity
from app.records.searches.front import Estimate, Front, Point

HEADER = ("figure", "value", "95 % interval", "source", "evaluated", "predicted", "on test")


def list_figures(front: Front, point: Point) -> list[tuple[str, ...]]:
    """A row for each quantity that is known of a network, with a text for each of ``HEADER``."""
    rows: list[tuple[str, ...]] = []
    for axis in front.axes:
        estimate = point.estimate(axis.name)
        if estimate.best is not None:
            rows.append(
                (
                    axis.title,
                    axis.show(estimate.best),
                    _show_interval(axis, estimate.interval),
                    _name_source(estimate),
                    axis.show(estimate.value),
                    axis.show(estimate.predicted),
                    axis.show(estimate.test),
                )
            )
    return rows


def _name_source(estimate: Estimate) -> str:
    """Where the value is from; what evaluations and predictor say together is expected."""
    if estimate.alone is not None:
        return "predicted of the network trained alone"
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

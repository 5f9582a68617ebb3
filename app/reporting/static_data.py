"""One search as the data of a static page: its chart, and what is known of each point in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.records.quantities import Quantity
from app.records.searches import picking
from app.records.searches.front import Front, Point
from app.reporting.scatter.json_parts import describe_look
from app.reporting.scatter.payload import build_payload, describe_estimate_source
from app.reporting.scatter.places import find_places
from app.reporting.scatter.view import (
    CLOSE,
    DOMINATED,
    FAILED,
    INTERVALS,
    KNEE,
    LOOKS,
    OUTSIDE,
    ScatterView,
)
from supernet.space import SearchSpace, Value

SHOWN = frozenset((INTERVALS, KNEE, CLOSE, DOMINATED, OUTSIDE, FAILED))


def describe_search(
    front: Front, space: SearchSpace | None, export: Callable[[str], str], most: int
) -> dict[str, Any]:
    """What the script of a static page is given of one search.

    Args:
        front: What it found.
        space: Gives the legal values of each choice; without it they are those that points have.
        export: The command line that exports the architecture of a digest.
        most: How many points are carried at most.

    Returns:
        JSON: the ``scatter``, its ``points`` (the front first, by rising cost), the ``choices``
        with their values, and the latencies of ``units`` of points on the front.
    """
    chosen = picking.pick_knee(front)
    view = _make_view(front, None if chosen is None else chosen.digest, most)
    found = find_places(front, view)
    drawn = [(kind, int(i)) for kind, places in found.kinds.items() for i in places]
    there = {place for _, place in drawn}
    # A front point without a place in the chart is in the table all the same.
    lost = [int(i) for i in np.flatnonzero(front.on_front) if int(i) not in there]
    drawn += [("verified" if front.verified[i] else "unverified", i) for i in lost[:most]]
    costs = front.column(front.cost.name).best
    # Of unknown cost are the last.
    drawn.sort(
        key=lambda pair: (not front.on_front[pair[1]], np.nan_to_num(costs[pair[1]], nan=np.inf))
    )
    points = [front.points[i] for _, i in drawn]
    choices = _list_choices(space, points)
    x, y = (front.column(axis.name).best for axis in (view.x, view.y))
    return {
        "scatter": build_payload(front, view),
        "ring": describe_look("chosen", LOOKS["chosen"]),
        "chosen": view.chosen,
        "axes": [axis.title for axis in front.axes],
        "choices": [{"name": n, "values": [str(v) for v in values]} for n, values in choices],
        "points": [
            {
                "id": point.digest,
                "kind": LOOKS[kind].name,
                "front": bool(front.on_front[place]),
                "x": _or_none(x[place]),
                "y": _or_none(y[place]),
                "figures": [axis.show(point.best(axis.name)) for axis in front.axes],
                "notes": [_describe_source(point, axis) for axis in front.axes],
                "genes": [_find_gene(values, point.choices.get(n)) for n, values in choices],
                "export": export(point.digest),
            }
            for point, (kind, place) in zip(points, drawn, strict=True)
        ],
        **_list_units([point for point in points if point.on_front]),
    }


def _make_view(front: Front, chosen: str | None, most: int) -> ScatterView:
    x, y = front.cost, front.quality
    third = next((o for o in front.objectives if o.name not in (x.name, y.name)), None)
    return ScatterView(x, y, color=third, shown=SHOWN, chosen=chosen, most=most)


def _describe_source(point: Point, axis: Quantity) -> str:
    """The interval of a value, where it is from, and what the test split says."""
    estimate = point.estimate(axis.name)
    tested = "" if estimate.test is None else f"test {axis.show(estimate.test)}"
    return "; ".join(part for part in (describe_estimate_source(point, axis), tested) if part)


def _list_choices(
    space: SearchSpace | None, points: Sequence[Point]
) -> list[tuple[str, tuple[Value, ...]]]:
    """Every choice with its values, smallest first."""
    if space is not None:
        return [(name, space.choice(name).values) for name in space.names]
    names = dict.fromkeys(name for point in points for name in point.choices)
    found = []
    for name in names:
        values = {point.choices[name] for point in points if name in point.choices}
        found.append((name, tuple(sorted(values, key=lambda v: (isinstance(v, str), v)))))
    return found


def _find_gene(values: Sequence[Value], value: Value | None) -> int:
    """Which of its values a choice has; -1 for a part that is not in the network."""
    return values.index(value) if value is not None and value in values else -1


def _list_units(points: Sequence[Point]) -> dict[str, Any]:
    """Latencies of units in milliseconds: names once, and a number for each unit of each point."""
    # In the order of the networks that have most of them.
    longest = sorted(points, key=lambda point: -len(point.breakdown))
    names = list(dict.fromkeys(unit for point in longest for unit, _ in point.breakdown))
    latencies = {}
    for point in points:
        known = dict(point.breakdown)
        if known:
            latencies[point.digest] = [
                float(f"{known[name]:.4g}") if name in known else None for name in names
            ]
    return {"units": names, "latencies": latencies}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.7g}")

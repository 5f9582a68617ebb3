"""What the script of the interactive chart is given: JSON, every value in its stored unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.records.numbers import format_items
from app.records.quantities import Quantity
from app.records.searches import picking
from app.records.searches.front import Front, Point
from app.reporting.charts import palette
from app.reporting.scatter.apart import count_failed, describe_failed, list_apart
from app.reporting.scatter.json_parts import Json, describe_look, pair_colors, shorten
from app.reporting.scatter.places import (
    Found,
    Places,
    Values,
    climb_stairs,
    find_evaluations,
    find_intervals,
    find_places,
    find_predictions,
    list_named,
    reach,
)
from app.reporting.scatter.view import (
    CLOSE,
    DOMINATED,
    EVALUATED,
    FAILED,
    INTERVALS,
    KNEE,
    LOOKS,
    OUTSIDE,
    PREDICTED,
    RANDOM_SEARCH,
    REFERENCES,
    ScatterView,
)

ALONE = "trained alone, predicted"


def build_payload(front: Front, view: ScatterView) -> Json:
    """All that is drawn of a front, its axes, its lines, and sentences about what is not drawn.

    Args:
        front: What a search found.
        view: What is shown of it.

    Returns:
        What ``json.dumps`` writes without NaN: ``x``, ``y`` and ``color`` describe axes;
        ``groups`` are points (in the order of the legend, the first on top), ``lines`` and
        ``joins`` what connects them; ``budgets`` and ``region`` can be changed in the chart.
    """
    found = find_places(front, view)
    groups = _list_groups(front, view, found)
    verified = found.kinds["verified"]
    stairs = climb_stairs(front, view, verified)
    lines = [_draw_line("reached within a budget", palette.SKY, *stairs, step=True)]
    if found.random.members:
        ends = (np.array(values, np.float64) for values in (found.random.across, found.random.up))
        lines.append(_draw_line("random search", palette.GREY, *ends, step=False))
    for number, (label, other) in enumerate(view.others):
        group, places = _place_other(number, label, other, view)
        groups.append(group)
        ends = (other.column(axis.name).best[places] for axis in (view.x, view.y))
        lines.append(_draw_line(label, _color_other(number), *ends, step=False))
    titles = ["architecture", view.x.title, view.y.title]
    return {
        "label": f"{view.y.title} over {view.x.title}, search {front.search}",
        "summary": _summarise(front, view, found),
        "titles": [*titles, view.color.title] if view.color else titles,
        "x": _describe_axis(view.x, view.x_log, _frame(front, view, groups, "x")),
        "y": _describe_axis(view.y, view.y_log, _frame(front, view, groups, "y")),
        "color": _describe_color(view.color, groups),
        "groups": [group for group in groups if group["x"]],
        "lines": [line for line in lines if len(line["x"]) > 1],
        "joins": _draw_joins(front, view, verified) if PREDICTED in view.shown else None,
        "budgets": _describe_budgets(front, view),
        "region": _describe_region(view),
        "notes": _list_notes(front, view, found),
    }


# -- points ----------------------------------------------------------------------------------------


def _list_groups(front: Front, view: ScatterView, found: Found) -> list[Json]:
    kinds = found.kinds
    knee = picking.pick_knee(front) if KNEE in view.shown else None
    chosen = list_named(front, view, [view.chosen])
    compared = list_named(front, view, view.compared)
    groups = [
        _make_group(front, view, "chosen", chosen),
        _make_group(front, view, "compared", compared),
        _make_group(front, view, KNEE, list_named(front, view, [knee.digest if knee else None])),
        {**_make_group(front, view, "verified", kinds["verified"]), "front": True},
        {**_make_group(front, view, "unverified", kinds["unverified"]), "front": True},
    ]
    if INTERVALS in view.shown:
        _add_intervals(front, view, groups[3], kinds["verified"])
    for kind, find in ((EVALUATED, find_evaluations), (PREDICTED, find_predictions)):
        if kind in view.shown:
            ends = find(front, view, kinds["verified"])
            groups.append(_place_apart(front, kind, view, kinds["verified"], ends))
    if REFERENCES in view.shown:
        groups += _place_references(view)
    groups.append(list_apart(front, RANDOM_SEARCH, found.random, view))
    cloud = [_make_group(front, view, kind, kinds[kind]) for kind in (CLOSE, DOMINATED, OUTSIDE)]
    return [*groups, *cloud, describe_failed(front, found.failed, view)]


def _make_group(front: Front, view: ScatterView, kind: str, places: Places) -> Json:
    axes = [view.x, view.y, *([view.color] if view.color else [])]
    # Of the cloud behind the front there are thousands, of which columns know nearly as much.
    describe = _describe_cloud if kind in (CLOSE, DOMINATED, OUTSIDE) else _describe_points
    group = {
        **describe_look(kind, LOOKS[kind]),
        "ids": front.digests[places].tolist(),
        "x": shorten(front.column(view.x.name).best[places]),
        "y": shorten(front.column(view.y.name).best[places]),
        "texts": [describe(front, axis, places) for axis in axes],
    }
    if view.color is not None and not group["marks"]:
        group["shade"] = shorten(front.column(view.color.name).best[places])
    if view.kept is not None:
        group["faint"] = np.flatnonzero(~view.kept[places]).tolist()
    return group


def _describe_points(front: Front, axis: Quantity, places: Places) -> list[str]:
    """Values and what is known of them: ``0.123 ms (0.120 ms to 0.126 ms, measured)``."""
    texts = []
    for place in places:
        point = front.points[place]
        shown, source = axis.show(point.best(axis.name)), describe_estimate_source(point, axis)
        texts.append(f"{shown} ({source})" if source else shown)
    return texts


def _describe_cloud(front: Front, axis: Quantity, places: Places) -> list[str]:
    """The same from columns, which tell of a source only whether it is a table or a model."""
    column = front.column(axis.name)
    sources = np.where(column.looked_up[places], "table", "")
    sources = np.where(np.isnan(column.value[places]), "predicted", sources)
    sources = np.where(np.isnan(column.posterior[places]), sources, "expected")
    sources = np.where(np.isnan(column.alone[places]), sources, ALONE)
    texts = []
    for value, source in zip(column.best[places].tolist(), sources.tolist(), strict=True):
        if value != value:  # NaN: what colours a point may be unknown
            texts.append(axis.show(None))
        else:
            texts.append(f"{axis.show(value)} ({source})" if source else axis.show(value))
    return texts


def describe_estimate_source(point: Point, axis: Quantity) -> str:
    """The interval of a point's value and where the value is from; empty when neither is known.

    What is expected after all evaluations is followed by the point's own evaluation, and what it
    would be trained alone by what it is with inherited weights.
    """
    estimate = point.estimate(axis.name)
    said = []
    interval = estimate.interval
    if interval is not None and interval[0] != interval[1]:
        said.append(f"{axis.show(interval[0])} to {axis.show(interval[1])}")
    if estimate.alone is not None:
        inherited = estimate.value if estimate.posterior is None else estimate.posterior
        own = "" if inherited is None else f"; {axis.show(inherited)} inherited"
        said.append(f"{ALONE}{own}")
    elif estimate.posterior is not None:
        own = "" if estimate.value is None else f"; {axis.show(estimate.value)} {estimate.source}"
        said.append(f"expected{own}".rstrip())
    elif estimate.value is None and estimate.predicted is not None:
        said.append("predicted")
    elif estimate.source:
        said.append(estimate.source)
    return ", ".join(said)


def _add_intervals(front: Front, view: ScatterView, group: Json, places: Places) -> None:
    for name, axis in (("x", view.x), ("y", view.y)):
        low, high = find_intervals(front, axis, places)
        group[f"{name}_low"], group[f"{name}_high"] = shorten(low), shorten(high)


def _place_apart(
    front: Front, kind: str, view: ScatterView, places: Places, ends: tuple[Values, Values]
) -> Json:
    """Points of the front where they would be by a part of what is known of them."""
    across, up = ends
    known = ~(np.isnan(across) | np.isnan(up))
    texts = [
        [f"{axis.show(float(value))} ({LOOKS[kind].name})" for value in values[known]]
        for axis, values in ((view.x, across), (view.y, up))
    ]
    return {
        **describe_look(kind, LOOKS[kind]),
        "ids": front.digests[places[known]].tolist(),
        "x": shorten(across[known]),
        "y": shorten(up[known]),
        "texts": texts,
    }


def _place_references(view: ScatterView) -> list[Json]:
    """A group for each network that the front is held against, with its name beside the mark."""
    groups = []
    for reference in view.references:
        across, up = (reference.values.get(axis.name) for axis in (view.x, view.y))
        if across is None or up is None:
            continue
        if (view.x_log and across <= 0) or (view.y_log and up <= 0):
            continue
        look = describe_look("reference", LOOKS["reference"])
        shown = [[view.x.show(across)], [view.y.show(up)]]
        place = {"ids": [""], "x": [across], "y": [up], "texts": shown, "written": reference.name}
        groups.append({**look, "name": reference.name, **place})
    return groups


def _place_other(number: int, label: str, other: Front, view: ScatterView) -> tuple[Json, Places]:
    alone = ScatterView(view.x, view.y, x_log=view.x_log, y_log=view.y_log, most=view.most // 10)
    found = find_places(other, alone).kinds
    places = np.concatenate([found["verified"], found["unverified"]])
    places = places[np.argsort(other.column(view.x.name).best[places], kind="stable")]
    group = _make_group(other, alone, "verified", places)
    # Its networks are no points of this search, so that a click on them chooses nothing.
    return {
        **group,
        "kind": "other",
        "name": label,
        "color": pair_colors(_color_other(number)),
        "shape": "triangle",
        "radius": 4,
        "ids": [""] * len(places),
    }, places


# -- lines, axes, texts ----------------------------------------------------------------------------


def _draw_line(name: str, color: str, across: Values, up: Values, *, step: bool) -> Json:
    return {
        "name": name,
        "color": pair_colors(color),
        "step": step,
        "x": shorten(across),
        "y": shorten(up),
    }


def _draw_joins(front: Front, view: ScatterView, places: Places) -> Json:
    """Lines from where points were predicted to where they are."""
    across, up = find_predictions(front, view, places)
    known = ~(np.isnan(across) | np.isnan(up))
    best = [front.column(axis.name).best[places][known] for axis in (view.x, view.y)]
    return {
        "color": pair_colors(palette.AMBER),
        "x": shorten(across[known]),
        "y": shorten(up[known]),
        "x_end": shorten(best[0]),
        "y_end": shorten(best[1]),
    }


def _describe_axis(axis: Quantity, log: bool, ends: tuple[list[float], list[float]]) -> Json:
    near, everything = ends
    return {
        "name": axis.name,
        "label": axis.axis_label,
        "title": axis.title,
        "unit": axis.shown_unit,
        "scale": axis.scale,
        "log": log,
        "domain": near,
        "full": everything,
    }


def _frame(
    front: Front, view: ScatterView, groups: Sequence[Json], name: str
) -> tuple[list[float], list[float]]:
    """What an axis reaches over at first, the front and what is marked on it, and at most."""
    axis, log = (view.x, view.x_log) if name == "x" else (view.y, view.y_log)
    near: list[float] = []
    everything: list[float] = []
    for group in groups:
        values = [v for key in (name, f"{name}_low", f"{name}_high") for v in group.get(key, ())]
        known = [v for v in values if v is not None]
        everything += known
        if group["front"] or group["kind"] in ("chosen", "compared"):
            near += known
    if axis.name == front.cost.name:
        near += view.budgets
        everything += view.budgets
    return list(reach(near or everything, log)), list(reach(everything, log))


def _describe_color(color: Quantity | None, groups: Sequence[Json]) -> Json | None:
    if color is None:
        return None
    values = [v for group in groups for v in group.get("shade", ()) if v is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return {
        "label": color.axis_label,
        "domain": [low, high],
        "texts": [color.show(low), color.show(high)],
    }


def _describe_budgets(front: Front, view: ScatterView) -> Json | None:
    """Budgets and the axis that they lie on; ``None`` where neither axis is the front's cost."""
    names = [name for name, axis in (("x", view.x), ("y", view.y)) if axis.name == front.cost.name]
    if not names or not view.budgets:
        return None
    return {
        "axis": names[0],
        "label": f"{front.cost.title} budget",
        "values": list(view.budgets),
    }


def _describe_region(view: ScatterView) -> Json | None:
    region = view.region
    if region is None or (region["x"], region["y"]) != (view.x.name, view.y.name):
        return None
    return {**region, "corners": [list(corner) for corner in _list_corners(region["corners"])]}


def _list_corners(corners: object) -> Sequence[Sequence[float]]:
    return corners if isinstance(corners, list | tuple) else ()


def _summarise(front: Front, view: ScatterView, found: Found) -> str:
    count = len(found.kinds["verified"]) + len(found.kinds["unverified"])
    members = np.concatenate([found.kinds["verified"], found.kinds["unverified"]])
    if not count:
        return "No point of the front has a place on these axes."
    parts = []
    for axis in (view.x, view.y):
        values = front.column(axis.name).best[members]
        low, high = axis.show(float(values.min())), axis.show(float(values.max()))
        parts.append(f"{axis.title} from {low} to {high}")
    return f"{format_items(count, 'point')} on the front, {' and '.join(parts)}."


def _list_notes(front: Front, view: ScatterView, found: Found) -> list[str]:
    notes = []
    drawn = sum(len(places) for places in found.kinds.values())
    if found.left_out:
        notes.append(f"{drawn:,} of {drawn + found.left_out:,} points are drawn.")
    if found.unplaced:
        items = format_items(found.unplaced, "point has", "points have")
        notes.append(f"{items} no place on a logarithmic axis: their value is 0 or less.")
    if found.unknown:
        items = format_items(found.unknown, "point lacks", "points lack")
        notes.append(f"{items} one of the two values.")
    if FAILED in view.shown and front.failed:
        notes += count_failed(front.failed, found.failed)
    if found.random.left_out or found.random.nowhere:
        there = len(found.random.members)
        items = format_items(there + found.random.left_out + found.random.nowhere, "network")
        notes.append(f"Of the front of random search, {there:,} of {items} are drawn.")
    return notes


def _color_other(number: int) -> str:
    return palette.OTHERS[number % len(palette.OTHERS)]

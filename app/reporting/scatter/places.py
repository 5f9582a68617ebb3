"""Where the points of a front are on two axes, what kind each is, and which of them are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.records.quantities import Quantity
from app.records.searches.front import Front
from app.records.searches.front_extras import BaselinePoint, FailureRecord
from app.reporting.scatter.apart import Apart, place_apart
from app.reporting.scatter.view import (
    CLOSE,
    DOMINATED,
    FAILED,
    OUTSIDE,
    RANDOM_SEARCH,
    ScatterView,
)

Places = NDArray[np.intp]
Values = NDArray[np.float64]
Marked = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """The points that have a place, by kind; places count from the first of ``front.points``.

    Args:
        kinds: Places by the name of the kind, each from left to right; the front's own kinds are
            ``"verified"`` and ``"unverified"``.
        left_out: Points of the kinds shown that are thinned out.
        unknown: Points that lack one of the two values.
        unplaced: Points whose value a logarithmic axis does not have.
        random: What is drawn of the front of random search.
        failed: What is drawn of failed evaluations.
    """

    kinds: dict[str, Places]
    left_out: int
    unknown: int
    unplaced: int
    random: Apart[BaselinePoint]
    failed: Apart[FailureRecord]


def find_places(front: Front, view: ScatterView) -> Found:
    """Sort the points of a front into kinds and keep at most ``view.most`` of them.

    What is shown besides the points, random search and failed evaluations, takes a tenth of the
    room each at most, so that neither hides the other nor is left out for a large cloud.

    The chosen and the compared ones are always kept; then, as long as there is room, the front,
    what is verified, what the filters keep, and the rest. Of the first that do not all fit, points
    evenly spread from left to right are.

    Args:
        front: What a search found.
        view: What is shown of it.
    """
    across, up = (front.column(axis.name).best for axis in (view.x, view.y))
    known = ~(np.isnan(across) | np.isnan(up))
    placed = known & _can_be_placed(across, view.x_log) & _can_be_placed(up, view.y_log)
    members = divide_points(front)
    wanted = placed & _find_shown(front, view, members)
    named = np.zeros(len(front.on_front), dtype=np.bool_)
    for digest in (view.chosen, *view.compared):
        named[list(front.find_places(digest))] = True
    random = _place_random(front, view)
    failed = _place_failed(front, view)
    room = view.most - len(random.members) - len(failed.members)
    drawn = _thin_out(
        across, wanted, [named, front.on_front, front.verified, _find_kept(view, named)], room
    )
    kinds = {
        name: _sort(np.flatnonzero(drawn & marked), across) for name, marked in members.items()
    }
    return Found(
        kinds,
        left_out=int(wanted.sum() - drawn.sum()),
        unknown=int((~known).sum()),
        unplaced=int((known & ~placed).sum()),
        random=random,
        failed=failed,
    )


def _place_random(front: Front, view: ScatterView) -> Apart[BaselinePoint]:
    baseline = front.baseline if RANDOM_SEARCH in view.shown else None
    kept = None if baseline is None else baseline.front
    return place_apart(kept or (), view, whole=True)


def _place_failed(front: Front, view: ScatterView) -> Apart[FailureRecord]:
    return place_apart(front.failures if FAILED in view.shown else (), view, whole=False)


def list_named(front: Front, view: ScatterView, digests: Sequence[str | None]) -> Places:
    """Places of single points that have one on both axes."""
    across, up = (front.column(axis.name).best for axis in (view.x, view.y))
    found = [place for digest in digests for place in front.find_places(digest)]
    places = np.array(found, dtype=np.intp)
    fits = _can_be_placed(across, view.x_log) & _can_be_placed(up, view.y_log)
    return places[fits[places]]


def find_intervals(front: Front, axis: Quantity, places: Places) -> tuple[Values, Values]:
    """Lower and upper ends of the intervals around verified values, ``(k,)``; NaN for none."""
    column = front.column(axis.name)
    low, value, high = (c[places] for c in (column.low, column.best, column.high))
    known = (low <= value) & (value <= high) & front.verified[places]
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def find_predictions(front: Front, view: ScatterView, places: Places) -> tuple[Values, Values]:
    """Where points were predicted to be, ``(k,)``; exact values stand in where nothing is
    predicted, and NaN where there is no prediction at all."""
    columns = [front.column(axis.name) for axis in (view.x, view.y)]
    return _find_apart(view, places, [(c.predicted, c.value) for c in columns])


def find_evaluations(front: Front, view: ScatterView, places: Places) -> tuple[Values, Values]:
    """Where points are by their own evaluation alone, ``(k,)``; NaN where no more than that is
    known of them, so that they are drawn there anyway."""
    columns = [front.column(axis.name) for axis in (view.x, view.y)]
    raw = [np.where(np.isnan(column.posterior), np.nan, column.value) for column in columns]
    return _find_apart(view, places, [(r, c.best) for r, c in zip(raw, columns, strict=True)])


def _find_apart(
    view: ScatterView, places: Places, axes: Sequence[tuple[Values, Values]]
) -> tuple[Values, Values]:
    """Places on two axes, each by one value and else by another; NaN without any of the first."""
    first = [values[places] for values, _ in axes]
    across, up = (
        np.where(np.isnan(values), others[places], values)
        for values, (_, others) in zip(first, axes, strict=True)
    )
    known = ~(np.isnan(first[0]) & np.isnan(first[1]))
    known &= _can_be_placed(across, view.x_log) & _can_be_placed(up, view.y_log)
    return np.where(known, across, np.nan), np.where(known, up, np.nan)


def climb_stairs(front: Front, view: ScatterView, places: Places) -> tuple[Values, Values]:
    """The best vertical value up to each point, from left to right; none where a staircase means
    nothing because more of the horizontal quantity is better."""
    across, up = (front.column(axis.name).best[places] for axis in (view.x, view.y))
    if view.x.maximize or view.y.name != front.quality.name or len(places) < 2:
        return across[:0], up[:0]
    best = np.maximum.accumulate(up) if view.y.maximize else np.minimum.accumulate(up)
    return across, best


def reach(values: Sequence[float], log: bool, share: float = 0.05) -> tuple[float, float]:
    """From the least to the largest value with some room at both ends, on the scale of an axis."""
    usable = [v for v in values if np.isfinite(v) and (v > 0 or not log)]
    if not usable:
        return (0.1, 10.0) if log else (0.0, 1.0)
    low, high = min(usable), max(usable)
    if log:
        edge = (high / low) ** share if high > low else 1.5
        # The least numbers that there are have nothing between themselves and 0.
        return low / edge or low, high * edge
    # A single value, 0 included, is in the middle of something.
    edge = share * (high - low) or 0.05 * abs(high) or 1.0
    return low - edge, high + edge


def _can_be_placed(values: Values, log: bool) -> Marked:
    return values > 0 if log else ~np.isnan(values)


def divide_points(front: Front) -> dict[str, Marked]:
    """Which points are of each kind, ``(n,)``; every point is of one."""
    within, behind, close = ~front.out_of_limits, ~front.on_front, front.indistinguishable
    return {
        "verified": front.on_front & front.verified,
        "unverified": front.on_front & ~front.verified,
        CLOSE: behind & within & close,
        DOMINATED: behind & within & ~close,
        OUTSIDE: behind & ~within,
    }


def _find_shown(front: Front, view: ScatterView, kinds: Mapping[str, Marked]) -> Marked:
    shown = front.on_front.copy()
    for name in view.shown & kinds.keys():
        shown |= kinds[name]
    return shown


def _find_kept(view: ScatterView, nothing: Marked) -> Marked:
    return np.zeros_like(nothing) if view.kept is None else view.kept


def _thin_out(across: Values, wanted: Marked, ranks: Sequence[Marked], most: int) -> Marked:
    """Which of the ``wanted`` are drawn, those of earlier ranks before all others."""
    drawn = np.zeros_like(wanted)
    for rank in (*ranks, np.ones_like(wanted)):
        candidates = _sort(np.flatnonzero(wanted & rank & ~drawn), across)
        room = max(most - int(drawn.sum()), 0)
        if len(candidates) > room:
            candidates = candidates[np.arange(room) * len(candidates) // max(room, 1)]
        drawn[candidates] = True
    return drawn


def _sort(places: Places, across: Values) -> Places:
    return places[np.argsort(across[places], kind="stable")]

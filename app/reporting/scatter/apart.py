"""Where networks are drawn that are no points of a front: random search's, and failed ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.records.numbers import format_items
from app.records.quantities import Quantity
from app.records.searches.front import Front
from app.records.searches.front_extras import BaselinePoint, FailureRecord
from app.reporting.scatter.json_parts import Json, describe_look, shorten_one
from app.reporting.scatter.view import FAILED, LOOKS, ScatterView

Member = TypeVar("Member", BaselinePoint, FailureRecord)
# The part of all points that one kind of these may be.
_SHARE = 10
# More of a reason than this fits no tooltip; the log has all of it.
_LONGEST = 300
_NO_REASON = "the log does not say why"


@dataclass(frozen=True)
class Apart(Generic[Member]):
    """Networks that have a place, from left to right.

    Args:
        members: The networks.
        across: Where each is on the horizontal axis, in its stored unit; ``None`` for the edge.
        up: The same of the vertical axis.
        left_out: Networks with a place that are thinned out.
        nowhere: Networks that have no place on these axes.
    """

    members: tuple[Member, ...]
    across: tuple[float | None, ...]
    up: tuple[float | None, ...]
    left_out: int
    nowhere: int


def place_apart(members: Sequence[Member], view: ScatterView, *, whole: bool) -> Apart[Member]:
    """Place networks on the axes of a view and keep at most a tenth of ``view.most`` of them.

    Args:
        members: The networks.
        view: What is shown.
        whole: Whether both values are needed; else one of them will do, and the other puts the
            network on the edge of the chart.
    """
    placed = []
    for member in members:
        across = _find_value(member, view.x, view.x_log)
        up = _find_value(member, view.y, view.y_log)
        known = (across is not None) + (up is not None)
        if known == 2 or (known == 1 and not whole):
            placed.append((across, up, member))
    placed.sort(key=lambda place: math.inf if place[0] is None else place[0])
    most = min(view.most // _SHARE, len(placed))
    kept = [placed[n * len(placed) // most] for n in range(most)]
    return Apart(
        tuple(member for _, _, member in kept),
        tuple(across for across, _, _ in kept),
        tuple(up for _, up, _ in kept),
        left_out=len(placed) - most,
        nowhere=len(members) - len(placed),
    )


def list_apart(
    front: Front, kind: str, found: Apart[BaselinePoint] | Apart[FailureRecord], view: ScatterView
) -> Json:
    """A group of networks, which is listed for those who do not see them.

    Args:
        front: What the search found; a click chooses what is a point of it.
        kind: A key of :data:`app.reporting.scatter.view.LOOKS`.
        found: The networks.
        view: What is shown.
    """
    axes = [view.x, view.y, *([view.color] if view.color else [])]
    digests = [member.digest for member in found.members]
    return {
        **describe_look(kind, LOOKS[kind]),
        "listed": True,
        # A mark lies on the point of the same network where both are known by one evaluation.
        "ids": [digest if front.find_places(digest) else "" for digest in digests],
        "names": digests,
        "x": [shorten_one(value) for value in found.across],
        "y": [shorten_one(value) for value in found.up],
        "texts": [
            [axis.show(member.values.get(axis.name)) for member in found.members] for axis in axes
        ],
    }


def describe_failed(front: Front, found: Apart[FailureRecord], view: ScatterView) -> Json:
    """The group of failed evaluations, each with its reason."""
    reasons = [member.reason[:_LONGEST] or _NO_REASON for member in found.members]
    return {**list_apart(front, FAILED, found, view), "reasons": reasons}


def count_failed(failed: int, found: Apart[FailureRecord]) -> list[str]:
    """Sentences about failed evaluations: those that are drawn, and those that have no place.

    Args:
        failed: How many there are.
        found: Those that have a place.
    """
    notes = []
    drawn = len(found.members)
    if drawn:
        items = format_items(drawn, "failed evaluation is", "failed evaluations are")
        more = f", and {found.left_out:,} more are left out" if found.left_out else ""
        notes.append(f"{items} drawn, at the edge where a value is not known{more}.")
    rest = failed - drawn - found.left_out
    if rest > 0:
        items = format_items(rest, "evaluation failed and has", "evaluations failed and have")
        notes.append(f"{items} no place.")
    return notes


def _find_value(member: Member, axis: Quantity, log: bool) -> float | None:
    """The value that an axis has a place for, if it is known."""
    value = member.values.get(axis.name)
    return None if value is None or (log and value <= 0) else value

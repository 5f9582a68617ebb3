"""What an interactive chart of a front shows, and how its points are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.records.quantities import Quantity
from app.records.searches.front import Front
from app.reporting.charts import palette

# What can be shown besides the front.
PREDICTED, EVALUATED, INTERVALS, KNEE = "predicted", "evaluated", "intervals", "knee"
REFERENCES, CLOSE = "references", "within noise"
DOMINATED, OUTSIDE, FAILED = "dominated", "outside the limits", "failed"
RANDOM_SEARCH = "random search"
USUAL = frozenset((INTERVALS, KNEE, REFERENCES))
# More points than this hide each other and only make a chart slow.
MOST_DRAWN = 5000


@dataclass(frozen=True)
class Look:
    """How one kind of point is drawn and named in the legend.

    Args:
        name: What the legend says.
        color: On a light page; that for a dark one is in
            :data:`app.reporting.charts.palette.ON_DARK`.
        shape: ``"circle"``, ``"diamond"``, ``"square"``, ``"triangle"`` or ``"cross"``.
        radius: In pixels.
        filled: Or only outlined.
        opacity: Of the whole mark.
    """

    name: str
    color: str
    shape: str = "circle"
    radius: float = 4.5
    filled: bool = True
    opacity: float = 1.0


LOOKS: Mapping[str, Look] = {
    "chosen": Look("chosen", palette.RED, radius=10, filled=False),
    "compared": Look("compared", palette.PINK, "square", radius=9, filled=False),
    "verified": Look("verified (measured)", palette.BLUE, radius=5),
    "unverified": Look("not verified yet", palette.BLUE, radius=4.5, filled=False),
    KNEE: Look("knee", palette.BLUE, "diamond", radius=9, filled=False),
    EVALUATED: Look("evaluated alone", palette.GREEN, "diamond", radius=4, filled=False),
    PREDICTED: Look("predicted", palette.AMBER, "diamond", radius=4, filled=False),
    "reference": Look("reference", palette.GREY, "triangle", radius=5.5),
    CLOSE: Look("behind by less than noise", palette.GREY, radius=3, filled=False, opacity=0.6),
    DOMINATED: Look("dominated", palette.GREY, radius=2.5, opacity=0.4),
    OUTSIDE: Look("outside the limits", palette.GREY, "cross", radius=3, opacity=0.45),
    RANDOM_SEARCH: Look(
        "random search", palette.GREY, "square", radius=3.5, filled=False, opacity=0.8
    ),
    FAILED: Look("failed", palette.RED, "cross", radius=3, opacity=0.55),
}


@dataclass(frozen=True)
class Reference:
    """A network or a search that a front is held against.

    Args:
        name: What is written beside its mark.
        values: Where it is: a stored value by the name of each quantity that is known.
    """

    name: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class ScatterView:
    """What a chart shows of a front.

    Args:
        x: Horizontal axis, one of ``front.axes``.
        y: Vertical axis.
        color: What colours the points; without it they have the colour of their kind.
        x_log: Whether the horizontal axis is logarithmic; points without a positive value then
            have no place on it.
        y_log: The same of the vertical axis.
        shown: What is shown besides the front: names of this module.
        kept: Which of ``front.points`` pass the filters, ``(n,)``; the others are drawn faintly.
        chosen: Digest of the point that is ringed.
        compared: Digests of those that are framed.
        budgets: Limits of the front's cost in its stored unit; lines that can be moved.
        region: What was drawn around points: ``kind`` (``"box"`` or ``"lasso"``), ``x`` and ``y``
            (names of quantities), ``corners`` (pairs in stored units), ``x_log`` and ``y_log``. It
            is drawn over the axes that it was made for only.
        references: Networks that the front is held against.
        others: Fronts of other searches by their labels.
        most: How many points are drawn at most.
    """

    x: Quantity
    y: Quantity
    color: Quantity | None = None
    x_log: bool = False
    y_log: bool = False
    shown: frozenset[str] = USUAL
    kept: NDArray[np.bool_] | None = None
    chosen: str | None = None
    compared: tuple[str, ...] = ()
    budgets: tuple[float, ...] = ()
    region: Mapping[str, object] | None = None
    references: tuple[Reference, ...] = ()
    others: tuple[tuple[str, Front], ...] = field(default_factory=tuple)
    most: int = MOST_DRAWN

"""Why one network has another latency or quality than a second one, for the page to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from app.analysis.contributions import Split, make_split, share_out, subtract_units
from app.explorer.context import Context
from app.records.numbers import format_items
from app.records.quantities import LATENCY, Quantity
from app.records.searches.front import Front, Point
from predictors import Predictor
from supernet.errors import InputError
from supernet.space import SearchSpace

# What a process is fitted to in a moment; more rows change its shares little.
MOST_ROWS = 400
_MOST_FITS = 8


@dataclass(frozen=True)
class Explained:
    """A difference in parts, or why it has none.

    Args:
        quantity: What the difference is of.
        split: Its parts; ``None`` where there are none.
        method: How they were found, or what is missing, as a sentence.
    """

    quantity: Quantity
    split: Split | None
    method: str


def explain_latency(
    front: Front,
    chosen: Point,
    other: Point,
    units: Sequence[Sequence[tuple[str, float]] | str],
) -> Explained:
    """The difference in latency, a part for each unit of the latency table.

    Args:
        front: The front of the search.
        chosen: One network.
        other: The one that is subtracted.
        units: Name and milliseconds of every unit of each, or why they are not known.
    """
    latency = front.cost if front.cost.per_device else LATENCY
    ours, theirs = units
    if isinstance(ours, str) or isinstance(theirs, str):
        return Explained(latency, None, " ".join(text for text in units if isinstance(text, str)))
    whole = _subtract(chosen.best(latency.name), other.best(latency.name))
    return Explained(
        latency,
        make_split(subtract_units(ours, theirs), whole),
        "Each unit's part is the difference of its entries in the latency table; the rest is what "
        "calibration and the measurement of whole networks add.",
    )


def explain_quality(context: Context, front: Front, chosen: Point, other: Point) -> Explained:
    """The difference in quality, a part for each block, by a predictor of the quality."""
    quality, space = front.quality, context.space
    if space is None:
        return Explained(quality, None, "Without the space that was searched, blocks are unknown.")
    # Values may change where the points stay the same.
    known = float(np.nansum(front.column(quality.name).value))
    fitted = _fit(f"{context.content_key} {known!r}", space, front)
    if isinstance(fitted, str):
        return Explained(quality, None, fitted)
    predictor, count = fitted
    ours, theirs = space.encode([space.architecture(dict(p.choices)) for p in (chosen, other)])
    shares = share_out(space, predictor.mean, ours, theirs)
    whole = _subtract(chosen.best(quality.name), other.best(quality.name))
    tau = predictor.report.tau
    return Explained(
        quality,
        make_split(shares, whole),
        f"Each block's part is what changing it is worth to a Gaussian process, averaged over the "
        f"orders in which blocks can be changed (Shapley values); it is fitted to "
        f"{format_items(count, 'evaluation')} of this search and ranks unseen ones with Kendall τ "
        f"{tau:.2f}. The rest is what it leaves of the evaluated difference, noise included.",
    )


@st.cache_resource(max_entries=_MOST_FITS, show_spinner="Fitting the predictor")
def _fit(key: str, _space: SearchSpace, _front: Front) -> tuple[Predictor, int] | str:
    """A predictor of the quality and what it was fitted to; a sentence where there is none."""
    from predictors.models import gaussian_process

    values = _front.column(_front.quality.name).value
    known = np.flatnonzero(~np.isnan(values))
    if len(known) > MOST_ROWS:
        drawn = np.random.default_rng(0).choice(known, MOST_ROWS, replace=False)
        known = np.sort(drawn)
    try:
        members = [_space.architecture(dict(_front.points[i].choices)) for i in known]
        rows = _space.encode(members) if members else np.zeros((0, len(_space)), np.int16)
        return gaussian_process.fit(_space, rows, values[known], seed=0), len(known)
    except InputError as error:
        return f"No predictor can be fitted: {error}."


def _subtract(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs

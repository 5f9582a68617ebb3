"""What of a state means something for a run and a front; the rest is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from app.analysis.regions import Filter
from app.explorer.views.view_state import ViewState
from app.records.searches.front import Front
from app.runs.run_view import RunView
from supernet.space import Value

# More side by side than this is a list, and the screen Runs has one.
MOST_BUDGETS, MOST_COMPARED = 5, 8
# Above the largest cost, or below the smallest, by this factor, a budget means a mistake.
_FARTHEST = 1e6


def fit_to_front(
    state: ViewState, run: RunView, front: Front | None
) -> tuple[ViewState, tuple[str, ...]]:
    """Leave out what a front does not have.

    Args:
        state: As an address or another search left it.
        run: The run of the front.
        front: What its search found; without one, everything about points is left out.

    Returns:
        The state without what means nothing, and the names of the fields that changed.
    """
    usual = ViewState()
    axes = {axis.name for axis in front.axes} if front is not None and front.points else set()
    region = state.region
    fitted: dict[str, Any] = {
        **{n: v if (v := getattr(state, n)) in axes else "" for n in ("x", "y", "color")},
        "budgets": _fit_budgets(state, front) if axes else (),
        "region": region if region and {region.x, region.y} <= axes else None,
        "filters": _fit_filters(state, run, front) if axes else {},
        "chosen": state.chosen if _holds(front, state.chosen) else "",
        "compared": tuple(d for d in state.compared if _holds(front, d))[:MOST_COMPARED],
    }
    for name, flag in (("x", "x_log"), ("y", "y_log")):
        known = not getattr(state, name) or fitted[name]
        fitted[flag] = getattr(state, flag) if known and axes else getattr(usual, flag)
    changed = tuple(name for name, value in fitted.items() if value != getattr(state, name))
    return replace(state, **fitted), changed


def _fit_budgets(state: ViewState, front: Front | None) -> tuple[float, ...]:
    """The budgets that a front could have any use for."""
    costs = np.zeros(1) if front is None else front.column(front.cost.name).best
    known = costs[~np.isnan(costs)]
    if not len(known):
        return ()
    lowest, highest = float(known.min()) / _FARTHEST, float(known.max()) * _FARTHEST
    return tuple(v for v in state.budgets if lowest <= v <= highest)[:MOST_BUDGETS]


def _holds(front: Front | None, digest: str) -> bool:
    return front is not None and bool(front.find_places(digest))


def _fit_filters(state: ViewState, run: RunView, front: Front | None) -> dict[str, Filter]:
    """The filters whose choices and values the space has; without a space, those of no point."""
    if run.space is None or front is None or front.space_digest not in ("", run.space.digest):
        return {}
    legal: dict[str, tuple[Value, ...]] = {c.name: c.values for c in run.space.choices}
    return {
        name: wanted
        for name, wanted in state.filters.items()
        if name in legal and _is_possible(wanted, legal[name])
    }


def _is_possible(wanted: Filter, legal: tuple[Value, ...]) -> bool:
    if isinstance(wanted, frozenset):
        return bool(wanted) and wanted <= frozenset(legal)
    return wanted[0] <= wanted[1] and not any(isinstance(value, str) for value in legal)

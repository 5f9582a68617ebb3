"""What a screen is given, and how it changes what is looked at.

The state of a browser lives in its session and in its address. Nothing of it is shared, so that
two browsers do not see each other's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.analysis.regions import find_inside, find_passing
from app.explorer.fronts.budgets import choose_budget
from app.explorer.opened import isolated
from app.explorer.views.choice_columns import read_choice
from app.explorer.views.fitted_state import fit_to_front
from app.explorer.views.view_state import ViewState, read_query, write_query
from app.records.searches import picking
from app.records.searches.front import Front, Point
from app.runs.run_view import RunView
from supernet.space import SearchSpace

STATE, _DROPPED, _WHOLE = "view state", "view dropped", "view of the whole page"
_ELSEWHERE = "view elsewhere"
# What parts of the page outside a screen show.
_OUTSIDE = frozenset(("run", "device", "search", "screen"))


@dataclass(frozen=True)
class Context:
    """What a screen shows, as it is at this moment.

    Args:
        runs: Every run that the page was given.
        run: The one that is looked at.
        front: What the search that is looked at found; ``None`` without one.
        state: What this browser looks at.
        budgets: Limits of the front's cost in its stored unit, the usual one without any in the
            state; the first one chooses.
        kept: Which points of the front pass region and filters, ``(n,)``.
        chosen: The point chosen by hand, or else the best one within the first budget.
        compared: The points beside it.
        key: Names run and search, for widgets of their own.
        place: Where the run is for somebody who types a command.
    """

    runs: tuple[Path, ...]
    run: RunView
    front: Front | None
    state: ViewState
    budgets: tuple[float, ...]
    kept: NDArray[np.bool_]
    chosen: Point | None
    compared: tuple[Point, ...]
    key: str
    place: Path

    @property
    def content_key(self) -> str:
        """Names run and search with the points they have now, for what is kept of them."""
        return f"{self.key} {self.front.digest if self.front else ''}"

    @property
    def space(self) -> SearchSpace | None:
        """The space of the run, where it is the one that was searched."""
        space = self.run.space
        searched = self.front.space_digest if self.front else ""
        return space if space is not None and searched in ("", space.digest) else None

    def update(self, **changes: object) -> None:
        """Change what this browser looks at; to be called in a callback of a widget.

        Args:
            **changes: Fields of :class:`app.explorer.views.view_state.ViewState`.
        """
        change_state(**changes)

    def renew(self) -> Context:
        """The same run and search with what this browser looks at now."""
        return make_context(self.runs, self.run, self.front, read_state(), self.place)


def make_context(
    runs: tuple[Path, ...],
    run: RunView,
    front: Front | None,
    state: ViewState,
    place: Path | None = None,
) -> Context:
    """Work out what a state means for a front.

    Args:
        runs: Every run that the page was given.
        run: The one that is looked at.
        front: What the search that is looked at found.
        state: Checked by :func:`app.explorer.views.fitted_state.fit_to_front`.
        place: Where the run is for somebody who types a command; by default its path.
    """
    key = f"{run.path} {front.search if front else ''}"
    place = place or run.path
    if front is None or not front.points:
        nothing = np.zeros(0, dtype=np.bool_)
        return Context(runs, run, front, state, (), nothing, None, (), key, place)
    budgets = state.budgets
    if not budgets:
        usual = choose_budget(front)
        budgets = () if usual is None else (usual,)
    chosen = None
    if state.chosen:
        chosen = front.find_point(state.chosen)
    elif budgets:
        chosen = picking.pick(front, budgets[0]).point
    compared = tuple(
        front.find_point(digest)
        for digest in state.compared
        if chosen is None or digest != chosen.digest
    )
    bare = Context(runs, run, front, state, budgets, front.on_front, chosen, compared, key, place)
    return replace(bare, kept=_find_kept(bare, front))


def _find_kept(context: Context, front: Front) -> NDArray[np.bool_]:
    kept = np.ones(len(front.points), dtype=np.bool_)
    region, filters = context.state.region, context.state.filters
    if region is not None:
        x, y = (front.column(name).best for name in (region.x, region.y))
        kept &= find_inside(region, x, y)
    if filters:
        columns = {name: read_choice(front, name) for name in filters}
        kept &= find_passing(filters, columns)
    return kept


def linked(show: Callable[[Context], None]) -> Callable[[Context], None]:
    """Make a screen, or a part of one, rerun by itself with what is looked at by then."""

    @st.fragment
    @wraps(show)
    def show_now(context: Context) -> None:
        if st.session_state.pop(_WHOLE, False):
            st.rerun()
        with isolated("This screen"):
            show(context.renew())

    return show_now


def read_state() -> ViewState:
    """What this browser looks at; at first what its address says."""
    if STATE not in st.session_state:
        adopt_query({name: st.query_params.get_all(name) for name in st.query_params})
    state: ViewState = st.session_state[STATE]
    return state


def adopt_query(query: Mapping[str, Sequence[str]]) -> None:
    """Look at what an address names, as far as it means something."""
    st.session_state[STATE], st.session_state[_DROPPED] = read_query(query)


def look_elsewhere(**changes: object) -> None:
    """Look at another run or search; what does not fit it is left out and needs no word."""
    change_state(**changes)
    st.session_state[_ELSEWHERE] = True


def change_state(**changes: object) -> None:
    """Change what this browser looks at, in its session and in its address."""
    before = read_state()
    after = replace(before, **changes)  # type: ignore[arg-type]
    if after == before:
        return
    st.session_state[STATE] = after
    st.session_state[_DROPPED] = ()
    if any(getattr(after, name) != getattr(before, name) for name in _OUTSIDE):
        st.session_state[_WHOLE] = True
    st.query_params.from_dict(write_query(after))


def fit_state(front: Front | None, run: RunView) -> ViewState:
    """Leave out of the state what this run and front do not have, and remember that."""
    state, dropped = fit_to_front(read_state(), run, front)
    expected = st.session_state.pop(_ELSEWHERE, False)
    if dropped:
        known = list_dropped()
        change_state(**{name: getattr(state, name) for name in dropped})
        more = () if expected else tuple(name for name in dropped if name not in known)
        st.session_state[_DROPPED] = (*known, *more)
    return read_state()


def leave_out(name: str, value: object) -> None:
    """Look at less than the address names, and remember that.

    Args:
        name: The field.
        value: What is left of it.
    """
    known = list_dropped()
    change_state(**{name: value})
    st.session_state[_DROPPED] = known if name in known else (*known, name)


def list_dropped() -> tuple[str, ...]:
    """What the address named that is not here, until something else is looked at."""
    dropped: tuple[str, ...] = st.session_state.get(_DROPPED, ())
    return dropped


def take_whole() -> None:
    """Say that the whole page is drawn now, so that no part has to ask for it."""
    st.session_state.pop(_WHOLE, None)

"""A range for every choice of the space, which decides which architectures all screens show."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from app.analysis.regions import Filter
from app.explorer.context import Context, read_state
from app.explorer.markup import write_text
from app.explorer.panels.widgets import hold
from supernet.space import Choice, SearchSpace, Value

_COLUMNS = 3


def show_filters(context: Context, space: SearchSpace) -> None:
    """Draw the ranges; how many architectures pass them is said by the bar of the selection."""
    filters = context.state.filters
    choices = [choice for choice in space.choices if len(choice.values) > 1]
    # With another title it would close under the hand that moves a slider.
    with st.expander("Filter by the values of choices"):
        st.caption(
            "What passes is shown on every screen. A network without a block has no value for the "
            "choices of that block, and passes only while they are not limited."
        )
        columns = st.columns(_COLUMNS, gap="medium")
        for place, choice in enumerate(choices):
            with columns[place * _COLUMNS // len(choices)]:
                _ask_range(context, choice, filters)


def _ask_range(context: Context, choice: Choice, filters: Mapping[str, Filter]) -> None:
    key = f"filter {context.key} {choice.name}"
    wanted = filters.get(choice.name)

    def change() -> None:
        found = {n: f for n, f in read_state().filters.items() if n != choice.name}
        limited = _read_widget(choice, st.session_state[key])
        if limited is not None:
            found[choice.name] = limited
        context.update(filters=found)

    if any(isinstance(value, str) for value in choice.values):
        shown = list(choice.values)
        if isinstance(wanted, frozenset):
            shown = [value for value in choice.values if value in wanted]
        hold(key, shown)
        st.multiselect(write_text(choice.name), choice.values, key=key, on_change=change)
        return
    every = (choice.values[0], choice.values[-1])
    ends = every if wanted is None else _find_ends(choice, wanted) or every
    if st.session_state.get(key, every) != ends:
        st.session_state[key] = ends
    # The whole range as the default is what makes it a range, with two ends to draw.
    st.select_slider(
        write_text(choice.name),
        choice.values,
        every,
        key=key,
        on_change=change,
        format_func=str,
    )


def _find_ends(choice: Choice, wanted: Filter) -> tuple[Value, Value] | None:
    """The first and the last legal value that pass; ``None`` where none does."""
    if isinstance(wanted, tuple):
        passing = [value for value in choice.values if wanted[0] <= float(value) <= wanted[1]]
    else:
        passing = [value for value in choice.values if value in wanted]
    return (passing[0], passing[-1]) if passing else None


def _read_widget(choice: Choice, value: object) -> Filter | None:
    """What a widget limits; ``None`` when it lets everything pass, or nothing."""
    if isinstance(value, list):
        chosen = frozenset(value)
        return chosen if chosen and chosen != frozenset(choice.values) else None
    if not isinstance(value, tuple) or value == (choice.values[0], choice.values[-1]):
        return None
    return float(value[0]), float(value[1])

"""Which run, device and search is looked at, chosen in the sidebar or by the address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import streamlit as st

from app.explorer.context import change_state, leave_out, look_elsewhere, read_state
from app.records.searches.front import Front
from app.runs.run_view import RunView

Option = TypeVar("Option")


def shorten(path: Path, runs: list[Path]) -> str:
    """What the page calls a run: its folder, or its path where several folders share a name."""
    name = path.resolve().name
    same = [p for p in runs if p.resolve().name == name]
    return name if len(same) == 1 else str(path)


def select_run(runs: list[Path]) -> Path:
    """The run that is looked at; the first one where the address names none that was given.

    Args:
        runs: Every run that the page was given; at least one.
    """
    named = {shorten(path, runs): path for path in runs}
    wanted = read_state().run
    if wanted and wanted not in named:
        change_state(device="", search="")
        leave_out("run", "")
        wanted = ""
    path = named[wanted] if wanted else runs[0]
    with st.sidebar:
        st.markdown("### Supernet explorer")
        _select(
            "Run",
            runs,
            path,
            "run",
            lambda found: _look_at_other(run=shorten(found, runs), device="", search=""),
            lambda found: shorten(found, runs),
        )
    return path


def select_search(run: RunView) -> Front | None:
    """Device and search selectors; the search made for the chosen device."""
    # Devices that have a search come first, so that the page opens with something to see.
    names = list(dict.fromkeys((*(f.device for f in run.fronts.values()), *run.devices)))
    state = read_state()
    if not names:
        _drop_unknown(device=state.device, search=state.search)
        return None
    device = state.device
    if not device and state.search in run.fronts:
        device = run.fronts[state.search].device
    if device not in names:
        _drop_unknown(device=device)
        device = names[0]
    with st.sidebar:
        _select(
            "Device",
            names,
            device,
            f"device {run.path}",
            lambda found: _look_at_other(device=found, search=""),
            lambda found: found or "none",
        )
        mine = [name for name, front in run.fronts.items() if front.device == device]
        if not mine:
            _drop_unknown(search=state.search)
            return None
        search = state.search
        if search not in mine:
            _drop_unknown(search=search)
            search = mine[0]
        _select(
            "Search",
            mine,
            search,
            f"search {run.path} {device}",
            lambda found: _look_at_other(search=found),
        )
    return run.fronts[search]


def _look_at_other(**changes: str) -> None:
    """Look at another search; what was drawn, chosen and set on the old one stays with it."""
    look_elsewhere(
        **changes, budgets=(), region=None, filters={}, chosen="", compared=(), beside=()
    )


def _drop_unknown(**named: str) -> None:
    for name, value in named.items():
        if value:
            leave_out(name, "")


def _select(
    label: str,
    options: Sequence[Option],
    value: Option,
    key: str,
    choose: Callable[[Option], None],
    write: Callable[[Option], str] = str,
) -> None:
    """A selector that shows what is looked at and tells when another option is chosen."""
    if st.session_state.get(key) != value:
        st.session_state[key] = value
    st.selectbox(
        label,
        options,
        format_func=write,
        key=key,
        on_change=lambda: choose(st.session_state[key]),
    )

"""The Streamlit page on run directories, as `app.explorer.serve` serves it."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path

import streamlit as st

# Streamlit puts this folder on the path, where its modules would hide others of their names; from
# a checkout `app` needs the one that holds it.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    del sys.path[0]
if str(Path(__file__).resolve().parents[2]) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.explorer import markup
from app.explorer.context import (
    change_state,
    fit_state,
    list_dropped,
    make_context,
    take_whole,
)
from app.explorer.fronts.beside import leave_out_unknown
from app.explorer.launch import read_arguments
from app.explorer.local_requests import is_local
from app.explorer.markup import write_text
from app.explorer.opened import Unreadable, isolated, open_run, outline_run
from app.explorer.panels.growth import watch_run
from app.explorer.panels.header import show_header
from app.explorer.panels.sidebar import select_run, select_search
from app.explorer.views.history import follow_history
from app.explorer.views.view_state import SCREENS
from app.runs.run_folders import find_runs
from app.runs.run_view import RunView


def main(arguments: list[str]) -> None:
    """Draw the page for the run directories named on the command line.

    Args:
        arguments: As :func:`app.explorer.launch.read_arguments` reads them.
    """
    told = read_arguments(arguments)
    st.set_page_config(page_title="Supernet explorer", page_icon="🔎", layout="wide")
    # The server refuses strangers; should it be another than the one that does, this does.
    hosts = st.context.headers.get_all("Host") or ["localhost"]
    if not is_local(hosts, admitted=told.admitted):
        st.stop()
    st.markdown(markup.STYLE, unsafe_allow_html=True)
    take_whole()
    runs = find_runs([Path(name) for name in told.runs or ["."]])
    missing = [name for name in told.runs if not find_runs([Path(name)])]
    for name in missing:
        st.error(
            f"{write_text(name)} is not a run directory: it has no run.json, and no folder in "
            "it has one."
        )
    if not runs:
        st.title("Supernet explorer")
        st.info("There is no run to show. Make one, then open it:")
        st.code("supernet quickstart --out RUN\nsupernet explore RUN", language="bash")
        return
    path = select_run(runs)
    run = open_run(path)
    if isinstance(run, Unreadable):
        st.error(write_text(run.reason))
    else:
        _show_run(runs, run, _find_place(path, told.start))
    _list_unreadable([other for other in runs if other != path])


def _find_place(path: Path, start: Path | None) -> Path:
    """Where a run is for somebody who types commands in ``start``: below it, or its path."""
    below = start is not None and path.is_relative_to(start)
    return path.relative_to(start) if start is not None and below else path


def _show_run(runs: list[Path], run: RunView, place: Path) -> None:
    watch_run(run.path)
    front = select_search(run)
    state = fit_state(front, run)
    context = make_context(tuple(runs), run, front, state, place)
    leave_out_unknown(context)
    _name_dropped()
    with isolated("The header of this run"):
        show_header(run, front)
    screen = state.screen
    # Only the tab that is looked at is filled, and only its module is imported.
    with _draw_tabs(screen):
        import_module(f"app.explorer.screens.{screen.lower()}").show(context)
    follow_history()


def _draw_tabs(screen: str) -> AbstractContextManager[object]:
    """Draw the tabs of all screens; the open one to be filled."""
    if st.session_state.get("screen") != screen:
        st.session_state["screen"] = screen
    tabs = st.tabs(
        SCREENS,
        key="screen",
        on_change=lambda: change_state(screen=st.session_state["screen"]),
    )
    return tabs[SCREENS.index(screen)]


def _name_dropped() -> None:
    """Say in a sentence what the address named that is not here."""
    dropped = list_dropped()
    if dropped:
        names = ", ".join(name.replace("_", " ") for name in dropped)
        st.warning(
            f"The address named what is not here, so that the page is as usual in this: {names}."
        )


def _list_unreadable(others: list[Path]) -> None:
    """Name the runs that cannot be chosen, and why, below the one that is shown."""
    reasons = [found.reason for p in others if isinstance(found := outline_run(p), Unreadable)]
    if reasons:
        title = f"{len(reasons)} other run{'s' if reasons[1:] else ''} could not be read"
        with st.expander(title):
            for reason in reasons:
                st.warning(write_text(reason))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Every run and search that the page was given, side by side, and what people wrote of them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.explorer.context import Context, linked
from app.explorer.derived import digest_front
from app.explorer.drawn import show_chart
from app.explorer.fronts.beside import list_others, select_beside
from app.explorer.markup import write_text
from app.explorer.opened import SearchOutline, Unreadable, isolated, outline_run
from app.explorer.panels.notes_panel import show_notes
from app.explorer.panels.sidebar import shorten
from app.records.notes import NotesRecord, read_notes
from app.records.numbers import format_items
from app.records.searches.front import Front
from app.reporting.charts.overlay_chart import MOST_FRONTS, draw_fronts
from app.runs.directory import Run
from supernet.errors import InputError

# Of a note, in a table.
_LONGEST = 80


@linked
def show(context: Context) -> None:
    """List runs and searches, draw fronts over each other, and show notes."""
    with isolated("The list of runs"):
        _list_runs(context)
    if context.front is not None and context.front.points:
        with isolated("The fronts"):
            _show_fronts(context, context.front)
    st.markdown("**Notes and favourites**")
    with isolated("The notes"):
        show_notes(context)


def _list_runs(context: Context) -> None:
    rows, searches = [], 0
    for path in context.runs:
        found = outline_run(path)
        name = shorten(path, list(context.runs))
        if isinstance(found, Unreadable):
            rows.append({"run": name, "search": "cannot be read"})
            continue
        about = _describe_run(path)
        searches += len(found)
        rows += [{"run": name, **_describe_search(search), **about} for search in found]
        if not found:
            rows.append({"run": name, "search": "none yet", **about})
    count = format_items(searches, "search", "searches")
    st.markdown(f"**{format_items(len(context.runs), 'run')} with {count}**")
    st.dataframe(rows, hide_index=True)


def _describe_run(path: Path) -> dict[str, str]:
    """What a run was made from, in a few words; the text is shown as it is."""
    record = Run(path).record
    family = f"{record.family} ({record.preset})" if record.preset else record.family
    notes = _read_notes(path)
    note = " ".join(notes.read(None).split())
    short = note if len(note) <= _LONGEST else f"{note[:_LONGEST]}..."
    return {
        "data": Path(record.data.spec).name or record.data.spec,
        "family": family,
        "made": record.created[:10],
        "note": short,
        "favourites": f"{len(notes.favourites):,}" if notes.favourites else "",
    }


def _read_notes(path: Path) -> NotesRecord:
    try:
        return read_notes(path)
    except (OSError, InputError):
        # The panel of the run says what is wrong with them.
        return NotesRecord()


def _describe_search(search: SearchOutline) -> dict[str, str]:
    volume = search.hypervolume
    return {
        "search": search.name,
        "device": search.device,
        "best": search.best,
        "cheapest": search.cheapest,
        "on the front": f"{search.members:,}",
        "evaluations": f"{search.evaluations:,}",
        "hypervolume": "" if volume is None else f"{volume:.4g}",
        "strategy": search.strategy,
    }


def _show_fronts(context: Context, front: Front) -> None:
    st.markdown("**Fronts over each other**")
    if not list_others(context, front):
        figures = f"{front.quality.title} and {front.cost.title}"
        st.info(write_text(f"No other search here has {figures}, to be drawn over this front."))
        return
    mine = f"{shorten(context.run.path, list(context.runs))} / {front.search} ({front.device})"
    others = select_beside(context, front, "Draw over this front", MOST_FRONTS - 1)
    fronts = [(mine, front), *others]
    show_chart(
        f"fronts {context.key}",
        tuple(f"{label} {digest_front(drawn)}" for label, drawn in fronts),
        lambda: draw_fronts(fronts, front.cost, front.quality),
    )
    if any(other.space_digest != front.space_digest for _, other in fronts):
        st.caption("These fronts are of different search spaces.")

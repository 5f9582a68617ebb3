"""Notes and favourites of a run as widgets: what people wrote, kept in the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app.explorer.context import Context
from app.explorer.markup import write_text
from app.explorer.panels.widgets import hold
from app.records.notes import (
    LONGEST_NOTE,
    ChangedNoteError,
    NotesRecord,
    mark_favourite,
    read_notes,
    write_note,
)
from app.records.numbers import format_items
from app.records.searches.front import Front, Point
from app.reporting.markdown import write_code
from supernet.errors import InputError


def show_notes(context: Context) -> None:
    """Draw the note about the run, that about the chosen network, and the favourites."""
    run = context.run.path
    try:
        notes = read_notes(run)
    except (OSError, InputError) as error:
        st.warning(write_text(error))
        return
    left, right = st.columns(2, gap="large")
    with left:
        _ask_note(run, None, notes, "Note about this run")
    with right:
        if context.chosen is None:
            st.info("Choose a network on the screen Front to write about it.")
        else:
            _ask_favourite(run, context.chosen, notes)
            title = f"Note about {context.chosen.digest}"
            _ask_note(run, context.chosen.digest, notes, title)
    _show_complaint(run)
    _list_favourites(context, notes)


def _ask_note(run: Path, about: str | None, notes: NotesRecord, label: str) -> None:
    key = f"note {run} {about or 'of the run'}"
    seen, stored = f"seen {key}", notes.read(about)
    if key not in st.session_state or st.session_state[key] == st.session_state.get(seen, ""):
        # Nothing was typed here since, so that what others wrote meanwhile is shown. What was
        # typed and not saved goes with the screen.
        hold(key, stored)
        st.session_state[seen] = stored
    st.text_area(label, key=key, max_chars=LONGEST_NOTE, height=120)
    st.button("Save", key=f"save {key}", on_click=lambda: _save(run, about, key))
    theirs = st.session_state.get(f"theirs {key}")
    if theirs is not None:
        st.warning("Somebody else changed this note. It says now:")
        st.text(theirs or "(nothing)")
        st.caption("Saving again replaces it by yours.")


def _save(run: Path, about: str | None, key: str) -> None:
    text, seen = st.session_state[key], f"seen {key}"
    st.session_state.pop(f"theirs {key}", None)
    try:
        notes = write_note(run, about, text, st.session_state.get(seen, ""))
    except ChangedNoteError as error:
        st.session_state[f"theirs {key}"] = st.session_state[seen] = error.text
        return
    except (OSError, InputError) as error:
        st.session_state[_name_complaint(run)] = str(error)
        return
    st.session_state[key] = st.session_state[seen] = notes.read(about)


def _ask_favourite(run: Path, point: Point, notes: NotesRecord) -> None:
    key = f"favourite {run} {point.digest}"
    hold(key, point.digest in notes.favourites)
    st.toggle(
        f"{write_code(point.digest)} is a favourite",
        key=key,
        on_change=lambda: _try(run, lambda: mark_favourite(run, point.digest, _is_on(key))),
    )


def _is_on(key: str) -> bool:
    return bool(st.session_state[key])


def _list_favourites(context: Context, notes: NotesRecord) -> None:
    noted = [note.about for note in notes.notes if note.about is not None]
    digests = list(dict.fromkeys((*notes.favourites, *noted)))
    if not digests:
        st.caption("There are no favourites in this run yet.")
        return
    st.markdown(f"**{format_items(len(digests), 'favourite or noted network')}**")
    front = context.front
    st.dataframe(
        [_describe(digest, digest in notes.favourites, notes, front) for digest in digests],
        hide_index=True,
    )
    known = [digest for digest in digests if front is not None and front.find_places(digest)]
    if known:
        key = f"look at {context.key}"
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        left.selectbox("A favourite of this search", known, key=key)
        right.button(
            "Look at it",
            key=f"go {key}",
            on_click=lambda: context.update(chosen=st.session_state[key], screen="Network"),
        )


def _describe(digest: str, marked: bool, notes: NotesRecord, front: Front | None) -> dict[str, str]:
    """A line about a network; the text is shown as it is."""
    shown = {"network": digest, "favourite": "★" if marked else ""}
    if front is not None:
        places = front.find_places(digest)
        for axis in (front.quality, front.cost):
            value = front.points[places[0]].best(axis.name) if places else None
            shown[axis.title] = axis.show(value)
    return {**shown, "note": notes.read(digest)}


def _try(run: Path, change: Callable[[], object]) -> None:
    """Make a change; where it fails, the reason is kept for this browser alone."""
    try:
        change()
    except (OSError, InputError) as error:
        st.session_state[_name_complaint(run)] = str(error)


def _show_complaint(run: Path) -> None:
    complaint = st.session_state.pop(_name_complaint(run), None)
    if complaint:
        st.error(write_text(complaint))


def _name_complaint(run: Path) -> str:
    return f"notes complaint {run}"

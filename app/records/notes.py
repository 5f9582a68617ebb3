"""``notes.json``: what people wrote about a run and its architectures, and their favourites.

Whoever opens the run from another browser may write at the same time. Every change reads the file
again under a lock and changes one thing in it, so that nobody's note is lost; and a note is only
replaced by somebody who has seen what it says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

from pydantic import Field

from app.records.numbers import format_items
from app.records.typed_json.record import Digest, FileRecord, Record
from app.records.typed_json.record_files import read_record, write_record
from supernet.errors import InputError

FILE = "notes.json"
# A page of text, and more notes than anybody writes by hand.
LONGEST_NOTE, MOST_NOTES = 4000, 1000
_LARGEST_FILE = 2 * LONGEST_NOTE * MOST_NOTES
_REMEDY = "restore the file, or move it away to begin anew"


class ChangedNoteError(InputError):
    """Somebody else has changed a note since it was shown.

    Args:
        text: What the note says now.
    """

    def __init__(self, text: str) -> None:
        super().__init__(
            "this note was changed elsewhere since it was shown here, so yours was not saved; "
            "look at what it says now, and save again"
        )
        self.text = text


class NoteRecord(Record):
    """A note.

    Args:
        about: Digest of the architecture it is about; ``None`` for the run itself.
        text: Plain text.
        at: When it was written, ISO 8601 in UTC.
    """

    about: Digest | None = None
    text: Annotated[str, Field(max_length=LONGEST_NOTE)]
    at: str = ""


class NotesRecord(FileRecord):
    """The content of ``notes.json``.

    Args:
        notes: At most one about each architecture, and one about the run.
        favourites: Digests of architectures, in the order they were marked.
    """

    notes: Annotated[tuple[NoteRecord, ...], Field(max_length=MOST_NOTES)] = ()
    favourites: Annotated[tuple[Digest, ...], Field(max_length=MOST_NOTES)] = ()

    def read(self, about: str | None) -> str:
        """The note about an architecture, or the run; empty where there is none."""
        return next((note.text for note in self.notes if note.about == about), "")


def read_notes(run: Path) -> NotesRecord:
    """The notes of a run; none where nobody wrote any.

    Args:
        run: The run directory.

    Raises:
        InputError: The file is damaged, of another format, a link, or too large to be one.
        OSError: It cannot be read.
    """
    path = run / FILE
    if path.is_symlink():
        raise InputError(f"{path} is a link, and notes are read from the run alone; {_REMEDY}")
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return NotesRecord()
    if size > _LARGEST_FILE:
        raise InputError(
            f"{path} has {format_items(size, 'byte')}, more than all notes together may; {_REMEDY}"
        )
    return read_record(path, NotesRecord, _REMEDY)


def write_note(run: Path, about: str | None, text: str, seen: str) -> NotesRecord:
    """Write the note about an architecture, or the run; an empty text removes it.

    Args:
        run: The run directory.
        about: Digest of the architecture, or ``None``.
        text: The new text.
        seen: What the writer was shown before: the note is replaced only if it still says so.

    Returns:
        All notes, as they are now on disk.

    Raises:
        ChangedNoteError: The note says something else by now.
        InputError: The text or the list of notes is too long, the file is damaged, or nothing
            can be written.
        OSError: The disk is full; the file is as it was.
    """
    text = text.strip()
    if len(text) > LONGEST_NOTE:
        raise InputError(
            f"a note of {len(text):,} characters is too long; {LONGEST_NOTE:,} is the most"
        )
    _check_encoding(text)

    def change(found: NotesRecord) -> NotesRecord:
        current = found.read(about)
        if current not in (seen, text):
            raise ChangedNoteError(current)
        others = tuple(note for note in found.notes if note.about != about)
        if not text:
            return found.replace(notes=others)
        if len(others) == MOST_NOTES:
            raise InputError(f"the run has {MOST_NOTES:,} notes already; remove one first")
        added = NoteRecord(about=about, text=text, at=_now())
        return found.replace(notes=(*others, added))

    return _change(run, change)


def mark_favourite(run: Path, digest: str, wanted: bool) -> NotesRecord:
    """Put an architecture among the favourites, or take it away.

    Args:
        run: The run directory.
        digest: Of the architecture.
        wanted: Whether it is a favourite from now on.

    Returns:
        All notes, as they are now on disk.

    Raises:
        InputError: There are too many, the file is damaged, or nothing can be written.
        OSError: The disk is full; the file is as it was.
    """

    def change(found: NotesRecord) -> NotesRecord:
        others = tuple(known for known in found.favourites if known != digest)
        if wanted and len(others) == MOST_NOTES:
            raise InputError(f"the run has {MOST_NOTES:,} favourites already; remove one first")
        return found.replace(favourites=(*others, digest) if wanted else others)

    return _change(run, change)


def _change(run: Path, change: Callable[[NotesRecord], NotesRecord]) -> NotesRecord:
    with _hold(run):
        found = read_notes(run)
        changed = change(found)
        if changed != found:
            write_record(run / FILE, changed)
        return changed


@contextmanager
def _hold(run: Path) -> Iterator[None]:
    """Keep other writers of notes waiting; commands that write to the run need not."""
    if not os.access(run, os.W_OK):
        raise InputError(
            f"{run} cannot be written to, where notes and favourites are kept; copy the run to "
            "where you may write, and open the copy"
        )
    if os.name != "posix":
        yield
        return
    import fcntl

    # The folder itself, so that no lock file is left in a run that is only looked at.
    handle = os.open(run, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _check_encoding(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("a note must be text: it has half a character in it") from None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

"""Notes and favourites: kept in the run, bounded, never lost to another writer, never executed."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from app.records import notes
from app.records.notes import (
    FILE,
    LONGEST_NOTE,
    ChangedNoteError,
    NoteRecord,
    NotesRecord,
    mark_favourite,
    read_notes,
    write_note,
)
from app.records.typed_json.record_files import write_record
from supernet.errors import InputError

FIRST, SECOND = "0123456789ab", "ba9876543210"


def test_notes_and_favourites_are_kept(tmp_path: Path) -> None:
    assert read_notes(tmp_path) == NotesRecord()
    write_note(tmp_path, None, "  The baseline.\n\nTrained twice. ", "")
    write_note(tmp_path, FIRST, "fast", "")
    mark_favourite(tmp_path, SECOND, True)
    mark_favourite(tmp_path, FIRST, True)
    found = read_notes(tmp_path)
    assert found.read(None) == "The baseline.\n\nTrained twice."
    assert (found.read(FIRST), found.read(SECOND)) == ("fast", "")
    assert found.favourites == (SECOND, FIRST)
    assert all(note.at.endswith("+00:00") for note in found.notes)
    mark_favourite(tmp_path, SECOND, False)
    mark_favourite(tmp_path, SECOND, False)
    write_note(tmp_path, FIRST, " ", "fast")
    found = read_notes(tmp_path)
    assert found.favourites == (FIRST,)
    assert [note.about for note in found.notes] == [None]
    assert sorted(os.listdir(tmp_path)) == [FILE], "nothing else is left in the run"


def test_a_note_is_replaced_only_by_who_has_seen_it(tmp_path: Path) -> None:
    write_note(tmp_path, FIRST, "theirs", "")
    with pytest.raises(ChangedNoteError, match="changed elsewhere") as caught:
        write_note(tmp_path, FIRST, "mine", "")
    assert caught.value.text == "theirs"
    assert read_notes(tmp_path).read(FIRST) == "theirs"
    write_note(tmp_path, FIRST, "mine, after theirs", "theirs")
    write_note(tmp_path, FIRST, "mine, after theirs", "what I saw long ago")
    assert read_notes(tmp_path).read(FIRST) == "mine, after theirs"


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    digests = [f"{number:012x}" for number in range(24)]

    def write(part: list[str]) -> None:
        for digest in part:
            write_note(tmp_path, digest, f"about {digest}", "")
            mark_favourite(tmp_path, digest, True)

    writers = [threading.Thread(target=write, args=(digests[i::4],)) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = read_notes(tmp_path)
    assert {note.about: note.text for note in found.notes} == {d: f"about {d}" for d in digests}
    assert set(found.favourites) == set(digests)


def test_what_is_too_much_is_refused_and_the_rest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_note(tmp_path, FIRST, "x" * LONGEST_NOTE, "")
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(InputError, match="4,001 characters is too long; 4,000 is the most"):
        write_note(tmp_path, SECOND, "x" * (LONGEST_NOTE + 1), "")
    with pytest.raises(InputError, match="half a character"):
        write_note(tmp_path, SECOND, "\ud800", "")
    monkeypatch.setattr(notes, "MOST_NOTES", 1)
    with pytest.raises(InputError, match="1 notes already"):
        write_note(tmp_path, SECOND, "more", "")
    assert (tmp_path / FILE).read_bytes() == before
    mark_favourite(tmp_path, FIRST, True)
    with pytest.raises(InputError, match="1 favourites already"):
        mark_favourite(tmp_path, SECOND, True)


def test_damaged_foreign_and_huge_files_are_neither_used_nor_replaced(tmp_path: Path) -> None:
    path = tmp_path / FILE
    for content, reason in (
        ("{", "is not valid JSON"),
        ("[]", "damaged or edited"),
        ('{"format": 2}', "has format 2"),
        ('{"format": 1, "favourites": ["../x"]}', "12 hexadecimal digits"),
        (json.dumps({"format": 1, "notes": [{"text": "x" * 5000}]}), "at most 4000 characters"),
        (" " * 9_000_000, "more than all notes together may"),
    ):
        path.write_text(content)
        for use in (read_notes, lambda run: mark_favourite(run, FIRST, True)):
            with pytest.raises(InputError, match=reason):
                use(tmp_path)
        assert path.read_text() == content


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere.json"
    run.mkdir()
    write_record(elsewhere, NotesRecord(notes=(NoteRecord(text="of somebody else"),)))
    before = elsewhere.read_bytes()
    (run / FILE).symlink_to(elsewhere)
    for use in (read_notes, lambda folder: write_note(folder, None, "mine", "")):
        with pytest.raises(InputError, match="is a link"):
            use(run)
    assert elsewhere.read_bytes() == before


def test_a_run_that_is_only_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_note(tmp_path, None, "kept", "")
    # The administrator may write everywhere, whatever the mode says.
    monkeypatch.setattr(notes.os, "access", lambda *_: False)
    with pytest.raises(InputError, match="copy the run to where you may write"):
        write_note(tmp_path, None, "new", "kept")
    assert read_notes(tmp_path).read(None) == "kept"

"""Crash safety of the shared file helpers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from supernet import files


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_json_round_trip_and_refusal_of_nan(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a" / "x.json", {"k": [1, 2.5]})
    assert files.read_json(tmp_path / "a" / "x.json") == {"k": [1, 2.5]}
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a" / "x.json", float("nan"))
    assert os.listdir(tmp_path / "a") == ["x.json"]


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"k": ')
    with pytest.raises(ValueError, match=r"x\.json is not valid JSON"):
        files.read_json(tmp_path / "x.json")


def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, 1)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left on the disk") as caught:
        files.write_json(path, 2)
    assert caught.value.errno == errno.ENOSPC
    assert files.read_json(path) == 1
    assert os.listdir(tmp_path) == ["x.json"]


def test_full_disk_keeps_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    files.append_record(path, {"n": 1})
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        files.append_record(path, {"n": 2})
    assert path.read_bytes() == b'{"n": 1}\n'


@pytest.mark.parametrize("torn", [b'{"n": 2', b"x" * 10_000])
def test_torn_last_line_is_ignored_and_then_cut(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log.jsonl"
    files.append_record(path, {"n": 1})
    with path.open("ab") as file:
        file.write(torn)
    assert files.read_records(path) == [{"n": 1}]
    files.append_record(path, {"n": 3})
    assert files.read_records(path) == [{"n": 1}, {"n": 3}]


def test_damage_inside_a_log_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"n": 1}\n{"n":\n{"n": 3}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl, line 2"):
        files.read_records(tmp_path / "log.jsonl")


def test_missing_log_is_empty_and_line_breaks_are_refused(tmp_path: Path) -> None:
    assert files.read_lines(tmp_path / "none") == []
    with pytest.raises(ValueError, match="line break"):
        files.append_line(tmp_path / "log", "a\nb")


def test_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with files.new_folder(target) as temporary:
        (temporary / "a").write_text("1")

    def fail() -> None:
        with files.new_folder(target) as temporary:
            (temporary / "a").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (target / "a").read_text() == "1"
    with files.new_folder(target) as temporary:
        (temporary / "b").write_text("3")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{files.TEMPORARY}out-1").mkdir()
    with files.new_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("1")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_writers_of_longer_names_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"{files.TEMPORARY}out-2-1").mkdir()
    with files.new_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("1")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{files.TEMPORARY}out-2-1", "out"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with files.new_folder(tmp_path / "link") as temporary:
        (temporary / "a").write_text("1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_text() == "1"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    aside = tmp_path / f"{files.TEMPORARY}model-old-4711"
    aside.mkdir()
    (aside / "weights").write_text("the only copy")
    files.remove_partial(tmp_path, "model")
    assert (tmp_path / "model" / "weights").read_text() == "the only copy"
    assert os.listdir(tmp_path) == ["model"]

"""Crash safety of the shared file helpers."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supernet import files

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="limits, locks and links are POSIX")


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


FIRST, SECOND, THIRD = b'{"n": 1}\n', '{"n": 2, "text": "%s"}' % ("x" * 40), '{"n": 3}'


def check_failed_append(path: Path, number: int) -> None:
    """Append to a log where there is no room, and look at every byte of it."""
    before = path.read_bytes()
    with pytest.raises(OSError) as caught:
        files.append_line(path, SECOND)
    assert caught.value.errno == number
    assert "before is intact" in str(caught.value)
    assert path.read_bytes() == before


@posix
def test_wherever_the_space_ends_the_log_is_as_it_was(tmp_path: Path) -> None:
    code = f"""
import resource, sys
from pathlib import Path
from tests.supernet.test_files import FIRST, SECOND, THIRD, check_failed_append, errno, files
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for room in range(len(SECOND) + 1):
    path = Path({str(tmp_path)!r}) / f"log-{{room}}"
    path.write_bytes(FIRST)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(FIRST) + room, most))
    check_failed_append(path, errno.EFBIG)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    files.append_line(path, THIRD)
    assert path.read_bytes() == FIRST + THIRD.encode() + b"\\n", room
print("tried", room + 1)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout == f"tried {len(SECOND) + 1}\n".encode(), done.stderr.decode()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of four pages, which only a privileged user may mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = f"size={4 * os.sysconf('SC_PAGESIZE')}"
    try:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk])
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if made.returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill_disk(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 512)


@posix
def test_a_disk_that_is_really_full_costs_one_line_and_poisons_nothing(small_disk: Path) -> None:
    page = os.sysconf("SC_PAGESIZE")
    ballast, path = small_disk / "ballast", small_disk / "log"
    for room in range(len(SECOND) + 1):
        begun = FIRST * (page // len(FIRST))
        path.write_bytes(begun[: page - room - 1] + b"\n")
        before = path.read_bytes()
        with pytest.raises(OSError, match="No space"):
            fill_disk(ballast)
        check_failed_append(path, errno.ENOSPC)
        ballast.unlink()
        files.append_line(path, THIRD)
        assert path.read_bytes() == before + THIRD.encode() + b"\n", room


@posix
def test_an_interrupted_append_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_bytes(FIRST)
    real = os.write

    def write_a_part(handle: int, data: bytes) -> int:
        return real(handle, bytes(data[:5]))

    monkeypatch.setattr(os, "write", write_a_part)
    files.append_line(path, THIRD)
    assert path.read_bytes() == FIRST + THIRD.encode() + b"\n", "short writes are continued"

    def interrupt(handle: int, data: bytes) -> int:
        real(handle, bytes(data[:5]))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.append_line(path, SECOND)
    assert path.read_bytes() == FIRST + THIRD.encode() + b"\n"


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


@posix
def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    secret, folder = tmp_path / "token", tmp_path / "folder"
    secret.write_text("secret\n")
    folder.mkdir()
    (folder / "kept").write_text("kept")
    for name, target in (("log", secret), ("new", folder), ("gone", tmp_path / "nowhere")):
        (tmp_path / name).symlink_to(target)
    for name in ("log", "gone"):
        with pytest.raises(ValueError, match=f"{name} is a link to .*never written or removed"):
            files.append_line(tmp_path / name, "line")
    with (
        pytest.raises(ValueError, match="new is a link"),
        files.new_folder(tmp_path / "new"),
    ):
        pass
    files.write_text(tmp_path / "log", "ours")
    assert not (tmp_path / "log").is_symlink(), "replaced, not followed"
    assert secret.read_text() == "secret\n"
    assert os.listdir(folder) == ["kept"]
    assert not (tmp_path / "nowhere").exists()


@posix
def test_links_under_temporary_names_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    for name in ("out-1", "out-old-1", "out-t0123456789ab", "out-t0123456789ab-old"):
        (tmp_path / f"{files.TEMPORARY}{name}").symlink_to(tmp_path / "precious")
    files.remove_partial(tmp_path)
    assert os.listdir(tmp_path) == ["precious"]
    assert (tmp_path / "precious" / "file").read_text() == "kept"


def fill(path: Path, begun: Path, go_on: Path) -> None:
    """Write a folder, waiting in the middle."""
    with files.new_folder(path) as temporary:
        (temporary / "who").write_text(str(os.getpid()))
        begun.touch()
        while not go_on.exists():
            time.sleep(0.005)


@posix
def test_what_a_living_process_writes_is_left_alone_and_what_a_killed_one_left_is_not(
    tmp_path: Path,
) -> None:
    start = multiprocessing.get_context("fork").Process
    begun, go_on, place = tmp_path / "begun", tmp_path / "go on", tmp_path / "place"
    place.mkdir()
    writers = [start(target=fill, args=(place / "out", begun, go_on)) for _ in range(2)]
    for writer in writers:
        writer.start()
        while not begun.exists():
            time.sleep(0.005)
        begun.unlink()
    files.remove_partial(place)
    with files.new_folder(place / "out") as temporary:
        (temporary / "who").write_text("third")
    assert len(os.listdir(place)) == 3, "two writers go on"
    writers[0].kill()
    writers[0].join()
    files.remove_partial(place)
    assert len(os.listdir(place)) == 2, "the killed one's is gone"
    go_on.touch()
    writers[1].join()
    assert writers[1].exitcode == 0
    assert os.listdir(place) == ["out"]
    assert (place / "out" / "who").read_text() == str(writers[1].pid), "the last one stays"


def write_again_and_again(path: Path, times: int) -> None:
    for _ in range(times):
        with files.new_folder(path) as temporary:
            (temporary / "a").write_text("whole")
            (temporary / "b").write_text("whole")


@posix
def test_writers_of_one_folder_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    start = multiprocessing.get_context("fork").Process
    path = tmp_path / "out"
    writers = [start(target=write_again_and_again, args=(path, 40)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert os.listdir(tmp_path) == ["out"]
    assert sorted(os.listdir(path)) == ["a", "b"]


def test_own_names_of_temporary_files_are_told_from_others(tmp_path: Path) -> None:
    for name in ("notes", "x-12z", "model-t12"):
        (tmp_path / f"{files.TEMPORARY}{name}").write_text("a user's")
    (tmp_path / f"{files.TEMPORARY}run.json-17").write_text("left by a release before")
    files.remove_partial(tmp_path)
    assert len(os.listdir(tmp_path)) == 3


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    aside = tmp_path / f"{files.TEMPORARY}model-old-4711"
    aside.mkdir()
    (aside / "weights").write_text("the only copy")
    files.remove_partial(tmp_path, "model")
    assert (tmp_path / "model" / "weights").read_text() == "the only copy"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", "a\\b", "a\nb", "a\0b", ".hidden", "x" * 81]
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    for check in (files.check_name, files.check_new_name):
        with pytest.raises(ValueError, match="search name") as caught:
            check("search", name)
        assert len(str(caught.value)) < 200
        assert "\n" not in str(caught.value)


def test_names_of_letters_are_kept() -> None:
    for name in ("default", "Größe_2", "a.b-c"):
        assert files.check_new_name("search", name) == name
    assert files.check_name("device", "Pixel 7, big cores") == "Pixel 7, big cores"
    with pytest.raises(ValueError, match="device name 'Pixel 7' must be letters"):
        files.check_new_name("device", "Pixel 7")

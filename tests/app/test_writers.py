"""Commands that write: one at a time, never through links, under names that stay where they are."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from app.commands import errors
from app.records.searches.front import read_front
from app.runs import directory
from app.runs.directory import check_free, open_run, writing_run
from supernet import checksums, files
from supernet.errors import InputError
from tests.app.conftest import PROFILE, SEARCH, STEPS, Command, contents
from tests.app.test_resume import kill_when, lines
from tests.app.test_runs import SPACE, identity

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and links are POSIX")
ROOT = Path(__file__).parents[2]
BUSY = "another command is writing to"


def begin_run(path: Path, seed: int, ready: Barrier, told: Path) -> None:
    """Make a run when the others do, and stay in it for a moment."""
    ready.wait()
    try:
        with writing_run(path, identity(seed=seed), SPACE) as run:
            (path / "weights").write_text(str(seed))
            ready.wait(10)
            told.write_text(f"wrote {run.record.seed}")
    except InputError as error:
        ready.wait(10)
        told.write_text(str(error))


def test_of_two_that_make_a_run_at_once_one_does(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for number in range(10):
        path = tmp_path / f"run {number}"
        ready = fork.Barrier(2)
        told = [tmp_path / f"told {number} {seed}" for seed in (0, 1)]
        writers = [
            fork.Process(target=begin_run, args=(path, seed, ready, told[seed])) for seed in (0, 1)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        said = [place.read_text() for place in told]
        seed = open_run(path).record.seed
        assert said[seed] == f"wrote {seed}", said
        assert said[1 - seed].startswith((BUSY, f"{path} holds another run")), said
        assert (path / "weights").read_text() == str(seed), "nothing is mixed"


def test_a_folder_that_becomes_a_run_while_it_is_looked_at_is_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    path.mkdir()

    def look_late(folder: Path) -> None:
        monkeypatch.undo()
        with writing_run(folder, identity(seed=1), SPACE):
            pass
        check_free(folder)

    monkeypatch.setattr(directory, "check_free", look_late)
    with (
        pytest.raises(InputError, match="holds another run"),
        writing_run(path, identity(seed=0), SPACE),
    ):
        pass
    assert open_run(path).record.seed == 1


@pytest.mark.slow
def test_two_trainings_into_one_new_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for number in range(20):
        path = tmp_path / str(number)
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "supernet", "train", "--out", path, *STEPS, "--seed", seed],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for seed in ("0", "1")
        ]
        said = [process.communicate()[1] for process in started]
        codes = [process.returncode for process in started]
        assert sorted(codes) == [0, 2], said
        winner = codes.index(0)
        sentence = said[1 - winner]
        assert BUSY in sentence or "holds another run" in sentence, sentence
        assert open_run(path).record.seed == winner
        state = json.loads((path / "checkpoints" / "30" / "state.json").read_text())
        assert state["recipe"]["seed"] == winner, "weights of one under the name of the other"


def test_a_folder_that_holds_but_a_lock_is_free(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    check_free(tmp_path)
    with writing_run(tmp_path, identity(), SPACE) as run:
        assert run.record.seed == 0


def test_finished_commands_need_no_lock(command: Command, a_run: Path, tmp_path: Path) -> None:
    digest = read_front(a_run / "searches" / "default").list_front()[0].digest
    with open_run(a_run).writing():
        for arguments in (
            ("train", "--out", a_run, *STEPS),
            ("profile", "--run", a_run, *PROFILE),
            ("search", "--run", a_run, *SEARCH),
            ("evaluate", "--run", a_run, "--arch", digest),
            ("report", "--run", a_run, "--no-baseline"),
            ("export", "--run", a_run, "--arch", digest),
        ):
            outcome = command(*arguments)
            assert outcome.code == 0, (arguments, outcome.err)
        for arguments in (
            ("profile", "--run", a_run, *PROFILE, "--replace"),
            ("search", "--run", a_run, *SEARCH, "--name", "second"),
            ("search", "--run", a_run, *SEARCH, "--replace"),
        ):
            outcome = command(*arguments)
            assert outcome.code == 2
            assert outcome.error.startswith(BUSY)


def test_a_mirror_that_is_not_whole_is_made_whole(command: Command, a_run: Path) -> None:
    journal = a_run / "searches" / "default" / "optuna.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) // 2])
    assert command("search", "--run", a_run, *SEARCH).code == 0
    assert len(lines(journal)) >= len(whole.splitlines()) // 2
    after = journal.read_bytes()
    assert command("search", "--run", a_run, *SEARCH).code == 0
    assert journal.read_bytes() == after, "nothing is added to what is whole"


LINKED = [
    *("run.json", "space.json", "metrics.jsonl", "evaluations.jsonl", ".lock"),
    *("checkpoints", "checkpoints/30", "checkpoints/30/weights.safetensors"),
    *("devices", "devices/cpu", "devices/cpu/measurements.jsonl"),
    *("searches", "searches/default", "searches/default/optuna.log"),
    "searches/default/artifacts",
]


@pytest.mark.parametrize("name", LINKED)
def test_nothing_is_written_where_a_link_leads(
    refused: Callable[..., str], a_run: Path, tmp_path: Path, name: str
) -> None:
    path, elsewhere = a_run / name, tmp_path / "elsewhere"
    (a_run / ".lock").touch()
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)
    before = contents(tmp_path)
    sentence = refused("search", "--run", a_run, *SEARCH, "--name", "second")
    assert sentence.startswith(f"{path} is a link to {elsewhere}")
    assert contents(tmp_path) == before
    assert path.is_symlink()


def test_folders_that_are_made_later_are_looked_at_too(
    refused: Callable[..., str], command: Command, a_run: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "default").mkdir(parents=True)
    digest = read_front(a_run / "searches" / "default").list_front()[0].digest
    report = ("report", "--run", a_run, "--no-baseline")
    for name, arguments in (
        ("exports", ("export", "--run", a_run, "--arch", digest)),
        ("exports", ("export", "--run", a_run, "--arch", digest, "--out", a_run / "exports" / "x")),
        ("report", report),
        ("audits", ("audit", "--run", a_run, "--networks", "4")),
    ):
        (a_run / name).symlink_to(elsewhere)
        assert f"{name} is a link to {elsewhere}" in refused(*arguments)
        (a_run / name).unlink()
    (a_run / "report").mkdir()
    (a_run / "report" / "default").symlink_to(elsewhere)
    assert "default is a link" in refused(*report)
    assert contents(tmp_path / "elsewhere") == {}
    assert [path.name for path in elsewhere.iterdir()] == ["default"]


def test_links_that_a_user_gives_are_followed(
    command: Command, a_run: Path, tmp_path: Path
) -> None:
    real, link, run = tmp_path / "real", tmp_path / "link", tmp_path / "also the run"
    real.mkdir()
    link.symlink_to(real)
    run.symlink_to(a_run)
    (a_run / "notes").symlink_to(tmp_path)
    digest = read_front(a_run / "searches" / "default").list_front()[0].digest
    assert command("export", "--run", run, "--arch", digest, "--out", link).code == 0
    assert link.is_symlink()
    assert (real / "model.onnx").exists()
    assert command("evaluate", "--run", run, "--arch", digest, "--split", "train").code == 0


BAD_NAMES = ["../x", "..", "/tmp/x", "a/b", "a\nb", "x" * 300, ".hidden", "a\\b"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "--name"),
        ("search", "--device"),
        ("audit", "--name"),
        ("profile", "--provider", "CPUExecutionProvider", "--device"),
        ("report", "--search"),
        ("pick", "--knee", "--search"),
    ],
    ids=lambda arguments: " ".join((arguments[0], arguments[-1])),
)
def test_names_stay_where_they_are(
    refused: Callable[..., str], a_run: Path, arguments: tuple[str, ...]
) -> None:
    before = contents(a_run.parent)
    command, *options = arguments
    for name in BAD_NAMES:
        assert "\n" not in refused(command, "--run", a_run, *options, name)
    assert contents(a_run.parent) == before


def test_a_device_named_in_a_file_stays_where_it_is(
    refused: Callable[..., str], a_run: Path
) -> None:
    path = a_run / "devices" / "cpu" / "device.json"
    report = path.with_name("report.json")
    changed = {**checksums.read_json(path), "name": "x/../../y\nz"}
    files.write_json(path, changed)
    known = checksums.read_json(report)
    known["files"]["device.json"] = files.digest_file(path)
    files.write_json(report, known)
    sentence = refused("search", "--run", a_run, *SEARCH, "--name", "second")
    assert "device name 'x/../../y\\nz' must be letters" in sentence


def set_running(run: Path, name: str) -> None:
    record = checksums.read_json(run / "run.json")
    record["stages"][name]["status"] = "running"
    files.write_json(run / "run.json", record)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("train", ("train", "--out", None, *STEPS)),
        ("profile", ("profile", "--run", None, *PROFILE)),
        ("search", ("search", "--run", None, *SEARCH)),
    ],
)
def test_a_stage_killed_before_its_note_is_complete_when_repeated(
    command: Command, a_run: Path, name: str, arguments: tuple[object, ...]
) -> None:
    finished = json.loads((a_run / "run.json").read_text())["stages"][name]
    set_running(a_run, name)
    outcome = command(*(a_run if argument is None else argument for argument in arguments))
    assert outcome.code == 0, outcome.err
    stage = json.loads((a_run / "run.json").read_text())["stages"][name]
    assert stage["status"] == "complete"
    changing = ("updated", "seconds")
    assert {k: v for k, v in stage.items() if k not in changing} == {
        k: v for k, v in finished.items() if k not in changing
    }


def test_the_note_of_another_search_is_left_alone(command: Command, a_run: Path) -> None:
    record = checksums.read_json(a_run / "run.json")
    record["stages"]["search"] |= {"status": "running", "name": "second"}
    files.write_json(a_run / "run.json", record)
    assert command("search", "--run", a_run, *SEARCH).code == 0
    stage = json.loads((a_run / "run.json").read_text())["stages"]["search"]
    assert (stage["status"], stage["name"]) == ("running", "second")


@pytest.mark.slow
def test_a_replaced_table_that_was_killed_continues(command: Command, a_run: Path) -> None:
    folder = a_run / "devices" / "cpu"
    log, before = folder / "measurements.jsonl", (folder / "report.json").read_bytes()
    old = log.read_bytes()
    replace = ("profile", "--run", a_run, *PROFILE, "--replace")
    kill_when(lambda: log.read_bytes()[:40] != old[:40] and len(lines(log)) >= 2, *replace)
    assert (folder / "report.json").read_bytes() == before, "killed in the middle"
    measured = lines(log)
    outcome = command(*replace)
    assert outcome.code == 0, outcome.err
    assert lines(log)[: len(measured)] == measured, "measurements are not repeated"
    whole = log.read_bytes()
    assert (folder / "report.json").read_bytes() != before
    # Killed between the table and the note: it is complete, and is not measured a third time.
    set_running(a_run, "profile")
    assert command(*replace).code == 0
    assert log.read_bytes() == whole
    assert open_run(a_run).record.stages["profile"].complete
    assert command(*replace).code == 0
    assert log.read_bytes() != whole, "what is complete is measured again"


def test_what_killed_writers_left_is_removed_wherever_it_is(command: Command, a_run: Path) -> None:
    digest = read_front(a_run / "searches" / "default").list_front()[0].digest
    for arguments in (
        ("export", "--run", a_run, "--arch", digest),
        ("report", "--run", a_run, "--no-baseline"),
    ):
        assert command(*arguments).code == 0
    folders = [a_run, *(path for path in a_run.rglob("*") if path.is_dir())]
    assert len(folders) > 10
    before = contents(a_run)
    for folder in folders:
        (folder / ".partial-file-t0123456789ab").write_text("half")
        (folder / ".partial-file-4711").write_text("half, by a release before")
        (folder / ".partial-folder-t0123456789ab").mkdir()
        (folder / ".partial-folder-t0123456789ab" / "file").write_text("half")
    assert command("evaluate", "--run", a_run, "--arch", digest, "--split", "train").code == 0
    assert not list(a_run.rglob(".partial-*"))
    assert {k: v for k, v in contents(a_run).items() if k != "evaluations.jsonl"} == {
        k: v for k, v in before.items() if k != "evaluations.jsonl"
    }


def test_what_a_killed_export_left_is_removed_by_the_next(command: Command, a_run: Path) -> None:
    digest = read_front(a_run / "searches" / "default").list_front()[0].digest
    (a_run / "exports" / ".partial-another-t0123456789ab").mkdir(parents=True)
    assert command("export", "--run", a_run, "--arch", digest).code == 0
    assert os.listdir(a_run / "exports") == [digest]


def test_a_full_disk_is_no_bug(tmp_path: Path) -> None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
        said = files.explain(OSError(number, os.strerror(number)), tmp_path / "log")
        assert errors.exit_code(said) == errors.BAD_INPUT
        assert str(tmp_path / "log") in errors.sentence(said)


@pytest.mark.slow
def test_two_exports_of_one_network_at_once(a_run: Path) -> None:
    digest = read_front(a_run / "searches" / "default").list_front()[0].digest
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    arguments = ("export", "--run", str(a_run), "--arch", digest)
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "supernet", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(3)
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert os.listdir(a_run / "exports") == [digest]
    assert len(os.listdir(a_run / "exports" / digest)) == 6

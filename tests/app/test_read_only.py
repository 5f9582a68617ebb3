"""What is only read may lie on a read-only disk; what must be written says so in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.records.searches.front import read_front
from app.runs.run_view import load_run
from tests.app.conftest import PROFILE, SEARCH, STEPS, Command, contents

pytestmark = pytest.mark.skipif(os.name != "posix", reason="mounts and modes are POSIX")


@pytest.fixture
def read_only_run(a_run: Path) -> Iterator[Path]:
    """A finished run that nobody can write to, the administrator included."""
    if os.getuid():
        for path in (a_run, *a_run.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        yield a_run
        for path in (a_run, *a_run.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        return
    if subprocess.run(["mount", "--bind", a_run, a_run]).returncode:
        pytest.skip("the administrator may write everywhere, and may not mount anything here")
    subprocess.run(["mount", "-o", "remount,ro,bind", a_run], check=True)
    yield a_run
    subprocess.run(["umount", a_run], check=True)


def test_finished_commands_are_repeated_and_the_run_is_read(
    command: Command, read_only_run: Path, tmp_path: Path
) -> None:
    run, before = read_only_run, contents(read_only_run)
    with pytest.raises(OSError):
        (run / "new").write_text("")
    front = read_front(run / "searches" / "default")
    digest = front.list_front()[0].digest
    for arguments in (
        ("train", "--out", run, *STEPS),
        ("train", "--out", run, "--resume"),
        ("profile", "--run", run, *PROFILE),
        ("search", "--run", run, *SEARCH),
        ("pick", "--run", run, "--knee"),
        ("evaluate", "--run", run, "--arch", digest),
        ("report", "--run", run, "--no-baseline", "--out", tmp_path / "report"),
        ("export", "--run", run, "--arch", digest, "--out", tmp_path / "export"),
    ):
        outcome = command(*arguments)
        assert outcome.code == 0, (arguments, outcome.err)
    searched = command("search", "--run", run, *SEARCH, "--json")
    shown = {point["digest"] for point in json.loads(searched.out)["front"]}
    assert shown == {point.digest for point in front.list_front()}
    assert (tmp_path / "export" / "model.onnx").exists()
    assert (tmp_path / "report" / "report.md").exists()
    assert load_run(run).problems == ()
    assert contents(run) == before


def test_what_must_be_written_says_so(
    refused: Callable[..., str], read_only_run: Path, tmp_path: Path
) -> None:
    run, before = read_only_run, contents(read_only_run)
    for arguments in (
        ("profile", "--run", run, *PROFILE, "--replace"),
        ("search", "--run", run, *SEARCH, "--name", "second"),
        ("search", "--run", run, *SEARCH, "--baseline"),
        ("evaluate", "--run", run, "--arch", "smallest", "--split", "train"),
        ("audit", "--run", run, "--networks", "4"),
        ("report", "--run", run, "--no-baseline"),
        ("export", "--run", run, "--arch", "largest"),
        ("finetune", "--run", run, "--arch", "largest"),
    ):
        assert "cannot be written" in refused(*arguments), arguments
    assert contents(run) == before

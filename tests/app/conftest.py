"""A small finished run shared by the tests of the application, and the command line in process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.app import forked
from tests.toys.shortcuts import take_shortcuts

STEPS = ["--steps", "30", "--batch-size", "64", "--checkpoint-every", "10"]
PROFILE = ["--passes", "2", "--networks", "4"]
# Two more than the first sample, so that a predictor has proposed some of them.
EVALUATIONS = 32
SEARCH = ["--evaluations", str(EVALUATIONS)]
# Where it only matters that there was one: nothing is predicted, and little evaluated.
QUICK_SEARCH = ["--strategy", "random_search", "--evaluations", "6"]


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code and both outputs."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one sentence on standard error; fails the test when there is more or a trace."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in self.err, self.err
        assert len(lines) == 1, self.err
        assert self.err.rstrip().endswith(lines[0]), "the sentence comes last"
        return lines[0].removeprefix("error: ")


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """``command("pick", "--run", path)`` runs the command line in this process."""
    from app.commands.main import run

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def refused(command: Command) -> Callable[..., str]:
    """Run a command that must end with exit code 2 and one sentence; returns the sentence."""

    def call(*arguments: object) -> str:
        outcome = command(*arguments)
        assert outcome.code == 2, outcome
        assert outcome.out == "", "nothing goes to standard output"
        return outcome.error

    return call


@pytest.fixture(scope="session", autouse=True)
def shortcuts() -> Iterator[None]:
    """Commands do not each count the costs of the same network, and draw short curves."""
    with take_shortcuts():
        yield


@pytest.fixture(scope="session")
def finished_run(shortcuts: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for a few steps, profiled and searched; never write to it, copy it."""
    from app.commands.main import run

    path = tmp_path_factory.mktemp("runs") / "finished"
    for arguments in (
        ["train", "--out", str(path), *STEPS],
        ["profile", "--run", str(path), *PROFILE],
        ["search", "--run", str(path), *SEARCH],
    ):
        assert run(arguments) == 0
    return path


@pytest.fixture
def a_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def quick_workers() -> Iterator[None]:
    """Pools of workers fork them from a process that has imported everything."""
    with forked.quick_workers():
        yield


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, to see that nothing was written or lost."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }

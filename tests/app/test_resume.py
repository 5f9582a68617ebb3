"""``kill -9`` at any time, then the same command again: the same final result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from tests.app.conftest import EVALUATIONS, PROFILE, SEARCH, STEPS, Command
from tests.app.forked import start_command

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
ROOT = Path(__file__).parents[2]


class Started(Protocol):
    """A process as far as it matters here."""

    def is_over(self) -> bool: ...

    def kill(self) -> int:
        """Kill it; gives the code that it ended with."""
        ...


class Forked:
    """A command forked from a process that has imported what commands import."""

    def __init__(self, arguments: tuple[str, ...], said: Path) -> None:
        self._process = start_command(arguments, said)

    def is_over(self) -> bool:
        return self._process.exitcode is not None

    def kill(self) -> int:
        self._process.kill()
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


class Typed:
    """A command as users type it, in a new interpreter."""

    def __init__(self, arguments: tuple[str, ...], said: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with said.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "supernet", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=file,
                env=environment,
            )

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> int:
        self._process.send_signal(signal.SIGKILL)
        return self._process.wait()


def kill_when(
    condition: Callable[[], bool],
    *arguments: object,
    start: Callable[[tuple[str, ...], Path], Started] = Forked,
) -> None:
    """Run a command in a process of its own and kill it as soon as the condition holds."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said.txt"
        process = start(tuple(map(str, arguments)), said)
        limit = time.monotonic() + 120
        while not condition():
            assert not process.is_over(), f"ended before the kill: {said.read_text()}"
            assert time.monotonic() < limit, "nothing happened"
            time.sleep(0.002)
        assert process.kill() == -signal.SIGKILL


def lines(path: Path) -> list[str]:
    """Complete lines of a log that may not be there yet."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


@pytest.mark.exactness
def test_training_gives_the_same_weights(
    command: Command, finished_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = run / "checkpoints" / "10" / "state.json"
    kill_when(first.exists, "train", "--out", run, *STEPS, start=Typed)
    assert not (run / "checkpoints" / "30").exists(), "killed in the middle"
    assert json.loads((run / "run.json").read_text())["stages"]["train"]["status"] == "running"
    outcome = command("train", "--out", run, *STEPS, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["resumed_from"] in (10, 20)
    for name in ("weights.safetensors", "optimizer.safetensors"):
        ours = (run / "checkpoints" / "30" / name).read_bytes()
        assert ours == (finished_run / "checkpoints" / "30" / name).read_bytes(), name
    assert not list(run.rglob(".partial-*")), "nothing half-written stays"


def test_resume_alone_takes_everything_from_the_run(
    command: Command, finished_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    kill_when((run / "run.json").exists, "train", "--out", run, *STEPS)
    outcome = command("train", "--out", run, "--resume", "--json")
    assert outcome.code == 0, outcome.err
    name = "checkpoints/30/weights.safetensors"
    assert (run / name).read_bytes() == (finished_run / name).read_bytes()


def test_profiling_keeps_what_was_measured(command: Command, a_run: Path) -> None:
    folder = a_run / "devices" / "cpu"
    shutil.rmtree(folder)
    log = folder / "measurements.jsonl"
    kill_when(lambda: len(lines(log)) >= 2, "profile", "--run", a_run, *PROFILE)
    assert not (folder / "report.json").exists(), "killed in the middle"
    before = lines(log)
    outcome = command("profile", "--run", a_run, *PROFILE, "--json")
    assert outcome.code == 0, outcome.err
    assert lines(log)[: len(before)] == before, "measurements are not repeated"
    assert json.loads(outcome.out)["networks"] == 4


@pytest.mark.exactness
def test_searching_evaluates_the_same_set(command: Command, a_run: Path) -> None:
    log = a_run / "evaluations.jsonl"
    wanted = [json.loads(line) for line in lines(log)]
    front = a_run / "searches" / "default" / "front.json"
    expected = json.loads(front.read_text())
    shutil.rmtree(a_run / "searches")
    log.unlink()
    kill_when(lambda: len(lines(log)) >= 5, "search", "--run", a_run, *SEARCH)
    assert len(lines(log)) < EVALUATIONS, "killed in the middle"
    with log.open("a") as torn:
        torn.write('{"architecture": {"resolu')
    outcome = command("search", "--run", a_run, *SEARCH, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["reused"] >= 5
    found = [json.loads(line) for line in lines(log)]
    keys = ("digest", "split", "value", "checkpoint")
    assert [[r[k] for k in keys] for r in found] == [[r[k] for k in keys] for r in wanted]
    again = json.loads(front.read_text())
    assert [p["digest"] for p in again["points"]] == [p["digest"] for p in expected["points"]]
    assert again["hypervolume"]["searched"] == expected["hypervolume"]["searched"]


def test_a_training_of_an_earlier_release_goes_on(command: Command, tmp_path: Path) -> None:
    text, run = tmp_path / "text.txt", tmp_path / "run"
    text.write_text("a text that says the same again, and " * 200)
    flags = ("--family", "matlm", "--preset", "classic", "--steps", 4, "--checkpoint-every", 2)
    small = ("--context", 8, "--batch-size", 4)
    first = command("train", "--out", run, "--data", f"text:{text}", *flags, *small)
    assert first.code == 0, first.err
    # What is the preset "classic" now was "tiny", and recorded in other words.
    record = json.loads((run / "run.json").read_text())
    config = record["family_config"]
    former = {name: config[name] for name in ("vocabulary", "context", "ffn", "depths", "seed")}
    record["family_config"] = {**former, "width": 64, "heads": 4, "dropout": 0.0}
    record["preset"] = "tiny"
    del record["checksum"]
    record["stages"]["train"]["status"] = "running"
    (run / "run.json").write_text(json.dumps(record))
    expected = (run / "checkpoints" / "4" / "weights.safetensors").read_bytes()
    shutil.rmtree(run / "checkpoints" / "4")
    outcome = command("train", "--out", run, "--resume", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["resumed_from"] == 2
    assert (run / "checkpoints" / "4" / "weights.safetensors").read_bytes() == expected
    again = command("train", "--out", run, "--resume", "--context", 4)
    assert again.code == 2, "a network for other data is another run"
    assert "holds another run" in again.err

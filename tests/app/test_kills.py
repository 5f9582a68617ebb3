"""Commands killed at random times and repeated until they end: the result of undisturbed ones.

    python -m pytest -n 0 -m slow tests/app/test_kills.py

Fifty kills of each of train, profile and search; the default suite makes two of a training. Every
command runs in a process of its own, forked from one that has imported what commands import and
done nothing else: starting Python anew would take longer than most of the commands.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.table import LatencyTable
from tests.app.conftest import EVALUATIONS, PROFILE
from tests.app.forked import start_command

pytestmark = [
    pytest.mark.exactness,
    pytest.mark.skipif(os.name != "posix", reason="signals are POSIX"),
]
TRAIN = ["--steps", "40", "--batch-size", "64", "--checkpoint-every", "5"]
# As many as leave some rounds to predictors, and a few to kill in.
SEARCH = ["--evaluations", str(EVALUATIONS + 6)]
# No run is killed more often than this before it may end.
MOST_KILLS = 4
PATIENCE_SECONDS = 300

Look = Callable[[Path], None]


class Assault:
    """Runs a command again and again, and kills it most times.

    Args:
        folder: Where runs lie.
        prepare: Makes a run to begin with.
        arguments: The command on a run.
        watch: Looks at a run after every kill.
        seed: Draws when to kill.
    """

    def __init__(
        self,
        folder: Path,
        prepare: Callable[[Path], None],
        arguments: Callable[[Path], list[str]],
        watch: Look,
        seed: int,
    ) -> None:
        self._folder, self._prepare = folder, prepare
        self._arguments, self._watch = arguments, watch
        self._rng = random.Random(seed)
        self.kills = 0
        # Twice: the first one of a process server waits for its imports.
        for number in range(2):
            self.undisturbed = folder / f"undisturbed{number}"
            prepare(self.undisturbed)
            began = time.monotonic()
            assert self._run(self.undisturbed, None), "the command does not end"
            self._seconds = time.monotonic() - began

    def until(self, kills: int, compare: Look) -> None:
        """Kill so many times; compare each run that has ended."""
        number = 0
        while self.kills < kills:
            number += 1
            run = self._folder / f"killed{number}"
            self._prepare(run)
            left = self._rng.randint(1, MOST_KILLS)
            while not self._run(run, self._rng.uniform(0, self._seconds) if left else None):
                left -= 1
                self.kills += 1
                self._watch(run)
            left_over = [p for p in run.rglob(".partial-*") if p.parent.name != "checkpoints"]
            assert not left_over, "nothing half-written stays"
            compare(run)
            shutil.rmtree(run)

    def _run(self, run: Path, seconds: float | None) -> bool:
        """Run the command, for so long at most; returns whether it came to its end."""
        said = self._folder / "said.txt"
        process = start_command(tuple(self._arguments(run)), said)
        process.join(PATIENCE_SECONDS if seconds is None else seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            assert seconds is not None, f"no end: {said.read_text()}"
        if process.exitcode == -signal.SIGKILL:
            return False
        assert process.exitcode == 0, said.read_text()
        return True


def nothing(run: Path) -> None:
    """Look at nothing."""


def lines(path: Path) -> list[str]:
    """Complete lines of a log that may not be there yet."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def records(path: Path, *left_out: str) -> list[dict[str, object]]:
    """The records of a log without some of their fields."""
    found = [json.loads(line) for line in lines(path)]
    return [{k: v for k, v in record.items() if k not in left_out} for record in found]


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_a_training_ends_with_the_same_bits(tmp_path: Path, kills: int) -> None:
    assault = Assault(
        tmp_path, lambda run: None, lambda run: ["train", "--out", str(run), *TRAIN], nothing, 1
    )

    def compare(run: Path) -> None:
        for name in ("weights.safetensors", "optimizer.safetensors"):
            ours, theirs = (
                (r / "checkpoints/40" / name).read_bytes() for r in (run, assault.undisturbed)
            )
            assert ours == theirs, name
        ours, theirs = (
            records(r / "metrics.jsonl", "seconds", "samples_per_second", "checksum")
            for r in (run, assault.undisturbed)
        )
        assert ours == theirs
        stage = json.loads((run / "run.json").read_text())["stages"]["train"]
        assert stage["status"] == "complete"

    assault.until(kills, compare)


@pytest.mark.slow
def test_a_profile_keeps_what_was_measured(finished_run: Path, tmp_path: Path) -> None:
    kept: dict[Path, list[str]] = {}

    def prepare(run: Path) -> None:
        shutil.copytree(finished_run, run)
        shutil.rmtree(run / "devices")

    def measured(run: Path) -> list[str]:
        return lines(run / "devices/cpu/measurements.jsonl")

    def watch(run: Path) -> None:
        # A line is appended whole or not at all, and none is ever lost.
        now = measured(run)
        assert now[: len(kept.get(run, []))] == kept.get(run, [])
        kept[run] = now

    assault = Assault(
        tmp_path, prepare, lambda run: ["profile", "--run", str(run), *PROFILE], watch, 2
    )

    def places(run: Path) -> list[int]:
        batches = [json.loads(line).get("visits", []) for line in measured(run)]
        return [place for batch in batches for place, _ in batch]

    def compare(run: Path) -> None:
        before = kept.get(run, [])
        assert measured(run)[: len(before)] == before
        assert places(run) == places(assault.undisturbed), "each visit once, in order"
        ours, theirs = (LatencyTable.load(r / "devices/cpu") for r in (run, assault.undisturbed))
        assert set(ours.rows) == set(theirs.rows)
        assert (ours.report["networks"], ours.note) == (4, theirs.note)

    assault.until(50, compare)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objectives", "workers", "kills"),
    [("accuracy,latency", 1, 25), ("accuracy,macs", 1, 20), ("accuracy,macs", 2, 5)],
)
def test_a_search_ends_with_the_same_front(
    finished_run: Path, tmp_path: Path, objectives: str, workers: int, kills: int
) -> None:
    def prepare(run: Path) -> None:
        shutil.copytree(finished_run, run)
        shutil.rmtree(run / "searches")
        if "latency" not in objectives:
            # Else the front would hold what was measured, which no two searches share.
            shutil.rmtree(run / "devices")
        (run / "evaluations.jsonl").unlink()

    flags = ["--objectives", objectives, "--workers", str(workers), *SEARCH]
    assault = Assault(
        tmp_path, prepare, lambda run: ["search", "--run", str(run), *flags], nothing, 3
    )

    def front(run: Path) -> dict[str, object]:
        found = json.loads((run / "searches/default/front.json").read_text())
        if "latency" not in objectives:
            return dict(found)
        points = {
            p["digest"]: (p["architecture"], p["objectives"]["accuracy"]) for p in found["points"]
        }
        return {"points": points, "hypervolume": found["hypervolume"]["searched"]}

    def compare(run: Path) -> None:
        ours, theirs = (
            records(r / "evaluations.jsonl", "seconds", "at", "checksum")
            for r in (run, assault.undisturbed)
        )
        if workers > 1:
            # They finish in any order, and what is decided on does not depend on it.
            ours, theirs = (sorted(found, key=json.dumps) for found in (ours, theirs))
        assert ours == theirs
        assert front(run) == front(assault.undisturbed)
        ours_csv, theirs_csv = (
            (r / "searches/default/hypervolume.csv").read_text() for r in (run, assault.undisturbed)
        )
        assert ours_csv == theirs_csv
        assert json.loads((run / "searches/default/search.json").read_text())["status"] == (
            "complete"
        )

    assault.until(kills, compare)

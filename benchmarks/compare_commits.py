"""Do two commits give the same weights, the same evaluations and the same fronts at a fixed seed?

Run it: python benchmarks/compare_commits.py OLD NEW

Both commits are checked out beside each other. Each trains supernets of several families and
searches them by several strategies, one thread and one seed; then the newer one reads the runs of
the older one. Latencies are left out, since no two measurements agree. Exit code 1 says that
something differs, and what.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
# Family, preset, recipe and steps: convolutions with each kind of row, operations, a decoder.
TRAININGS = {
    "ofa": ("ofa_mobilenetv3", "tiny", "digits", 60),
    "shrink": ("resnet", "tiny", "digits+progressive", 30),
    "fair": ("spos", "tiny", "digits+fairnas", 20),
    "attentive": ("attentivenas", "tiny", "digits+best_up", 20),
}
STRATEGIES = (
    "predictor_guided",
    "linas",
    "nsga2",
    "aging_evolution",
    "integer_program",
    "optuna_tpe",
)
# What says when or how fast, and what a commit may name differently without another result.
VOLATILE = (
    "seconds",
    "time",
    "at",
    "created",
    "updated",
    "version",
    "format",
    "samples_per_second",
)


def main() -> int:
    """Run both commits, print a line per comparison, and return the exit code."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("old")
    arguments.add_argument("new")
    arguments.add_argument("--evaluations", type=int, default=60)
    arguments.add_argument("--python", default=sys.executable, help="Has the dependencies of both.")
    asked = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        checkout(asked.old, Path(folder) / "old") as old,
        checkout(asked.new, Path(folder) / "new") as new,
    ):
        runs = {}
        for name, code in (("old", old), ("new", new)):
            runs[name] = Path(folder) / f"runs-{name}"
            make_runs(code, runs[name], asked.python, asked.evaluations)
        differences = list(compare_runs(runs["old"], runs["new"]))
        differences += open_older_runs(new, runs["old"], asked.python)
    print(json.dumps({"identical": not differences, "differences": differences}, indent=2))
    return 1 if differences else 0


@contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """A worktree of a commit, for as long as it is needed."""
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    subprocess.run([*git, "add", "-q", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def run_command(code: Path, python: str, command: str) -> subprocess.CompletedProcess[str]:
    """One ``supernet`` command of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    # What `python -m` takes in commits that lack the first.
    name = "supernet" if (code / "supernet" / "__main__.py").exists() else "app"
    return subprocess.run(
        [python, "-m", name, *command.split()],
        cwd=code,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def make_runs(code: Path, runs: Path, python: str, evaluations: int) -> None:
    """Train and search everything with the code of one commit."""
    for name, (family, preset, recipe, steps) in TRAININGS.items():
        run = runs / name
        kind = f"--family {family} --preset {preset} --data digits --recipe {recipe}"
        commands = [f"train {kind} --steps {steps} --seed 3 --out {run}"]
        for strategy in STRATEGIES if name == "ofa" else STRATEGIES[:1]:
            limit = "--limit parameters<=90%" if strategy == "linas" else ""
            commands.append(search_command(run, strategy, evaluations, limit))
        for command in commands:
            finished = run_command(code, python, command)
            if finished.returncode:
                raise SystemExit(f"{command} failed in {code}:\n{finished.stderr}")
            print(f"{code.name}: {command}", file=sys.stderr, flush=True)


def search_command(run: Path, strategy: str, evaluations: int, limit: str = "") -> str:
    """A search by accuracy and multiply-adds under the name of its strategy."""
    return (
        f"search --run {run} --objectives accuracy,macs --strategy {strategy} --name {strategy} "
        f"--evaluations {evaluations} --seed 5 {limit}"
    )


def compare_runs(old: Path, new: Path) -> Iterator[str]:
    """What differs between the runs of two commits, a sentence each."""
    for name in TRAININGS:
        for what, read in (
            ("weights", read_weights),
            ("metrics", read_metrics),
            ("evaluations", read_evaluations),
        ):
            before, after = read(old / name), read(new / name)
            if not before:
                yield f"{name}: no {what} to compare"
            elif before != after:
                yield f"{name}: {what} differ"
            else:
                print(f"{name}: {what} are the same ({len(before)})", file=sys.stderr)
        for search in sorted(path.name for path in (old / name / "searches").iterdir()):
            before, after = (read_front(runs / name, search) for runs in (old, new))
            if before != after:
                yield f"{name}: fronts of search {search} differ"
            else:
                print(f"{name}: fronts of {search} are the same ({len(before)})", file=sys.stderr)


def read_weights(run: Path) -> dict[str, str]:
    """Digests of all weights of all checkpoints."""
    paths = sorted((run / "checkpoints").glob("*/weights.safetensors"))
    return {p.parent.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def read_metrics(run: Path) -> list[Any]:
    """Losses and whatever else was logged, without times."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [drop_volatile(json.loads(line)) for line in lines]


def read_evaluations(run: Path) -> list[Any]:
    """Everything that was evaluated, in order, without times."""
    lines = (run / "evaluations.jsonl").read_text().splitlines()
    kept = ("digest", "objective", "value", "low", "high", "split", "samples")
    return [{key: json.loads(line)[key] for key in kept} for line in lines]


def read_front(run: Path, search: str) -> list[Any]:
    """The points of a front, with everything that is known about them."""
    front = json.loads((run / "searches" / search / "front.json").read_text())
    points: list[Any] = [drop_volatile(point) for point in front["points"]]
    return [*points, front["hypervolume"]]


def drop_volatile(value: Any) -> Any:
    """A JSON value without what differs between any two runs."""
    if isinstance(value, dict):
        return {k: drop_volatile(v) for k, v in value.items() if k not in VOLATILE}
    if isinstance(value, list):
        return [drop_volatile(entry) for entry in value]
    return value


def open_older_runs(code: Path, runs: Path, python: str) -> list[str]:
    """Read, pick from, report on, continue and export runs that another commit made."""
    run = runs / "ofa"
    commands = [
        f"pick --run {run} --knee --search nsga2",
        f"report --run {run} --no-baseline",
        search_command(run, "nsga2", 70),
        f"evaluate --run {run} --arch smallest --split test",
        f"export --run {run} --arch largest",
    ]
    failures = []
    for command in commands:
        finished = run_command(code, python, command)
        if finished.returncode:
            said = finished.stderr.strip().splitlines()[-1:]
            failures.append(f"{command} fails on an older run: {' '.join(said)}")
        else:
            print(f"older run: {command.split()[0]} works", file=sys.stderr)
    return failures


if __name__ == "__main__":
    sys.exit(main())

"""What early exits and cascades add to the front of a search, judged on samples that chose nothing.

    python benchmarks/early_exits.py
    python benchmarks/early_exits.py --run runs/photos --search default

Networks, pairs and thresholds are chosen on the validation split: the points that no other one
beats in accuracy and mean latency there. Printed is the hypervolume of what these points do on the
test split, against the slowest network and the accuracy of the fastest one there: of single
networks, with cascades, and with early exits where the networks have some. Latencies are those of
the search; of early exits, what the latency table gives each part, on the scale of the measured
network. Without ``--run``, a MatViT is trained on the built-in clutter, profiled and searched.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _options import read_options

from app.commands.main import run as run_command
from app.jobs.cascade import add_exits, answer_split, list_members, list_points
from app.jobs.pick import find_front
from app.progress import say_nothing
from app.runs.directory import open_run
from app.runs.trained import open_trained
from search.arrays.pareto import hypervolume
from search.cascades import OperatingPoints, answer_together, list_best
from supernet.errors import InputError

Answers = tuple[NDArray[np.bool_], NDArray[np.float64]]


def make_run(folder: Path, steps: int, evaluations: int, seed: int) -> Path:
    """Train, profile and search a MatViT."""
    path = folder / "run"
    for arguments in (
        ["train", "--out", path, "--family", "matvit", "--data", "clutter", "--steps", steps],
        ["profile", "--run", path],
        ["search", "--run", path, "--evaluations", evaluations],
    ):
        words = [str(word) for word in (*arguments, "--seed", seed, "--quiet")]
        # What commands print is not what is measured here.
        with redirect_stdout(sys.stderr):
            code = run_command(words)
        if code:
            raise SystemExit(f"failed: supernet {' '.join(words)}")
    return path


def judge_points(points: OperatingPoints, test: Answers) -> NDArray[np.float64]:
    """Mean latency and error of operating points on test, ``(k, 2)``."""
    found = []
    for i in range(len(points)):
        pair = [points.small[i], points.large[i]]
        hits, share = answer_together(test[0][pair], test[1][pair[0]], float(points.threshold[i]))
        mean = points.first[i] + share * (points.both[i] - points.first[i])
        found.append((mean, 1 - hits.mean()))
    return np.array(found)


def main() -> int:
    options = read_options(__doc__, run="", search="default", steps=2000, evaluations=60, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = (
            Path(options.run)
            if options.run
            else make_run(Path(folder), options.steps, options.evaluations, options.seed)
        )
        opened = open_run(path)
        front = find_front(opened, options.search)
        trained = open_trained(opened, say_nothing)
        members = list_members(front)
        singles = len(members)
        try:
            members = add_exits(trained, members, front, say_nothing)
        except InputError:
            print("no early exits: no network is the first layers of another", file=sys.stderr)
        val, test = (answer_split(trained, members, s, say_nothing) for s in ("val", "test"))
    every = list_points(val, members)
    alone = every.small == every.large
    plain = (every.small < singles) & (every.large < singles)
    kinds = {"networks": alone, "cascades": plain}
    if len(members) > singles:
        kinds["early exits"] = np.ones(len(every), dtype=bool)
    bests = {name: list_best(every.take(np.flatnonzero(which))) for name, which in kinds.items()}
    tested = {name: judge_points(best, test) for name, best in bests.items()}
    first = tested["networks"]
    # The fastest network is least accurate on val, and not always on test.
    reference = first.max(axis=0) * (1 + 1e-9)
    for name, values in tested.items():
        volume = hypervolume(values, reference)
        best = bests[name]
        print(
            json.dumps(
                {
                    "points": name,
                    "on_front": len(best),
                    "of_two": int((best.small != best.large).sum()),
                    "hypervolume": round(volume, 8),
                    "ratio": round(volume / hypervolume(first, reference), 4),
                    "best_accuracy": round(1 - float(values[:, 1].min()), 4),
                }
            )
        )
    # What parts of the way from the fastest network to the slowest buy.
    low, high = first[:, 0].min(), first[:, 0].max()
    for share in (0.1, 0.25, 0.5, 0.75):
        budget = low + share * (high - low)
        row: dict[str, float] = {"budget_ms": round(float(budget), 4)}
        for name, best in bests.items():
            # Chosen on val, said on test.
            place = int(np.flatnonzero(best.mean <= budget)[-1])
            row[name] = round(1 - float(tested[name][place, 1]), 4)
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())

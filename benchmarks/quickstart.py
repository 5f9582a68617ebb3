"""Wall time, peak memory and the front of ``supernet quickstart`` in a process of its own.

    python benchmarks/quickstart.py --out /somewhere/new --repeat 3
    python benchmarks/quickstart.py --out /somewhere/new --repeat 20 --one-table

For each seed: the share of latency and the points of accuracy that the front spans, how well
validation orders it as test does (Spearman), and whether the accuracy that is stated of the chosen
network holds on test: within its 95 % interval, widened by the error that the test accuracy has
itself. ``--one-table`` takes the latency table of the first seed for all, whose networks are of one
space; wall times then count from training to the front.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.searching.results.final_quality import bound_share
from predictors.scores import spearman
from supernet.quality.sampling_error import Z_TWO_SIDED_95, recover_count


def measure(out: Path, seed: int) -> dict[str, Any]:
    """One quickstart from nothing.

    Returns:
        Wall and processor seconds, peak resident megabytes of the largest process so far, and
        what came out.
    """
    flags = ("quickstart", "--out", str(out), "--seed", str(seed))
    command = [sys.executable, "-m", "supernet", *flags, "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Linux counts in kilobytes, macOS in bytes.
    scale = 1e6 if sys.platform == "darwin" else 1e3
    result = json.loads(done.stdout)
    return {
        "seed": seed,
        "wall_s": round(seconds, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mb": round(after.ru_maxrss / scale),
        "largest": result["ends"]["largest"]["value"],
        "smallest": result["ends"]["smallest"]["value"],
        "table_mape": result["profile"]["mape"],
        "table_tau": result["profile"]["kendall_tau"],
        **judge_front(result["search"]["front"], result["pick"]),
    }


def judge_front(points: list[dict[str, Any]], pick: dict[str, Any]) -> dict[str, Any]:
    """What a front spans, and what is stated of its points against test."""
    latency = np.array([p["objectives"]["latency_ms"]["value"] for p in points])
    known = [p["objectives"]["accuracy"] for p in points]
    stated = np.array([entry["posterior"] for entry in known])
    test = np.array([entry["test"] for entry in known])
    chosen = next(p["objectives"]["accuracy"] for p in points if p["digest"] == pick["digest"])
    return {
        "front": len(points),
        "latency_ratio": round(float(latency.max() / latency.min()), 2),
        "accuracy_points": round(100 * float(np.ptp(stated)), 1),
        "spearman_with_test": round(spearman(stated, test), 3),
        "picked_ms": pick["latency_ms"],
        "picked_stated": chosen["posterior"],
        "picked_on_val": chosen["value"],
        "picked_test": chosen["test"],
        "holds": holds_on_test(chosen),
        "all_hold": round(float(np.mean([holds_on_test(entry) for entry in known])), 3),
    }


def holds_on_test(entry: dict[str, Any]) -> bool:
    """Whether the test accuracy lies where the stated one says, given its own error."""
    stated, test = entry["posterior"], entry["test"]
    half = (entry["posterior_high"] - entry["posterior_low"]) / 2
    count = recover_count(test, entry["test_low"], entry["test_high"])
    error = math.hypot(half / Z_TWO_SIDED_95, math.sqrt(stated * (1 - stated) / count))
    low, high = bound_share(stated, error)
    return bool(low <= test <= high)


def main() -> None:
    """Repeat with different seeds and print one JSON line each, then the bars."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--one-table", action="store_true")
    asked = parser.parse_args()
    base = asked.out or Path(tempfile.mkdtemp(prefix="quickstart-"))
    rows = []
    for seed in range(asked.repeat):
        run = base / str(seed)
        if asked.one_table and seed:
            rows.append(search_with_table(run, base / "0", seed))
        else:
            rows.append(measure(run, seed))
        print(json.dumps(rows[-1]), flush=True)
    wall = statistics.median(row["wall_s"] for row in rows)
    peak = max(row.get("peak_mb", 0) for row in rows)
    held = sum(row["holds"] for row in rows)
    print(
        f"wall {wall:.0f} s (bar 300 s), peak {peak} MB (bar 2000 MB); latency ratio at least "
        f"{min(row['latency_ratio'] for row in rows)} (bar 2), accuracy spans at least "
        f"{min(row['accuracy_points'] for row in rows)} points (bar 8), Spearman at least "
        f"{min(row['spearman_with_test'] for row in rows)} (bar 0.9); what is stated of the chosen "
        f"network holds in {held} of {len(rows)}"
    )
    if asked.out is None:
        shutil.rmtree(base)
    sys.exit(0 if wall <= 300 and peak <= 2000 else 1)


def search_with_table(out: Path, table: Path, seed: int) -> dict[str, Any]:
    """Train, search and pick as quickstart does, with the latency table of another run."""
    from app.jobs.quickstart import choose_budget
    from app.records.searches.front import read_front

    started = time.monotonic()
    call("train", "--out", str(out), "--seed", str(seed), "--data", "clutter")
    shutil.copytree(table / "devices", out / "devices")
    call("search", "--run", str(out), "--seed", str(seed), "--evaluations", "150")
    seconds = time.monotonic() - started
    front = read_front(out / "searches" / "default")
    budget = choose_budget([point for point in front.points if point.on_front])
    pick = json.loads(call("pick", "--run", str(out), "--latency-ms", str(budget), "--json"))
    points = json.loads((out / "searches" / "default" / "front.json").read_text())["points"]
    members = [point for point in points if point["on_front"]]
    return {"seed": seed, "wall_s": round(seconds, 1), **judge_front(members, pick)}


def call(*flags: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "supernet", *flags]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()

"""Wall time and peak memory of ``supernet quickstart`` in a process of its own.

Run it: python benchmarks/quickstart.py --out /somewhere/new [--repeat 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def measure(out: Path, seed: int) -> dict[str, Any]:
    """One quickstart from nothing.

    Returns:
        Wall and processor seconds, peak resident megabytes of the largest process so far, and
        what came out.
    """
    command = [
        sys.executable,
        "-m",
        "supernet",
        "quickstart",
        "--out",
        str(out),
        "--seed",
        str(seed),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=True)
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
        "front": len(result["search"]["front"]),
        "picked_ms": result["pick"]["latency_ms"],
        "picked_test": result["pick"]["test"],
    }


def main() -> None:
    """Repeat with different seeds and print one JSON line each, then the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    asked = parser.parse_args()
    base = asked.out or Path(tempfile.mkdtemp(prefix="quickstart-"))
    rows = []
    for seed in range(asked.repeat):
        rows.append(measure(base / str(seed), seed))
        print(json.dumps(rows[-1]), flush=True)
    wall = statistics.median(row["wall_s"] for row in rows)
    peak = max(row["peak_mb"] for row in rows)
    print(f"wall {wall:.0f} s (bar 300 s), peak {peak} MB (bar 2000 MB)")
    if asked.out is None:
        shutil.rmtree(base)
    sys.exit(0 if wall <= 300 and peak <= 2000 else 1)


if __name__ == "__main__":
    main()

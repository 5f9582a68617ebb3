"""Builds a latency table of a preset on this machine and prints every figure as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hardware.device import Device
from hardware.profile import profile
from supernet.families import ofa_mobilenetv3


def main() -> None:
    """Build, time a query, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="tiny", choices=sorted(ofa_mobilenetv3.PRESETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep the table in this folder")
    arguments = parser.parse_args()

    started = time.monotonic()
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.PRESETS[arguments.preset])
    cost_model = supernet.cost_model()
    counted = time.monotonic() - started
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.out or Path(scratch)
        table = profile(
            cost_model, supernet.graph, Device(threads=arguments.threads),
            folder=folder, seed=arguments.seed, progress=_show,
        )  # fmt: skip
    compiled = table.compile(cost_model)
    positions = cost_model.space.sample(np.random.default_rng(0), 200_000)
    begun = time.process_time()
    compiled.predict(positions)
    rate = len(positions) / (time.process_time() - begun)
    fastest, least = compiled.find_fastest()
    report = {k: v for k, v in table.report.items() if k != "points"}
    print(json.dumps({
        "preset": arguments.preset, "seed": arguments.seed, "space_size": cost_model.space.size,
        "cost_model_seconds": counted, "load_before": load, "load_after": os.getloadavg(),
        "report": report, "calibration": table.calibration.to_json(),
        "predictions_per_second": rate, "fastest_ms": least, "fastest": fastest.digest,
        "reference_us": table.quiet.reference_ns / 1e3,
    }, indent=2))  # fmt: skip


def _show(done: int, planned: int) -> None:
    if done % 100 == 0 or done == planned:
        print(f"\r{done}/{planned} visits", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

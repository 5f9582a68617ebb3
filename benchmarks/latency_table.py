"""Builds a latency table of a preset on this machine and prints every figure as JSON.

    python benchmarks/latency_table.py --preset imagenet
    python benchmarks/latency_table.py --family matlm --preset small --workload prefill:32

A workload is for language models: a prompt of so many tokens, or ``decode:N``, one token after N.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hardware.device import Device
from hardware.profile import profile
from supernet.costs.workloads import parse_workload
from supernet.errors import InputError


def main() -> None:
    """Build, time a query, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--family", default="ofa_mobilenetv3")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--workload", default="", help="prefill:TOKENS or decode:CACHED")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep the table in this folder")
    arguments = parser.parse_args()
    family = importlib.import_module(f"supernet.families.{arguments.family}")
    if arguments.preset not in family.PRESETS:
        parser.error(f"--preset {arguments.preset} must be one of {', '.join(family.PRESETS)}")
    try:
        workload = parse_workload(arguments.workload)
    except InputError as error:
        parser.error(str(error))

    started = time.monotonic()
    supernet = family.build(family.PRESETS[arguments.preset])
    cost_model = supernet.cost_model(workload)
    counted = time.monotonic() - started
    load = os.getloadavg()
    device = Device(threads=arguments.threads, workload=arguments.workload)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.out or Path(scratch)
        table = profile(
            cost_model, lambda one: supernet.graph(one, workload), device,
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
        "family": arguments.family, "preset": arguments.preset, "workload": arguments.workload,
        "seed": arguments.seed, "space_size": cost_model.space.size,
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

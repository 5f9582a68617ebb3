"""Builds a latency table of float and 8-bit units and prints how well it predicts mixed networks.

The figures are those of random mixtures that the calibration has not seen, with the costs of
passing from one precision to the other and, from the same measurements, without them. A killed run
continues where it was when called again with the same --out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from hardware.device import Device
from hardware.profile import Budget, choose_budget, profile
from hardware.table import list_precisions
from supernet.costs.cost_model import CostModel
from supernet.families import ofa_mobilenetv3
from supernet.precision.elastic import make_precision_elastic
from supernet.quantization.formats import parse_policy

PRECISIONS = "fp32,int8"
VALIDATION = 36
"""Of these, a few have one precision alone by chance."""

SPACES = {
    "tiny": ofa_mobilenetv3.PRESETS["tiny"],
    "mobile": replace(
        ofa_mobilenetv3.PRESETS["imagenet"],
        resolutions=(96, 128, 160),
        kernels=(3, 7),
        expands=(3, 6),
        depths=(2, 3),
    ),
}
"""Digits at 8 x 8 pixels, and OFA-MobileNetV3 with fewer values of each choice."""


def main() -> None:
    """Build, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="tiny", choices=sorted(SPACES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes", type=int, help="default: what suits the number of units")
    parser.add_argument("--seconds", type=float, help="no pass is begun that would end later")
    parser.add_argument("--out", type=Path, help="keep the table in this folder")
    arguments = parser.parse_args()

    started = time.monotonic()
    supernet = make_precision_elastic(
        ofa_mobilenetv3.build(SPACES[arguments.space]), parse_policy(PRECISIONS)
    )
    cost_model = supernet.cost_model()
    counted = time.monotonic() - started
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as scratch:
        table = profile(
            cost_model,
            supernet.graph,
            Device(),
            folder=arguments.out or Path(scratch),
            seed=arguments.seed,
            budget=_choose_budget(arguments, cost_model),
            progress=_show,
        )
    print(file=sys.stderr)
    unseen = [point for point in table.report["points"] if not point["calibration"]]
    report = {key: value for key, value in table.report.items() if key != "points"}
    result = {
        "space": arguments.space,
        "seed": arguments.seed,
        "precisions": table.precisions,
        "cost_model_seconds": counted,
        "load_before": load,
        "load_after": os.getloadavg(),
        "mixed_networks": sum(point["borders"] > 1 for point in unseen),
        "borders": sorted(point["borders"] for point in unseen),
        "report": report,
        "calibration": table.calibration.to_json(),
    }
    print(json.dumps(result, indent=2))
    without = report["without_borders"]
    print(
        f"{len(unseen)} unseen networks: error {report['mape']:.1%}, rank correlation "
        f"{report['kendall_tau']:.2f}; without the costs of borders {without['mape']:.1%}, "
        f"{without['kendall_tau']:.2f}; repeating the measurement {report['floor_mape']:.1%}, "
        f"{report['floor_tau']:.2f}",
        file=sys.stderr,
    )


def _choose_budget(arguments: argparse.Namespace, cost_model: CostModel) -> Budget:
    units = cost_model.distinct
    chosen = choose_budget(len(units), len(list_precisions(units)))
    budget = replace(chosen, validation=VALIDATION)
    if arguments.passes is not None:
        budget = replace(budget, passes=arguments.passes)
    if arguments.seconds is not None:
        budget = replace(budget, seconds=arguments.seconds)
    return budget


def _show(done: int, planned: int) -> None:
    if done % 100 == 0 or done == planned:
        print(f"\r{done}/{planned} visits", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""Test accuracy of the largest and smallest digits subnetwork with inherited weights.

    python benchmarks/digits_accuracy.py --seeds 3
    python benchmarks/digits_accuracy.py --seeds 3 --recipe digits+spos+muon

Trains the built-in supernet with its own recipe once per seed, on the built-in data, or with
another at as many forward and backward passes. ``test`` is measured once per network; nothing is
chosen by it.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from supernet.data import DataSource, open_data
from supernet.families import ofa_mobilenetv3
from supernet.quality.evaluate import evaluate
from supernet.supernet import Supernet
from supernet.training import Progress, Recipe, find_recipe, train
from supernet.training.equal_passes import count_passes, fit_to_passes

USUAL = "digits"
BARS = {"largest": 0.98, "smallest": 0.94}


def choose_recipe(name: str, supernet: Supernet, data: DataSource) -> Recipe:
    """The recipe of a name, with as many passes as the usual one has."""
    usual, chosen = find_recipe(USUAL), find_recipe(name, base=USUAL)
    if chosen == usual:
        return usual
    return fit_to_passes(chosen, supernet, data, count_passes(usual, supernet, data))


def run(data: DataSource, seed: int, name: str, verbose: bool) -> dict[str, Any]:
    """Train with one seed and evaluate both ends and ten random subnetworks."""
    config = replace(ofa_mobilenetv3.configure("tiny", data.shape), seed=seed)
    supernet = ofa_mobilenetv3.build(config)
    recipe = replace(choose_recipe(name, supernet, data), seed=seed)

    def show(progress: Progress) -> None:
        print(progress, file=sys.stderr)

    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, data, recipe, Path(folder), progress=show if verbose else None)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    space = supernet.space
    ends = {"largest": space.largest, "smallest": space.smallest}
    sampled = space.decode(space.sample(np.random.default_rng(seed), 10))
    values = [evaluate(supernet, architecture, data, "val") for architecture in sampled]
    return {
        "seed": seed,
        "train_seconds": round(wall, 1),
        "train_cpu_seconds": round(cpu, 1),
        "test": {n: round(evaluate(supernet, a, data, "test").value, 4) for n, a in ends.items()},
        "val": {n: round(evaluate(supernet, a, data, "val").value, 4) for n, a in ends.items()},
        "random_val_mean": round(float(np.mean([e.value for e in values])), 4),
        "random_val_lowest": round(min(e.value for e in values), 4),
        "evaluation_ms": round(1e3 * float(np.median([e.seconds for e in values])), 1),
    }


def main() -> int:
    """Print one JSON object; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", default=USUAL)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="print progress to stderr")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = open_data("digits")
    runs = [run(data, seed, options.recipe, options.verbose) for seed in range(options.seeds)]
    lowest = {name: min(r["test"][name] for r in runs) for name in BARS}
    met = all(lowest[name] >= bar for name, bar in BARS.items())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "recipe": options.recipe,
                "runs": runs,
                "lowest_test": lowest,
                "bars": BARS,
                "met": met,
                "threads": options.threads,
                "peak_memory_mb": round(peak),
            },
            indent=2,
        )
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

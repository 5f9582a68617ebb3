"""What the cluttered digits tell networks of different cost apart by: accuracies and their errors.

    python benchmarks/clutter_accuracy.py --seeds 3
    python benchmarks/clutter_accuracy.py --recipe spos --steps 2800

Trains the supernet that suits the built-in data once per seed and evaluates networks from the
smallest to the largest with inherited weights on ``val`` and on ``test``: how far the ends lie
apart, how well one split orders them as the other does, what the error of an accuracy is when
renderings of one digit count as independent and when they do not, and how much faster the smallest
is (ONNX Runtime, one thread).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _options import read_options

from hardware.campaign import measure_networks
from hardware.device import Device
from predictors.scores import spearman
from supernet.data import DataSource, open_data
from supernet.families import ofa_mobilenetv3
from supernet.quality.audit import measure_quality, sample_across_costs
from supernet.quality.sampling_error import compute_standard_error
from supernet.supernet import Supernet
from supernet.training import find_recipe, train

SPLITS = ("val", "test")


def train_supernet(
    data: DataSource, recipe: str, steps: int, seed: int
) -> tuple[Supernet, dict[str, Any]]:
    """Train with one seed; the second is what it took."""
    config = replace(ofa_mobilenetv3.configure("clutter", data.shape), seed=seed)
    supernet = ofa_mobilenetv3.build(config)
    chosen = find_recipe(recipe, base="clutter").replace({"seed": seed})
    if steps:
        chosen = chosen.replace({"steps": steps})
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, data, chosen, Path(folder))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    taken = {"steps": chosen.steps, "seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)}
    return supernet, taken


def compare(supernet: Supernet, data: DataSource, networks: int, seed: int) -> dict[str, Any]:
    """Evaluate networks across costs on both splits."""
    space, rng = supernet.space, np.random.default_rng(seed)
    chosen = sample_across_costs(space, supernet.cost_model().macs, networks, rng)
    accuracy: dict[str, list[float]] = {name: [] for name in SPLITS}
    errors: dict[str, list[float]] = {"naive": [], "grouped": []}
    for architecture in chosen:
        for name in SPLITS:
            scores = measure_quality(supernet, architecture, data, name)
            accuracy[name].append(float(scores.mean()))
            groups = data.split(name).groups
            errors["naive"].append(compute_standard_error(scores))
            errors["grouped"].append(compute_standard_error(scores, groups))
    # The networks are sorted by cost, and both ends of the space are among them.
    return {
        "smallest": {name: round(accuracy[name][0], 4) for name in SPLITS},
        "largest": {name: round(accuracy[name][-1], 4) for name in SPLITS},
        "spearman": round(spearman(np.array(accuracy["val"]), np.array(accuracy["test"])), 3),
        "error_of_smallest": {kind: round(found[0], 4) for kind, found in errors.items()},
        "error": {kind: round(float(np.mean(found)), 4) for kind, found in errors.items()},
    }


def measure_ratio(supernet: Supernet) -> dict[str, float]:
    """Latency of both ends in milliseconds, and how many times the largest takes."""
    ends = (supernet.space.smallest, supernet.space.largest)
    found = measure_networks([supernet.graph(end) for end in ends], Device(threads=1))
    smallest, largest = (measurement.latency_ms for measurement in found)
    return {
        "smallest": round(smallest, 4),
        "largest": round(largest, 4),
        "ratio": round(largest / smallest, 2),
    }


def main() -> None:
    """Print one JSON object."""
    options = read_options(__doc__, seeds=1, networks=26, recipe="clutter", steps=0)
    torch.set_num_threads(1)
    began = time.perf_counter()
    data = open_data("clutter")
    opened = round(time.perf_counter() - began, 2)
    runs = []
    for seed in range(options.seeds):
        supernet, taken = train_supernet(data, options.recipe, options.steps, seed)
        runs.append({"seed": seed, **taken, **compare(supernet, data, options.networks, seed)})
    print(
        json.dumps(
            {
                "recipe": options.recipe,
                "seconds_to_open": opened,
                "space_size": supernet.space.size,
                "runs": runs,
                "latency_ms": measure_ratio(supernet),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

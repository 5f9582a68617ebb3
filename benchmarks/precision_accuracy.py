"""Accuracy of one network elastic in precision beside networks trained for one precision.

    python benchmarks/precision_accuracy.py --seeds 3
    python benchmarks/precision_accuracy.py --data cifar10 --steps 600 --seeds 3

One architecture, so that precision alone differs; all trainings have the same number of steps, each
of which runs every network of the sandwich. Accuracies are in per cent of the images that no
training saw (validation and test splits together), with weights as they are, after recalibration
and folding. ``--trainings`` picks some: ``float``, ``int8`` and ``w4a8`` are static
networks; ``elastic`` has trained steps and guidance; ``labels`` is the same without guidance,
``minmax`` without trained steps, ``even`` with evenly distributed weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _cifar10 import cifar10

from supernet.data import DataSource, open_data
from supernet.families import resnet
from supernet.precision.elastic import list_precision_choices, make_precision_elastic
from supernet.precision.steps import add_learned_steps
from supernet.quality.evaluate import evaluate
from supernet.quantization.distribution import kurtosis
from supernet.quantization.formats import parse_policy
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import Recipe, find_recipe, train
from supernet.training.standalone import make_standalone, make_standalone_recipe
from supernet.training.weight_distribution import list_quantized_weights

SHEETS = Path(__file__).resolve().parents[2] / "shared" / "data" / "train" / "cifar10"
PRECISIONS = ("w2a8", "w3a8", "w4a8", "int8")
ELASTIC: dict[str, dict[str, Any]] = {
    "elastic": {},
    "labels": {"distill": "none"},
    "minmax": {"quantizer": "minmax"},
    "even": {"weight_distribution": 1.0},
}
STATIC = ("float", "int8", "w4a8")
PASSES = 20


def open_source(name: str) -> DataSource:
    """The built-in digits, or CIFAR-10 at half its side."""
    return open_data("digits") if name == "digits" else cifar10(SHEETS, 16)


def build(data: DataSource, seed: int) -> Supernet:
    """A residual network of one architecture that one processor trains in seconds."""
    small = data.shape.input[0] == 1
    config = resnet.configure("tiny", data.shape)
    widths = ((8,), (16,)) if small else ((16,), (32,), (64,))
    stages = {"widths": widths, "depths": ((1,),) * len(widths)}
    return resnet.build(replace(config, **stages, seed=seed))


def make_recipe(data: DataSource, steps: int, seed: int) -> Recipe:
    """EQ-Net's sandwich and guidance over the optimisation that suits the data."""
    base = find_recipe("digits+eqnet" if data.spec == "digits" else "image+eqnet")
    return base.replace(
        {
            "steps": steps,
            "epochs": None,
            "warmup_steps": steps // 10,
            "weight_distribution": 0.0,
            "ema_decay": 0.99,
            "seed": seed,
            "checkpoint_every": 10**9,
            "log_every": 10**9,
        }
    )


def at(supernet: Supernet, precision: str) -> Architecture:
    """All units at one precision."""
    values = supernet.space.largest.to_dict()
    values |= {c.name: precision for c in list_precision_choices(supernet.space)}
    return supernet.space.architecture(values)


def measure(supernet: Supernet, architecture: Architecture, data: DataSource) -> float:
    """Accuracy in per cent over both held-out splits."""
    runs = [evaluate(supernet, architecture, data, split) for split in ("val", "test")]
    return 100 * sum(r.value * r.samples for r in runs) / sum(r.samples for r in runs)


def run(name: str, data: DataSource, steps: int, seed: int) -> dict[str, Any]:
    """Train once and measure every precision that the training was for."""
    recipe = make_recipe(data, steps, seed)
    plain = build(data, seed)
    supernet = plain
    if name != "float":
        elastic = make_precision_elastic(plain, parse_policy(",".join(PRECISIONS)))
        recipe = recipe.replace(ELASTIC.get(name, {}))
        supernet = add_learned_steps(elastic, data, seed, recipe.quantizer)
    if name in STATIC:
        chosen = plain.space.largest if name == "float" else at(supernet, name)
        supernet = make_standalone(supernet, chosen)
        recipe = make_standalone_recipe(recipe, {}, data.epoch)
    cpu = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, data, recipe, Path(folder))
    cpu = time.process_time() - cpu
    row: dict[str, Any] = {"training": name, "seed": seed, "cpu_seconds": round(cpu, 1)}
    if name in STATIC:
        return row | {"accuracy": {name: measure(supernet, supernet.space.largest, data)}}
    found = {p: measure(supernet, at(supernet, p), data) for p in PRECISIONS}
    weights = list_quantized_weights(supernet)[1:]
    moments = [float(kurtosis(weight.detach())) for weight in weights]
    return row | {"accuracy": found, "kurtosis": float(np.mean(moments))}


def time_passes(data: DataSource, batch: int = 64) -> dict[str, float]:
    """Processor time of a forward and backward pass in milliseconds: one precision, and several."""
    inputs, targets = data.train.batch(slice(0, batch), torch.device("cpu"))

    def make(policy: str) -> tuple[Supernet, list[Architecture]]:
        names = policy.split(",")
        elastic = make_precision_elastic(build(data, 0), parse_policy(policy))
        supernet = add_learned_steps(elastic, data).train()
        return supernet, [at(supernet, name) for name in names]

    sets = {"one": make("int8,fp32"), "several": make(",".join((*PRECISIONS, "fp32")))}
    sets["one"] = (sets["one"][0], sets["one"][1][:1])
    sets["several"] = (sets["several"][0], sets["several"][1][:-1])
    times: dict[str, list[float]] = {name: [] for name in sets}
    for turn in range(PASSES + 3):
        for name, (supernet, architectures) in sets.items():
            for architecture in architectures:
                began = time.process_time()
                F.cross_entropy(supernet(inputs, architecture), targets).backward()
                if turn >= 3:  # the first passes make shells
                    times[name].append(1000 * (time.process_time() - began))
    return {name: float(np.median(values)) for name, values in times.items()}


def summarise(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: mean (and standard deviation over seeds) in per cent."""
    columns = (*PRECISIONS, "float")
    lines = [
        "| training | " + " | ".join(columns) + " | kurtosis | CPU s |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for name in dict.fromkeys(row["training"] for row in rows):
        mine = [row for row in rows if row["training"] == name]
        cells = [name]
        for column in columns:
            values = [r["accuracy"][column] for r in mine if column in r["accuracy"]]
            cells.append(f"{np.mean(values):.1f} ({np.std(values):.1f})" if values else "")
        moments = [row["kurtosis"] for row in mine if "kurtosis" in row]
        cells.append(f"{np.mean(moments):.2f}" if moments else "")
        cells.append(f"{np.mean([row['cpu_seconds'] for row in mine]):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """One JSON line per training as it ends, then a table and the time of passes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", choices=("digits", "cifar10"), default="digits")
    parser.add_argument("--trainings", default=",".join((*STATIC, *ELASTIC)))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON lines; those already there are not repeated")
    options = parser.parse_args()
    if options.data == "cifar10" and not SHEETS.is_dir():
        print(json.dumps({"skipped": f"{SHEETS} is not there"}))
        return 0
    torch.set_num_threads(1)
    data = open_source(options.data)
    rows: list[dict[str, Any]] = []
    if options.out is not None and options.out.exists():
        rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    for seed in range(options.seeds):
        for name in options.trainings.split(","):
            if any(row["training"] == name and row["seed"] == seed for row in rows):
                continue
            rows.append(run(name, data, options.steps, seed))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            if options.out is not None:
                with options.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print(summarise(rows))
    times = time_passes(data)
    print(json.dumps({**times, "ratio": times["several"] / times["one"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

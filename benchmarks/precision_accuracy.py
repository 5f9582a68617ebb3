"""Accuracy of one network elastic in precision beside networks trained for one precision.

    python benchmarks/precision_accuracy.py --seeds 3
    python benchmarks/precision_accuracy.py --data cifar10 --steps 600 --seeds 3

One architecture, so that precision alone differs. A float network is trained; the others go on from
its weights for ``--steps`` at a fifth of its learning rate, elastic ones with every network of the
sandwich in each step. Accuracies are in per cent of the images that no training saw (validation and
test splits together), with weights as they are, after recalibration and folding. ``--trainings``
picks some: ``fp32``, ``int8`` and ``w4a8`` are static networks, ``after`` is the float network
rounded after training; ``elastic`` has trained steps and guidance; ``labels`` is the same without
guidance, ``minmax`` without trained steps, ``dorefa`` with bounded weights and fixed steps,
``even`` with evenly distributed weights, ``narrow`` elastic between 8 and 4 bits alone. The column
``float`` is the network that all others start from, and ``fp32`` what it becomes when it is trained
on for as long as they are.
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
    "dorefa": {"quantizer": "dorefa"},
    "even": {"weight_distribution": 1.0},
    "narrow": {},
}
OTHER_PRECISIONS = {"narrow": ("w4a8", "int8"), "fp32": ("int8", "fp32")}
STATIC = ("fp32", "int8", "w4a8")
AFTER = "after"
FLOAT_STEPS, SLOWER = 300, 0.2
PASSES = 20


def open_source(name: str) -> DataSource:
    """The built-in digits, or CIFAR-10 at half its side."""
    return open_data("digits") if name == "digits" else cifar10(SHEETS, 16)


def build(data: DataSource, seed: int) -> Supernet:
    """A residual network of one architecture that one processor trains in seconds."""
    small = data.shape.input[0] == 1
    config = resnet.configure("tiny", data.shape)
    widths = ((16,), (32,)) if small else ((16,), (32,), (64,))
    stages = {"stem_width": 16, "widths": widths, "depths": ((1,),) * len(widths)}
    return resnet.build(replace(config, **stages, seed=seed))


def make_recipe(data: DataSource, steps: int, seed: int) -> Recipe:
    """EQ-Net's sandwich and guidance over the optimisation that suits the data."""
    base = find_recipe("digits+eqnet+sgd" if data.spec == "digits" else "image+eqnet")
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


def train_float(
    data: DataSource, steps: int, seed: int
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights of the float network that all others start from, and its row."""
    supernet, recipe = build(data, seed), make_recipe(data, steps, seed)
    cpu = _train(supernet, data, make_standalone_recipe(recipe, {}, data.epoch))
    found = {"float": measure(supernet, supernet.space.largest, data)}
    row = {"training": "float", "seed": seed, "cpu_seconds": cpu, "accuracy": found}
    return dict(supernet.state_dict()), row


def run(
    name: str, weights: dict[str, torch.Tensor], data: DataSource, steps: int, seed: int
) -> dict[str, Any]:
    """Train once from the float network's weights and measure the precisions it was for."""
    recipe = make_recipe(data, steps, seed)
    recipe = recipe.replace(
        {"learning_rate": SLOWER * recipe.learning_rate, **ELASTIC.get(name, {})}
    )
    plain = build(data, seed)
    plain.load_state_dict(weights)
    precisions = OTHER_PRECISIONS.get(name, PRECISIONS)
    supernet = make_precision_elastic(plain, parse_policy(",".join(precisions)))
    if name != AFTER:
        supernet = add_learned_steps(supernet, data, seed, recipe.quantizer)
    row: dict[str, Any] = {"training": name, "seed": seed, "cpu_seconds": 0.0}
    if name in STATIC:
        supernet = make_standalone(supernet, at(supernet, name))
        alone = make_standalone_recipe(recipe, {}, data.epoch)
        row["cpu_seconds"] = _train(supernet, data, alone)
        return row | {"accuracy": {name: measure(supernet, supernet.space.largest, data)}}
    if name != AFTER:
        row["cpu_seconds"] = _train(supernet, data, recipe)
    found = {p: measure(supernet, at(supernet, p), data) for p in precisions}
    weights_of_layers = list_quantized_weights(supernet)[1:]
    moments = [float(kurtosis(weight.detach())) for weight in weights_of_layers]
    return row | {"accuracy": found, "kurtosis": float(np.mean(moments))}


def _train(supernet: Supernet, data: DataSource, recipe: Recipe) -> float:
    """Train, and return the processor's seconds."""
    cpu = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, data, recipe, Path(folder))
    return round(time.process_time() - cpu, 1)


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


def note(row: dict[str, Any], rows: list[dict[str, Any]], out: Path | None) -> None:
    """Keep a row, and show it."""
    rows.append(row)
    print(json.dumps(row), file=sys.stderr, flush=True)
    if out is not None:
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def summarise(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: mean (and standard deviation over seeds) in per cent."""
    columns = (*PRECISIONS, "float", "fp32")
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
    parser.add_argument("--trainings", default=",".join((*STATIC, AFTER, *ELASTIC)))
    parser.add_argument("--float-steps", type=int, default=FLOAT_STEPS)
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
        done = {row["training"] for row in rows if row["seed"] == seed}
        names = [name for name in options.trainings.split(",") if name not in done]
        if not names:
            continue
        weights, row = train_float(data, options.float_steps, seed)
        if "float" not in done:
            note(row, rows, options.out)
        for name in names:
            note(run(name, weights, data, options.steps, seed), rows, options.out)
    print(summarise(rows))
    times = time_passes(data)
    print(json.dumps({**times, "ratio": times["several"] / times["one"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

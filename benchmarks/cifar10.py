"""Test accuracy on CIFAR-10 of the largest, median and smallest subnetwork, weights inherited.

    python benchmarks/cifar10.py --out runs/cifar10 --minutes 9        # again until it is done
    python benchmarks/cifar10.py --out runs/cifar10-reduced --reduced  # half an hour on two cores

Trains one OFA-MobileNetV3 supernet at 32 pixels. A call ends after ``--minutes`` with exit code 3,
and the same call continues. ``test`` is measured once per network, and nothing is chosen by it;
the median is, of 200 random architectures, the one whose multiply-accumulates are in the middle.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _cifar10 import cifar10

from supernet.data import DataSource
from supernet.families import ofa_mobilenetv3
from supernet.files import write_json
from supernet.quality.evaluate import evaluate
from supernet.space import Architecture, SearchSpace
from supernet.supernet import Supernet
from supernet.training import Progress, Recipe, find_recipe, train

SHEETS = Path(__file__).resolve().parents[2] / "shared" / "data" / "train" / "cifar10"
UNFINISHED = 3
LOG_EVERY = 10
# A network that two processor cores can train: few channels, and small maps from the start.
REDUCED_STRIDES = (2, 2, 1, 2, 1)


class OutOfTimeError(Exception):
    """Raised between two steps to end a part."""


def configuration(data: DataSource, reduced: bool) -> ofa_mobilenetv3.Config:
    """The supernet: the preset for small images, or one of half its width and depth."""
    config = ofa_mobilenetv3.configure("small-image", data.shape)
    if not reduced:
        return config
    stages = zip(config.stages, REDUCED_STRIDES, strict=True)
    return replace(
        config,
        width_multiplier=0.5,
        kernels=(3, 5),
        expands=(2, 3, 4),
        depths=(1, 2),
        stages=tuple(replace(stage, stride=stride) for stage, stride in stages),
    )


def training_recipe(options: argparse.Namespace, reduced: bool) -> Recipe:
    """In-place distillation with the sandwich rule; shorter for the reduced network."""
    changes: dict[str, Any] = {"epochs": 60, "learning_rate": 0.2, "batch_size": 256}
    if reduced:
        changes |= {"epochs": 5, "learning_rate": 0.15, "batch_size": 128, "ema_decay": 0.99}
    given = {"epochs": options.epochs, "batch_size": options.batch, "precision": options.precision}
    changes |= {name: value for name, value in given.items() if value is not None}
    if options.steps is not None:
        changes |= {"steps": options.steps, "epochs": None}
    base = find_recipe("image")
    warmup = 200 if options.steps is None else options.steps // 4
    return replace(
        base, warmup_steps=warmup, checkpoint_every=100, log_every=LOG_EVERY, seed=options.seed,
        **changes,
    )  # fmt: skip


def median(space: SearchSpace, supernet: Supernet, seed: int) -> Architecture:
    """Of 200 random architectures, the one in the middle by multiply-accumulates."""
    positions = space.canonical(space.sample(np.random.default_rng([seed, 200]), 200))
    order = np.argsort(supernet.cost_model().macs(positions), kind="stable")
    return space.decode(positions[order[len(order) // 2]][None])[0]


def report(supernet: Supernet, data: DataSource, seed: int) -> dict[str, Any]:
    """Inherited accuracy of three networks, after recalibration."""
    space = supernet.space
    networks = {
        "largest": space.largest,
        "median": median(space, supernet, seed),
        "smallest": space.smallest,
    }
    rows = {}
    for name, architecture in networks.items():
        rows[name] = {
            "macs": supernet.macs(architecture),
            "parameters": supernet.parameter_count(architecture),
            "val": round(evaluate(supernet, architecture, data, "val").value, 4),
            "test": round(evaluate(supernet, architecture, data, "test").value, 4),
        }
        print(f"{name}: {rows[name]}", file=sys.stderr, flush=True)
    return rows


def run(options: argparse.Namespace, data: DataSource) -> dict[str, Any]:
    """Train to the end, or until the part's time is over (:class:`OutOfTimeError`)."""
    began = time.monotonic()
    config = replace(configuration(data, options.reduced), seed=options.seed)
    supernet = ofa_mobilenetv3.build(config).to(torch.device(options.device))
    recipe = training_recipe(options, options.reduced)
    seconds, first = 60 * options.minutes, 0

    def show(progress: Progress) -> None:
        nonlocal first
        print(progress, file=sys.stderr, flush=True)
        first = first or progress.step
        # The step before the last report wrote a checkpoint, so next to nothing is lost.
        saved = progress.step > first and (progress.step - LOG_EVERY) % recipe.checkpoint_every == 0
        if saved and time.monotonic() - began > seconds and progress.step < progress.steps:
            raise OutOfTimeError

    result = train(supernet, data, recipe, options.out, progress=show)
    return {
        "networks": report(supernet, data, options.seed),
        "steps": result.steps,
        "recipe": asdict(recipe),
        "reduced": options.reduced,
        "device": options.device,
        "seed": options.seed,
    }


def main() -> int:
    """Print one JSON object and keep it in the run; exit code 3 when a later call must go on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="run directory; resumed if there")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="length of a part")
    parser.add_argument("--reduced", action="store_true", help="half an hour on two CPU cores")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", choices=("fp32", "bf16", "auto"))
    parser.add_argument("--threads", type=int, help="of torch [its own choice]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=SHEETS, help="folder of the sheets")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if not options.data.is_dir():
        print(json.dumps({"skipped": f"{options.data} is not there; give --data"}))
        return 0
    try:
        result = run(options, cifar10(options.data))
    except OutOfTimeError:
        print(json.dumps({"unfinished": "run the same command again to continue"}))
        return UNFINISHED
    write_json(options.out / "result.json", result)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

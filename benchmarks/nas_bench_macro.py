"""How well one trained supernet ranks the networks of NAS-Bench-Macro, trained alone by others.

    python benchmarks/nas_bench_macro.py --out runs/macro --recipe spos --epochs 20

Trains the family once on CIFAR-10, then evaluates paths with inherited weights and recalibrated
statistics on test images and compares with the published accuracies. Killed, it continues where it
stopped. Validation images decide nothing here; the published figures are test accuracies, so test
images are what the ranking is about.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _cifar10 import cifar10
from _inherited import inherited

from predictors.scores import kendall_tau, sparse_kendall_tau, spearman
from supernet.data import DataSource
from supernet.families import nas_bench_macro
from supernet.files import append_record, read_json, read_records, write_json
from supernet.supernet import Supernet
from supernet.training import Progress, Recipe, find_recipe, train

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TOP_SHARE, SLICES, BIN = 0.1, 5, 0.1


@dataclass(frozen=True)
class Truth:
    """The published table; row ``i`` of every array is one network."""

    positions: np.ndarray
    accuracy: np.ndarray
    flops: np.ndarray
    parameters: np.ndarray
    seeds: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Arrays of ``nas_bench_macro.npz``; accuracy in per cent, the mean of three seeds."""
        table = np.load(path)
        seeds = table["test_acc"].astype(np.float64)
        return cls(table["arch"], seeds.mean(1), table["flops"], table["params"], seeds)


def chosen_networks(truth: Truth, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to evaluate: a random sample of all, and one of the true top tenth.

    Both hold all there are when ``count`` says so; the second has a quarter of ``count``.
    """
    order = np.random.default_rng(seed).permutation(len(truth.accuracy))
    top = order[truth.accuracy[order] >= np.quantile(truth.accuracy, 1 - TOP_SHARE)]
    return order[:count], top[: max(2, count // 4)]


def summary(
    truth: Truth, found: Mapping[int, tuple[float, float]], sample: np.ndarray, top: np.ndarray
) -> dict[str, Any]:
    """Rank correlations of inherited accuracy, inherited loss, FLOPs and parameters with truth."""
    accuracy = np.full(len(truth.accuracy), np.nan)
    loss = accuracy.copy()
    for row, (a, b) in found.items():
        accuracy[row], loss[row] = a, b
    scores = {
        "accuracy": accuracy,
        "loss": -loss,
        "flops": truth.flops.astype(np.float64),
        "params": truth.parameters.astype(np.float64),
    }
    edges = np.quantile(truth.flops[sample], np.linspace(0, 1, SLICES + 1)[1:-1])
    slices = np.searchsorted(edges, truth.flops[sample], side="right")
    evaluated = np.array(sorted(found))
    best = evaluated[np.argsort(-accuracy[evaluated], kind="stable")]
    return {
        "networks": len(sample),
        "networks_of_top": len(top),
        "tau": {
            n: _round(kendall_tau(s[sample], truth.accuracy[sample])) for n, s in scores.items()
        },
        "tau_sparse_0.1": {
            n: _round(sparse_kendall_tau(s[sample], truth.accuracy[sample], BIN))
            for n, s in scores.items()
        },
        "spearman": {
            n: _round(spearman(s[sample], truth.accuracy[sample])) for n, s in scores.items()
        },
        "tau_top_tenth": {
            n: _round(kendall_tau(s[top], truth.accuracy[top])) for n, s in scores.items()
        },
        "tau_in_flops_slices": {
            n: [
                _round(kendall_tau(s[sample][slices == i], truth.accuracy[sample][slices == i]))
                for i in range(SLICES)
            ]
            for n, s in scores.items()
        },
        "seed_to_seed_tau": _round(kendall_tau(truth.seeds[sample, 0], truth.seeds[sample, 1])),
        "inherited_percent": {
            "mean": _round(100 * np.nanmean(accuracy[sample])),
            "highest": _round(100 * float(np.nanmax(accuracy))),
        },
        "true_percent": {
            "of_the_inherited_best": _round(truth.accuracy[best[0]]),
            "best_of_inherited_top_10": _round(truth.accuracy[best[:10]].max()),
            "mean_of_inherited_top_10": _round(truth.accuracy[best[:10]].mean()),
            "of_most_flops": _round(truth.accuracy[np.argmax(truth.flops)]),
            "optimum": _round(truth.accuracy.max()),
        },
    }


def _round(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def make(options: argparse.Namespace) -> tuple[DataSource, Supernet, Recipe]:
    """Data, a fresh supernet and its recipe."""
    data = cifar10(options.data, options.image_size)
    config = replace(nas_bench_macro.configure("cifar", data.shape), seed=options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    supernet = nas_bench_macro.build(config).to(device)
    changes: dict[str, Any] = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "seed": options.seed,
    }
    for change in options.set:
        name, _, value = change.partition("=")
        changes[name] = _value(value)
    return data, supernet, find_recipe(options.recipe, "image").replace(changes)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def evaluate_all(
    options: argparse.Namespace, supernet: Supernet, data: DataSource, truth: Truth, step: int
) -> dict[str, Any]:
    """Evaluate what is still missing, then compare with the truth."""
    settings = {
        "step": step,
        "images": options.eval_images,
        "calibration": options.calibration_images,
    }
    log = options.out / "evaluations.jsonl"
    if log.exists() and read_json(options.out / "evaluations.json") != settings:
        raise ValueError(f"{log} was made with other settings; delete it, or choose another --out")
    write_json(options.out / "evaluations.json", settings)
    sample, top = chosen_networks(truth, options.networks, options.seed)
    wanted = np.union1d(sample, top)
    known = {int(row): (a, b) for row, a, b in read_records(log)}
    missing = np.array([row for row in wanted if int(row) not in known], dtype=np.int64)
    began = time.perf_counter()
    walk = inherited(
        supernet,
        truth.positions[missing],
        data,
        "test",
        options.eval_images,
        options.calibration_images,
    )
    for count, (index, accuracy, loss) in enumerate(walk, start=1):
        row = int(missing[index])
        known[row] = (accuracy, loss)
        append_record(log, [row, round(accuracy, 6), round(loss, 6)])
        if count % 100 == 0:
            rate = (time.perf_counter() - began) / count
            print(f"{count}/{len(missing)} networks, {rate:.2f} s each", file=sys.stderr)
    result = summary(truth, {int(r): known[int(r)] for r in wanted}, sample, top)
    result["evaluation_seconds"] = round(time.perf_counter() - began, 1)
    return result


def throughput(
    supernet: Supernet, data: DataSource, recipe: Recipe, folder: Path
) -> dict[str, Any]:
    """Images per second of training steps, after warm-up."""
    times = []

    def note(progress: Progress) -> None:
        times.append((progress.step, time.perf_counter()))

    short = recipe.replace({"epochs": None, "steps": 24, "log_every": 8, "checkpoint_every": 24})
    train(supernet, data, short, folder, progress=note)
    (first, start), (last, end) = times[0], times[1]
    return {
        "images_per_second": round((last - first) * recipe.batch_size / (end - start), 1),
        "image_size": data.shape.input[1],
        "batch_size": recipe.batch_size,
        "architectures_per_step": recipe.random_architectures,
        "threads": torch.get_num_threads(),
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="run directory; resumed if there")
    parser.add_argument("--data", type=Path, default=SHARED / "train" / "cifar10")
    parser.add_argument("--truth", type=Path, default=SHARED / "bench" / "nas_bench_macro.npz")
    parser.add_argument("--recipe", default="spos", help="strategy, or strategies joined by +")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", type=int, default=3**8, help="how many to evaluate")
    parser.add_argument("--eval-images", type=int, default=2000)
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--throughput", action="store_true", help="measure a few steps and stop")
    return parser.parse_args()


def main() -> int:
    """Print one JSON object."""
    options = parse()
    torch.set_num_threads(options.threads)
    data, supernet, recipe = make(options)
    if options.throughput:
        print(json.dumps(throughput(supernet, data, recipe, options.out), indent=2))
        return 0
    done = train(supernet, data, recipe, options.out, progress=lambda p: print(p, file=sys.stderr))
    result: dict[str, Any] = {
        "recipe": recipe.to_json(),
        "image_size": options.image_size,
        "steps": done.steps,
        "train_seconds_of_this_call": round(done.seconds, 1),
    }
    if not options.train_only:
        truth = Truth.read(options.truth)
        result |= evaluate_all(options, supernet, data, truth, done.steps)
        write_json(options.out / "ranking.json", result)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

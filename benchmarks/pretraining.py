"""How many labels free statistics and earlier runs save: pretraining and transfer, measured.

    python benchmarks/pretraining.py --seeds 5

Kendall tau on unseen architectures. Pretraining: the perceptron first regresses statistics that
cost nothing (multiply-accumulates and parameters; device latencies; operations on the ways through
a cell) and is then fine-tuned on 50 or 100 accuracies, beside the same perceptron without, and
with the statistics as features instead. Transfer: 30 labels of a task or device, with an earlier
run on another one, and with an earlier run about nothing.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import _flexibert
from _options import read_options
from _published import cell_statistics, nasbench201, ofa_table

import predictors
from predictors.models import mlp
from predictors.networks.ranking_losses import logistic
from predictors.predictor import Fit
from predictors.research.pretraining import pretrain
from predictors.scores import kendall_tau
from predictors.transfer import transfer
from supernet.space import SearchSpace

LABELS = (50, 100)
UNSEEN = 1500
TASKS = (("mnli", "sst"), ("mnli", "qnli"), ("qnli", "mrpc"), ("mnli", "rte"))
DEVICES = (("1080ti_1", "pixel2"), ("gold_6226", "samsung_s7"), ("1080ti_1", "gold_6226"))
TRANSFER_LABELS, EARLIER = 30, 300


def scores(
    space: SearchSpace,
    rows: NDArray,
    values: NDArray,
    fits: Mapping[str, Fit],
    labels: int,
    seeds: int,
    apart: int = 0,
) -> dict[str, list[float]]:
    """Mean and standard deviation of tau over seeds; the first ``apart`` rows are not used."""
    found: dict[str, list[float]] = {name: [] for name in fits}
    for seed in range(seeds):
        order = apart + np.random.default_rng(seed).permutation(len(rows) - apart)
        known, unseen = order[:labels], order[labels:][:UNSEEN]
        for name, fit in fits.items():
            model = fit(space, rows[known], values[known], seed=seed)
            found[name].append(kendall_tau(model.mean(rows[unseen]), values[unseen]))
    return {n: [round(float(f(t)), 3) for f in (np.mean, np.std)] for n, t in found.items()}


def compared(
    space: SearchSpace,
    rows: NDArray,
    values: NDArray,
    statistics: Mapping[str, Callable[[NDArray], NDArray]],
    seeds: int,
) -> dict[str, Any]:
    """Every variant at every number of labels, and the error of the pretraining itself."""
    ranking = functools.partial(mlp.fit, loss=logistic)
    fits: dict[str, Fit] = {"perceptron": mlp.fit, "perceptron, ranking loss": ranking}
    output: dict[str, Any] = {"pretraining_error": {}}
    for name, source in statistics.items():
        start = pretrain(space, source, seed=0)
        output["pretraining_error"][name] = round(float(np.sqrt((start.error**2).mean())), 3)
        fits[f"{name} as features"] = functools.partial(mlp.fit, statistics=source)
        fits[f"pretrained on {name}"] = start.prepare_fit()
        fits[f"pretrained on {name}, ranking loss"] = start.prepare_fit(loss=logistic)
        fits[f"pretrained on {name}, and as features"] = functools.partial(
            start.prepare_fit(), statistics=source
        )
    for labels in LABELS:
        output[str(labels)] = scores(space, rows, values, fits, labels, seeds)
    return output


def on_ofa(seeds: int) -> dict[str, Any] | None:
    """Accuracies of released OFA subnetworks; MACs and parameters of any architecture."""
    data = ofa_table()
    if data is None:
        return None
    rows, first = np.unique(data.rows, axis=0, return_index=True)
    measured = np.stack((data.macs[first], data.params[first] / 1e6), axis=1)

    def blocks(positions: NDArray) -> NDArray:
        # Both are sums over (block, kernel, expand): solved from the published rows, they are
        # known for the random architectures of the pretraining too.
        active = data.space.active(positions)
        code = positions[:, :20] * 3 + positions[:, 20:40]
        pairs = np.eye(9)[code] * active[:, :20, None]
        return np.concatenate((pairs.reshape(len(positions), -1), np.ones((len(positions), 1))), 1)

    weights, *_ = np.linalg.lstsq(blocks(rows), measured, rcond=None)
    error = np.abs(blocks(rows) @ weights - measured).max(axis=0)
    found = compared(
        data.space,
        rows,
        data.top1[first],
        {"MACs and parameters": lambda positions: blocks(positions) @ weights},
        seeds,
    )
    return {**found, "worst_error_of_statistics_in_millions": [float(f"{e:.2g}") for e in error]}


def on_nasbench201(seeds: int) -> dict[str, Any] | None:
    """Accuracies of cells; latencies on 18 devices, and what lies on the ways through a cell."""
    data = nasbench201()
    if data is None:
        return None
    rows = np.stack(np.unravel_index(np.arange(len(data.accuracy)), (5,) * 6), 1).astype(np.int16)

    def latencies(positions: NDArray) -> NDArray:
        return np.log(data.latency_ms[data.index(positions)])

    def both(positions: NDArray) -> NDArray:
        return np.concatenate((latencies(positions), cell_statistics(positions)), axis=1)

    statistics = {"latencies": latencies, "latencies and operations": both}
    return compared(data.space, rows, data.accuracy, statistics, seeds)


def with_earlier(space: SearchSpace, rows: NDArray, values: NDArray) -> dict[str, Fit]:
    """No earlier run, the given one, and one of the same architectures with random values."""
    noise = np.random.default_rng(0).normal(size=len(rows))
    return {
        "alone": predictors.fit,
        "earlier run": transfer(predictors.fit, rows, values),
        "earlier run about nothing": transfer(predictors.fit, rows, noise),
    }


def transfers(seeds: int) -> dict[str, Any]:
    """Language tasks and devices; rows of the earlier run take no part in the later one."""
    output: dict[str, Any] = {}
    tasks = _flexibert.load()
    if tasks is not None:
        order = np.random.default_rng(0).permutation(len(tasks.rows))
        rows, apart = tasks.rows[order], len(order) // 2
        for source, target in TASKS:
            fits = with_earlier(tasks.space, rows[:apart], tasks.task(source)[order][:apart])
            output[f"{source} to {target}"] = scores(
                tasks.space, rows, tasks.task(target)[order], fits, TRANSFER_LABELS, seeds, apart
            )
    cells = nasbench201()
    if cells is not None:
        order = np.random.default_rng(0).permutation(len(cells.accuracy))
        rows = np.stack(np.unravel_index(order, (5,) * 6), 1).astype(np.int16)
        for source, target in DEVICES:
            old, new = (
                cells.latency_ms[order, cells.devices.index(name)] for name in (source, target)
            )
            fits = with_earlier(cells.space, rows[:EARLIER], old[:EARLIER])
            output[f"{source} to {target}"] = scores(
                cells.space, rows, new, fits, TRANSFER_LABELS, seeds, EARLIER
            )
    return output


def main() -> int:
    """Print one JSON object."""
    arguments = read_options(__doc__, seeds=5, parts="ofa,nasbench201,transfer")
    parts = {"ofa": on_ofa, "nasbench201": on_nasbench201, "transfer": transfers}
    start = time.process_time()
    output: dict[str, Any] = {"seeds": arguments.seeds, "tau": "mean, standard deviation"}
    for name in arguments.parts.split(","):
        found = parts[name](arguments.seeds)
        output[name] = found or {"skipped": "shared data not found; set SUPERNET_SHARED_DATA"}
    output["cpu_seconds"] = round(time.process_time() - start, 1)
    print(json.dumps(output))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Rank correlation, interval coverage and speed of the predictors on published measurements."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _published import Rows, Values, cell_statistics, hw_gpt, nasbench201, ofa_table, table
from synthetic_ofa import load_objective, ofa_space
from threadpoolctl import ThreadpoolController

import predictors
from predictors import Statistics, predict_interval
from predictors.scores import kendall_tau
from supernet.space import Choice, SearchSpace

SIZES = (50, 100, 250, 500)
MODELS = ("ridge", "gaussian_process", "support_vector", "ensemble", "gradient_boosting", "choice")
_MOST_TESTED = 2500


@dataclass(frozen=True)
class Table:
    """Values of distinct architectures, and what is free to know about them.

    Args:
        space: The search space.
        rows: ``(n, len(space))``.
        values: ``(n,)``.
        statistics: Of any of the rows, or ``None``.
    """

    space: SearchSpace
    rows: Rows
    values: Values
    statistics: Statistics | None = None


def lookup(rows: Rows, numbers: NDArray[np.float64]) -> Statistics:
    """Known numbers ``(n, k)`` of rows as a function of rows."""
    place = {row.tobytes(): i for i, row in enumerate(rows)}
    return lambda wanted: numbers[[place[row.tobytes()] for row in wanted]]


def ofa() -> Table | None:
    """Top-1 of released OFA-MobileNetV3 subnetworks, repeats averaged; MACs and weights free."""
    data = ofa_table()
    if data is None:
        return None
    rows, inverse = np.unique(data.rows, axis=0, return_inverse=True)
    counts = np.bincount(inverse.ravel())
    top1, macs, weights = (
        np.bincount(inverse.ravel(), column) / counts
        for column in (data.top1, data.macs, data.params)
    )
    free = np.log(np.stack((macs, weights), axis=1))
    return Table(data.space, rows, top1, lookup(rows, free))


def other_tables() -> Iterator[tuple[str, Table]]:
    """Accuracy and latency of quite different spaces; those whose data is absent are left out."""
    cells = nasbench201()
    if cells is not None:
        grid = np.stack(np.unravel_index(np.arange(15625), (5,) * 6), axis=1).astype(np.int16)
        yield "nasbench201 accuracy", Table(cells.space, grid, cells.accuracy, cell_statistics)
        yield (
            f"nasbench201 latency {cells.devices[0]}",
            Table(cells.space, grid, cells.latency_ms[:, 0], cell_statistics),
        )
    macro = table("nas_bench_macro.npz")
    if macro is not None:
        space = SearchSpace(
            tuple(Choice(f"layer{i}", ("identity", "e3k3", "e6k5"), "operation") for i in range(8))
        )
        rows = macro["arch"].astype(np.int16)
        free = np.log(np.stack((macro["flops"], macro["params"]), axis=1).astype(np.float64))
        accuracy = macro["test_acc"].astype(np.float64).mean(axis=1)
        yield "nas_bench_macro accuracy", Table(space, rows, accuracy, lookup(rows, free))
    gpt = hw_gpt()
    if gpt is not None:
        free = np.log(gpt.params)[:, None]
        yield (
            "hw_gpt perplexity",
            Table(gpt.space, gpt.rows, gpt.perplexity, lookup(gpt.rows, free)),
        )
    fbnet = table("fbnet_latency.npz")
    if fbnet is not None:
        space = SearchSpace(
            tuple(Choice(f"layer{i}", tuple(range(9)), "operation") for i in range(22))
        )
        column = fbnet["latency_ms"][:, 0].astype(np.float64)
        name = f"fbnet latency {fbnet['devices'][0]}"
        yield name, Table(space, fbnet["arch"].astype(np.int16), column)
    synthetic = load_objective()
    if synthetic is not None:
        space = ofa_space()
        rows = space.sample(np.random.default_rng(3), 3000)
        yield "synthetic_ofa accuracy", Table(space, rows, synthetic.evaluate(rows)[0])


def method(name: str) -> Callable[..., predictors.Predictor]:
    """A model's ``fit`` by module name; ``choice`` is the automatic one."""
    if name == "choice":
        return predictors.fit
    found: Callable[..., predictors.Predictor] = importlib.import_module(
        f"predictors.models.{name}"
    ).fit
    return found


def scores(data: Table, name: str, size: int, seeds: int, statistics: bool) -> dict[str, float]:
    """Held-out tau (mean and lowest), coverage of 90 % intervals and seconds of a fit."""
    fit = method(name)
    taus, covered, seconds = [], [], []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(data.rows))
        part, rest = order[:size], order[size : size + _MOST_TESTED]
        free = data.statistics if statistics else None
        start = time.process_time()
        model = fit(data.space, data.rows[part], data.values[part], seed=seed, statistics=free)
        seconds.append(time.process_time() - start)
        taus.append(kendall_tau(model.mean(data.rows[rest]), data.values[rest]))
        low, high = predict_interval(model, data.rows[rest])
        inside = (low <= data.values[rest]) & (data.values[rest] <= high)
        covered.append(float(inside.mean()))
    return {
        "tau": round(float(np.mean(taus)), 4),
        "tau_min": round(float(np.min(taus)), 4),
        "coverage": round(float(np.mean(covered)), 3),
        "fit_s": round(float(np.median(seconds)), 3),
    }


def compared(data: Table, names: list[str], sizes: list[int], seeds: int) -> dict[str, Any]:
    """Scores by model, by use of statistics and by sample size."""
    result: dict[str, Any] = {}
    for name in names:
        for label, used in (("", False), (" + statistics", True)):
            if used and data.statistics is None:
                continue
            result[name + label] = {
                str(size): scores(data, name, size, seeds, used) for size in sizes
            }
    return result


def speed(data: Table, sizes: list[int]) -> dict[str, int]:
    """Architectures a second through ``mean`` of the default process, in batches of 1,000."""
    rows = data.space.sample(np.random.default_rng(0), 50_000)
    result = {}
    for size in sizes:
        part = np.random.default_rng(1).permutation(len(data.rows))[:size]
        model = predictors.fit(data.space, data.rows[part], data.values[part], seed=0)
        model.mean(rows[:1000])
        start = time.process_time()
        for first in range(0, len(rows), 1000):
            model.mean(rows[first : first + 1000])
        result[str(size)] = int(len(rows) / (time.process_time() - start))
    return result


def main() -> int:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--tables", action="store_true", help="the other tables as well")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    names = arguments.models.split(",")
    output: dict[str, Any] = {"seeds": arguments.seeds, "threads": 1}
    with ThreadpoolController().limit(limits=1):
        data = ofa()
        if data is None:
            output["skipped"] = "ofa_mbv3_imagenet_accuracy.npz not found; set SUPERNET_SHARED_DATA"
        else:
            output["distinct"] = len(data.rows)
            output["ofa_imagenet"] = compared(data, names, sizes, arguments.seeds)
            output["mean_per_second"] = speed(data, sizes)
        if arguments.tables:
            output["tables"] = {
                name: compared(other, names, sizes, arguments.seeds)
                for name, other in other_tables()
            }
    print(json.dumps(output, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

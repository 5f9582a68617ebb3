"""Perplexity, latency and energy of HW-GPT-Bench: three objectives, all unknown until evaluated."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import Any

import numpy as np
from _options import read_options, report_missing
from _peers import optuna_search, pymoo_nsga2
from _published import HwGpt, Rows, Values, hw_gpt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict

from predictors import fit, one_hot
from search import Objective, SearchProblem, Strategy, search
from search.arrays.pareto import choose_by_hypervolume, hypervolume, nondominated
from search.strategies import predictor_guided, random_search

BUDGETS = (50, 100, 150, 200)
# A server GPU, a consumer GPU and a processor (whose own energy was not published), each the one of
# its kind whose measurements scatter least.
DEVICES = {
    "H100": ("h100", "h100"),
    "RTX 3080": ("rtx3080", "rtx3080"),
    "Helix CPU, P100 energy": ("helix_cpu", "P100"),
}


def problem(data: HwGpt, device: str) -> SearchProblem:
    """Three objectives over the 10,000 published rows."""
    latency, energy = DEVICES[device]
    columns = (
        ("perplexity", "perplexity", data.perplexity, "evaluated"),
        ("latency_ms", "ms", data.latency_ms[latency], "measured"),
        ("energy_kwh", "kWh", data.energy_kwh[energy], "measured"),
    )
    objectives = tuple(
        Objective(name, unit, "minimize", data.lookup(column), source)
        for name, unit, column, source in columns
    )
    return SearchProblem(data.space, objectives, pool=data.rows)


def free_statistics(data: HwGpt) -> Any:
    """Log parameters, which cost nothing to count, ``(n, 1)``."""
    count = data.lookup(np.log(data.params))
    return lambda rows: count(rows)[:, None]


def shares(points: Values, whole: Values, budgets: list[int]) -> list[float]:
    """Share of the hypervolume of all rows after each budget; the worst values are the reference.

    Every objective is scaled to the range of the rows, so that none vanishes in rounding.
    """
    low, high = whole.min(0), whole.max(0)
    exact = hypervolume((whole[nondominated(whole)] - low) / (high - low), np.ones(3))
    scaled = (points - low) / (high - low)
    return [hypervolume(scaled[:budget], np.ones(3)) / exact for budget in budgets]


def run_ours(task: SearchProblem, strategy: Strategy, evaluations: int, seed: int) -> Values:
    """Objectives ``(n, 3)``, to be minimised, of a strategy of this project."""
    found = search(task, strategy, evaluations=evaluations, seed=seed, chunk=10_000)
    return task.minimised(found.history.values)


def informed(task: SearchProblem, evaluations: int, seed: int) -> Values:
    """What noise leaves to be had: picks of boosted trees, each row predicted from 8,000 others."""
    assert task.pool is not None
    features, whole = one_hot(task.space, task.pool), _every(task, task.pool)
    folds = KFold(5, shuffle=True, random_state=seed)
    trees = HistGradientBoostingRegressor(max_iter=200, random_state=seed)
    low, high = whole.min(0), whole.max(0)
    guess = np.stack([cross_val_predict(trees, features, column, cv=folds)
                      for column in ((whole - low) / (high - low)).T], axis=1)  # fmt: skip
    chosen = choose_by_hypervolume(guess[:0], guess, np.full(3, 1.1), evaluations)
    return whole[chosen]


def main() -> int:
    """Run every method on three devices and print one JSON object."""
    arguments = read_options(
        __doc__, seeds=5, evaluations=200, methods="ours,NSGA-II (pymoo),TPE (Optuna),random,trees"
    )
    data = hw_gpt()
    if data is None:
        return report_missing()
    guided = predictor_guided.build(partial(fit, statistics=free_statistics(data)))
    methods: dict[str, Any] = {
        "ours": lambda task, n, seed: run_ours(task, guided, n, seed),
        "NSGA-II (pymoo)": pymoo_nsga2,
        "TPE (Optuna)": lambda task, n, seed: optuna_search(task, n, seed, "tpe"),
        "trees": informed,
        "random": lambda task, n, seed: run_ours(task, random_search.build(), n, seed),
    }
    budgets = [budget for budget in BUDGETS if budget <= arguments.evaluations]
    output: dict[str, Any] = {"devices": list(DEVICES), "seeds": arguments.seeds}
    for name in arguments.methods.split(","):
        start = time.process_time()
        table = []
        for device in DEVICES:
            task = problem(data, device)
            whole = _every(task, data.rows)
            runs = (methods[name](task, arguments.evaluations, s) for s in range(arguments.seeds))
            table.append([shares(points, whole, budgets) for points in runs])
        found = np.array(table)
        output[name] = {
            "mean": {b: round(float(found[..., i].mean()), 4) for i, b in enumerate(budgets)},
            "worst": {b: round(float(found[..., i].min()), 4) for i, b in enumerate(budgets)},
            "by_device": dict(
                zip(DEVICES, np.round(found[..., -1].mean(1), 4).tolist(), strict=True)
            ),
            "cpu_seconds": round((time.process_time() - start) / found[..., 0].size, 2),
        }
        print(json.dumps({name: output[name]}), file=sys.stderr, flush=True)
    print(json.dumps(output))
    return 0


def _every(task: SearchProblem, rows: Rows) -> Values:
    return np.stack([objective.evaluate(rows) for objective in task.objectives], axis=1)


if __name__ == "__main__":
    sys.exit(main())

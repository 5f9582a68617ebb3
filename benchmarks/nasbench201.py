"""Accuracy against latency of NAS-Bench-201 on real devices; both unknown until evaluated."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from _curves import over_seeds
from _options import read_options, report_missing
from _peers import optuna_search, pymoo_nsga2
from _published import Nasbench201, Values, cell_statistics, nasbench201

from predictors import fit
from search import Objective, SearchProblem, search
from search.arrays.pareto import hypervolume, nondominated
from search.strategies import random_search
from search.strategies.predictor_guided import PredictorGuided

BUDGETS = (50, 100, 150, 200)
# Six choices: fits take milliseconds, so that rounds can stay small.
ROUND = 6


def problem(data: Nasbench201, device: str) -> SearchProblem:
    """Accuracy in percent against the latency of one device, both evaluated."""
    latency = data.latency_ms[:, data.devices.index(device)]
    return SearchProblem(
        data.space,
        (
            Objective("accuracy", "percent", "maximize", data.lookup(data.accuracy), "evaluated"),
            Objective("latency_ms", "ms", "minimize", data.lookup(latency), "measured"),
        ),
    )


def exact(data: Nasbench201, device: str) -> tuple[Values, float]:
    """The reference, 10 % and the slowest latency, and the hypervolume of all 15,625 cells."""
    latency = data.latency_ms[:, data.devices.index(device)]
    points = np.stack((-data.accuracy, latency), 1)
    reference = np.array([-10.0, latency.max()])
    return reference, hypervolume(points, reference)


def trace(points: Values, reference: Values) -> Values:
    """Hypervolume after 1, 2, ... of the points ``(n, 2)``, to be minimised; ``(n,)``."""
    found, front = [], points[:0]
    for point in points:
        front = np.concatenate((front, point[None]))
        front = front[nondominated(front)]
        found.append(hypervolume(front, reference))
    return np.array(found)


Method = Callable[[SearchProblem, int, int], Values]


def ours(strategy: Any) -> Method:
    """A strategy of this project as a function of (problem, evaluations, seed)."""

    def run(task: SearchProblem, evaluations: int, seed: int) -> Values:
        found = search(task, strategy, evaluations=evaluations, seed=seed, chunk=10_000)
        return task.minimised(found.history.values)

    return run


METHODS: dict[str, Method] = {
    "ours": ours(PredictorGuided(partial(fit, statistics=cell_statistics), batch=ROUND)),
    "ours (genes alone)": ours(PredictorGuided(fit, batch=ROUND)),
    "NSGA-II (pymoo)": pymoo_nsga2,
    "TPE (Optuna)": lambda task, n, seed: optuna_search(task, n, seed, "tpe"),
    "random": ours(random_search.build()),
}


def main() -> int:
    """Run every method on every device and print one JSON object."""
    arguments = read_options(
        __doc__,
        seeds=5,
        evaluations=200,
        methods="ours,ours (genes alone),NSGA-II (pymoo),TPE (Optuna),random",
        devices="",
    )
    data = nasbench201()
    if data is None:
        return report_missing()
    devices = [name for name in arguments.devices.split(",") if name] or list(data.devices)
    output: dict[str, Any] = {"devices": len(devices), "seeds": arguments.seeds}
    for name in arguments.methods.split(","):
        start = time.process_time()
        shares = [
            _shares(METHODS[name], data, device, arguments.evaluations, arguments.seeds)
            for device in devices
        ]
        table = np.stack(shares)
        seconds = (time.process_time() - start) / len(devices) / arguments.seeds
        budgets = [b for b in BUDGETS if b <= arguments.evaluations]
        output[name] = {
            "mean": {b: round(float(table[..., b - 1].mean()), 5) for b in budgets},
            "worst_device_and_seed": {b: round(float(table[..., b - 1].min()), 5) for b in budgets},
            "worst_device": devices[int(table[..., budgets[-1] - 1].min(1).argmin())],
            "cpu_seconds": round(seconds, 2),
        }
        print(json.dumps({name: output[name]}), file=sys.stderr, flush=True)
    print(json.dumps(output))
    return 0


def _shares(method: Method, data: Nasbench201, device: str, most: int, seeds: int) -> Values:
    """Share of the exact hypervolume after each evaluation, ``(seeds, evaluations)``."""
    task, (reference, whole) = problem(data, device), exact(data, device)
    return over_seeds(lambda n, seed: trace(method(task, n, seed), reference), most, seeds) / whole


if __name__ == "__main__":
    sys.exit(main())

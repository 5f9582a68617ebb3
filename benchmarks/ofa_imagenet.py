"""How few evaluations find the front of Once-for-All on ImageNet, beside published searches."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _curves import Curve, draw, over_seeds
from _published import OfaTable, Rows, Values, ofa_macs, ofa_table
from sklearn.model_selection import KFold
from sklearn.svm import SVR

from predictors import fit, one_hot
from predictors.scores import kendall_tau, rmse
from search import Objective, SearchProblem, search
from search.arrays.pareto import hypervolume
from search.engines.array_nsga2 import evolve
from search.strategies import nsga2, predictor_guided, random_search

REFERENCE = np.array([-70.0, 520.0])  # 70 % top-1 and 520 million MACs, to be minimised
BUDGETS = (50, 100, 250, 500)
PUBLISHED = {"LINAS (published)": "linasnsga2_acc_macs", "NSGA-II (published)": "evonsga2_acc_macs"}


class Truth:
    """Accuracy in percent of any subnetwork: support-vector regression on every published row."""

    def __init__(self, data: OfaTable) -> None:
        rows, accuracy, _ = data.distinct()
        self.space, self.level, self.scale = data.space, accuracy.mean(), accuracy.std()
        features, targets = one_hot(self.space, rows), (accuracy - self.level) / self.scale
        held_out = np.empty(len(rows))
        for known, unseen in KFold(5, shuffle=True, random_state=0).split(features):
            machine = _machine().fit(features[known], targets[known])
            held_out[unseen] = machine.predict(features[unseen])
        self.tau = kendall_tau(held_out, targets)
        self.rmse = rmse(held_out, targets) * self.scale
        self._machine = _machine().fit(features, targets)

    def __call__(self, rows: Rows) -> Values:
        """Percent, ``(n,)``."""
        found: Values = self._machine.predict(one_hot(self.space, rows))
        return found * self.scale + self.level


def _machine() -> SVR:
    return SVR(C=30.0, gamma=0.01, epsilon=0.02)


def problem(data: OfaTable, truth: Truth, *, macs_known: bool) -> SearchProblem:
    """Accuracy in percent against millions of MACs."""
    terms = ofa_macs(data)
    return SearchProblem(
        data.space,
        (
            Objective("accuracy", "percent", "maximize", truth, "evaluated"),
            Objective(
                "macs",
                "million",
                "minimize",
                terms,
                "analytic" if macs_known else "measured",
                additive=terms,
            ),
        ),
    )


def ideal(task: SearchProblem, seed: int = 0) -> float:
    """Hypervolume of NSGA-II with 60,000 evaluations of the ground truth."""
    rng = np.random.default_rng(seed)

    def score(rows: Rows) -> tuple[Values, Values]:
        columns = [objective.evaluate(rows) * objective.sign for objective in task.objectives]
        return np.stack(columns, 1), np.zeros((len(rows), 0))

    seeds = np.unique(task.space.sample(rng, 200), axis=0)
    found = evolve(task.space, score, seeds, population=200, generations=299, rng=rng)
    return hypervolume(found.objectives, REFERENCE)


def trace(points: Values) -> Values:
    """Hypervolume after 1, 2, ... of the points ``(n, 2)``, to be minimised; ``(n,)``."""
    return np.array([hypervolume(points[: i + 1], REFERENCE) for i in range(len(points))])


def published(data: OfaTable) -> dict[str, Values]:
    """Hypervolume after each measured evaluation of the published searches."""
    points = np.stack((-data.top1, data.macs), 1)
    return {name: trace(points[data.run == run]) for name, run in PUBLISHED.items()}


def methods(data: OfaTable, truth: Truth, tpe: bool) -> dict[str, Callable[[int, int], Values]]:
    """Functions of (evaluations, seed) that give a hypervolume trace."""
    known = problem(data, truth, macs_known=True)
    unknown = problem(data, truth, macs_known=False)
    guided, plain, floor = predictor_guided.build(fit), nsga2.build(), random_search.build()

    def run(task: SearchProblem, strategy: Any) -> Callable[[int, int], Values]:
        def one(evaluations: int, seed: int) -> Values:
            found = search(task, strategy, evaluations=evaluations, seed=seed, chunk=10_000)
            return trace(task.minimised(found.history.values))

        return one

    found = {
        "ours": run(known, guided),
        "ours (MACs unknown)": run(unknown, guided),
        "NSGA-II": run(unknown, plain),
        "random": run(unknown, floor),
    }
    if tpe:
        from _peers import optuna_search

        found["Optuna TPE"] = lambda evaluations, seed: trace(
            optuna_search(unknown, evaluations, seed, "tpe")
        )
    return found


def main() -> int:
    """Run the searches, print one JSON object and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=500)
    parser.add_argument("--only", default="")
    parser.add_argument("--figure", type=Path, default=None)
    arguments = parser.parse_args()
    data = ofa_table()
    if data is None:
        print(json.dumps({"skipped": "no shared data; set SUPERNET_SHARED_DATA"}))
        return 0
    truth = Truth(data)
    best = ideal(problem(data, truth, macs_known=True))
    before = published(data)
    goal = float(before["LINAS (published)"][-1])
    output: dict[str, Any] = {
        "truth": {"tau": round(truth.tau, 4), "rmse": round(truth.rmse, 4)},
        "ideal": round(best, 1),
        "published": {name: _row(curve, best, goal) for name, curve in before.items()},
    }
    curves = [Curve(name, curve[None]) for name, curve in before.items()]
    wanted = [part for part in arguments.only.split(",") if part]
    for name, method in methods(data, truth, tpe=True).items():
        if wanted and name not in wanted:
            continue
        start = time.process_time()
        traces = over_seeds(method, arguments.evaluations, arguments.seeds)
        seconds = (time.process_time() - start) / arguments.seeds
        output[name] = {
            **_row(traces, best, goal),
            "cpu_seconds": round(seconds, 1),
        }
        print(json.dumps({name: output[name]}), file=sys.stderr, flush=True)
        curves.append(Curve(name, traces))
    if arguments.figure is not None:
        draw(arguments.figure, curves, "evaluations", "hypervolume (M MACs x points)", best)
    print(json.dumps(output))
    return 0


def _row(traces: Values, best: float, goal: float) -> dict[str, Any]:
    table = np.atleast_2d(traces)
    reached = [int(np.argmax(row >= goal)) + 1 if row.max() >= goal else None for row in table]
    budgets = [budget for budget in BUDGETS if budget <= table.shape[1]]
    return {
        "hypervolume": {b: round(float(table[:, b - 1].mean()), 1) for b in budgets},
        "share_of_ideal": {b: round(float(table[:, b - 1].mean()) / best, 4) for b in budgets},
        "worst_share": {b: round(float(table[:, b - 1].min()) / best, 4) for b in budgets},
        "evaluations_to_published_linas": reached,
    }


if __name__ == "__main__":
    sys.exit(main())

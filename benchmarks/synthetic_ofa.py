"""Hypervolume on a synthetic 45-choice objective, against published figures of other tools."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from predictors import fit
from search import Objective, SearchProblem, Strategy, search
from search.strategies import nsga2, predictor_guided, random_search
from supernet.space import Choice, SearchSpace

BEST_KNOWN = 245.9
BUDGETS = (250, 500, 1000)


def ofa_space() -> SearchSpace:
    """45 choices of three values: kernel and expand ratio of 20 blocks, depth of 5 stages."""
    depth = [Choice(f"stage{s}.depth", (2, 3, 4), "depth") for s in range(5)]

    def block(name: str, values: tuple[int, ...], kind: str) -> list[Choice]:
        needs = [None if b < 2 else b + 1 for b in range(4)]
        return [
            Choice(
                f"stage{s}.block{b}.{name}",
                values,
                kind,
                None if needs[b] is None else (f"stage{s}.depth", needs[b] or 0),
            )
            for s in range(5)
            for b in range(4)
        ]

    return SearchSpace(
        (*block("kernel", (3, 5, 7), "kernel"), *block("expand", (3, 4, 6), "expand"), *depth)
    )


def load_objective() -> ModuleType | None:
    """The objective's module from the shared data folder, or ``None`` where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("SUPERNET_SHARED_DATA", beside))
    for path in (folder / "synthetic_ofa.py", folder / "data" / "synthetic_ofa.py"):
        if path.is_file():
            spec = importlib.util.spec_from_file_location("synthetic_ofa", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return None


def problem_of(module: ModuleType, *, latency_known: bool) -> SearchProblem:
    """Accuracy in percent against latency in milliseconds."""
    source = "table" if latency_known else "measured"
    return SearchProblem(
        ofa_space(),
        (
            Objective(
                "accuracy", "percent", "maximize", lambda x: module.evaluate(x)[0], "evaluated"
            ),
            Objective("latency_ms", "ms", "minimize", lambda x: module.evaluate(x)[1], source),
        ),
    )


def shares(
    module: ModuleType, strategy: Strategy, seed: int, latency_known: bool, most: int
) -> Any:
    """Share of the best-known hypervolume at each budget, and processor seconds of the run."""
    problem = problem_of(module, latency_known=latency_known)
    start = time.process_time()
    result = search(problem, strategy, evaluations=most, seed=seed, chunk=10_000)
    seconds = time.process_time() - start
    values = result.history.values
    found = [module.hv(*values[:budget].T) / BEST_KNOWN for budget in BUDGETS if budget <= most]
    return found, seconds


def peer_shares(module: ModuleType, peer: Any, seed: int, most: int) -> Any:
    """The same of another optimiser, a function of (problem, evaluations, seed)."""
    problem = problem_of(module, latency_known=False)
    start = time.process_time()
    values = problem.natural(peer(problem, most, seed))
    seconds = time.process_time() - start
    found = [module.hv(*values[:budget].T) / BEST_KNOWN for budget in BUDGETS if budget <= most]
    return found, seconds


def peers() -> dict[str, Any]:
    """pymoo's and Optuna's optimisers; they evaluate both objectives."""
    from _peers import optuna_search, pymoo_nsga2

    return {
        "pymoo_nsga2": pymoo_nsga2,
        "optuna_nsga2": lambda task, n, seed: optuna_search(task, n, seed, "nsga2"),
        "optuna_tpe": lambda task, n, seed: optuna_search(task, n, seed, "tpe"),
    }


def main() -> int:
    """Run the chosen rows and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument(
        "--rows",
        default="known,unknown,nsga2,random,pymoo_nsga2,optuna_nsga2,optuna_tpe",
        help="these, or the name of a strategy (both objectives evaluated)",
    )
    arguments = parser.parse_args()
    module = load_objective()
    if module is None:
        print(json.dumps({"skipped": "synthetic_ofa.py not found; set SUPERNET_SHARED_DATA"}))
        return 0
    guided, plain, floor = predictor_guided.build(fit), nsga2.build(), random_search.build()
    rows = {
        "known": (guided, True),
        "unknown": (guided, False),
        "nsga2": (plain, False),
        "random": (floor, False),
    }
    output: dict[str, Any] = {"best_known_hypervolume": BEST_KNOWN, "budgets": BUDGETS}
    others = peers()
    for name in arguments.rows.split(","):
        runs = []
        for seed in range(arguments.seeds):
            if name in others:
                runs.append(peer_shares(module, others[name], seed, arguments.evaluations))
                continue
            if name not in rows:
                rows[name] = (import_module(f"search.strategies.{name}").build(fit), False)
            runs.append(shares(module, rows[name][0], seed, rows[name][1], arguments.evaluations))
        columns = list(zip(*(found for found, _ in runs), strict=True))
        output[name] = {
            "mean": [round(statistics.mean(c), 4) for c in columns],
            "min": [round(min(c), 4) for c in columns],
            "max": [round(max(c), 4) for c in columns],
            "seconds": [round(s, 2) for _, s in runs],
        }
        print(json.dumps({name: output[name]}), file=sys.stderr, flush=True)
    print(json.dumps(output))
    return 0


if __name__ == "__main__":
    sys.exit(main())

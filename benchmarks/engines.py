"""Hypervolume and seconds of every engine, alone and inside ``predictor_guided``."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from synthetic_ofa import BEST_KNOWN, load_objective, problem_of

from predictors import fit
from search import search
from search.engines.choice import ENGINES, Engine, find_engine
from search.strategies import predictor_guided


def evolved(module: ModuleType, engine: Engine, seed: int, generations: int) -> tuple[float, float]:
    """Share of the best-known hypervolume, and processor seconds, of an evolution on true values.

    The budget of one round of ``predictor_guided`` is a population of 100 and ten generations.
    """
    problem = problem_of(module, latency_known=False)

    def score(rows: NDArray[np.int16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        values = np.stack([q.evaluate(rows) for q in problem.quantities], axis=1)
        return problem.minimised(values), np.zeros((len(rows), 0))

    rng = np.random.default_rng(seed)
    seeds = problem.space.sample(rng, 100)
    start = time.process_time()
    found = engine(problem.space, score, seeds, population=100, generations=generations, rng=rng)
    seconds = time.process_time() - start
    return module.hv(*problem.natural(found.objectives).T) / BEST_KNOWN, seconds


def searched(
    module: ModuleType, engine: Engine, seed: int, evaluations: int
) -> tuple[float, float]:
    """The same of a search that evolves on predictions with the engine; both are evaluated."""
    problem = problem_of(module, latency_known=False)
    strategy = predictor_guided.build(fit, engine=engine)
    start = time.process_time()
    values = search(problem, strategy, evaluations=evaluations, seed=seed).history.values
    return module.hv(*values.T) / BEST_KNOWN, time.process_time() - start


def main() -> int:
    """Run every engine and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--evaluations", type=int, default=250)
    parser.add_argument("--generations", type=int, default=100, help="of the evolution alone")
    parser.add_argument("--engines", default=",".join(ENGINES))
    arguments = parser.parse_args()
    module = load_objective()
    if module is None:
        print(json.dumps({"skipped": "synthetic_ofa.py not found; set SUPERNET_SHARED_DATA"}))
        return 0
    output = {}
    for name in arguments.engines.split(","):
        engine = find_engine(name)
        with ThreadpoolController().limit(limits=1, user_api="blas"):
            # What is compiled at first use does not count.
            evolved(module, engine, 0, 2)
            runs = {
                "evolution": [
                    evolved(module, engine, seed, arguments.generations)
                    for seed in range(arguments.seeds)
                ],
                "search": [
                    searched(module, engine, seed, arguments.evaluations)
                    for seed in range(arguments.seeds)
                ],
            }
        output[name] = {
            what: {
                "hypervolume": round(statistics.mean(volume for volume, _ in found), 4),
                "seconds": round(statistics.mean(seconds for _, seconds in found), 2),
            }
            for what, found in runs.items()
        }
        print(json.dumps({name: output[name]}), file=sys.stderr, flush=True)
    print(json.dumps(output))
    return 0


if __name__ == "__main__":
    sys.exit(main())

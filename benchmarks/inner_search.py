"""Architectures scored a second by the inner search: table latency, predictor and evolution."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from synthetic_ofa import ofa_space

from hardware.compiled_table import CompiledTable
from predictors import fit
from search.engines.array_nsga2 import evolve
from supernet.space import SearchSpace

BAR = 200_000


def table(space: SearchSpace, seed: int) -> CompiledTable:
    """A latency table of the shape of OFA's: one unit a block, decided by three choices."""
    rng = np.random.default_rng(seed)
    columns, strides, tables = [], [], []
    for block in range(20):
        stage, within = divmod(block, 4)
        depth = [] if within < 2 else [space.index(f"stage{stage}.depth")]
        own = (*depth, block, 20 + block)
        columns.append(own)
        strides.append(tuple(3 ** (len(own) - 1 - i) for i in range(len(own))))
        tables.append(rng.gamma(2.0, 0.5, 3 ** len(own)))
    names = tuple(f"block{i}" for i in range(20))
    return CompiledTable(space, names, tuple(columns), tuple(strides), tuple(tables), 1.0)


def main() -> int:
    """Score random populations, then run whole evolutions, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=250, help="evaluations behind the predictor")
    parser.add_argument("--count", type=int, default=200_000)
    arguments = parser.parse_args()
    space, rng = ofa_space(), np.random.default_rng(0)
    latency = table(space, 0)
    known = space.sample(rng, arguments.rows)
    accuracy = 0.8 - 0.2 * np.exp(-latency.predict(known) / 30) + rng.normal(0, 1e-3, len(known))
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        model = fit(space, known, accuracy, seed=0)
        output: dict[str, Any] = {"evaluations": arguments.rows, "bar_per_second": BAR}
        output["scoring_per_second"] = _rate(
            lambda rows: (latency.predict(rows), model.mean(rows)),
            space.sample(rng, arguments.count),
        )
        output["evolution_per_second"] = _evolution(space, latency, model)
    for part in ("scoring", "evolution"):
        output[f"{part}_met"] = output[f"{part}_per_second"] >= BAR
    print(json.dumps(output))
    return 0


def _rate(score: Any, rows: NDArray[np.int16]) -> int:
    """Rows a processor second, in populations of 4,096."""
    score(rows[:4096])
    start = time.process_time()
    for first in range(0, len(rows), 4096):
        score(rows[first : first + 4096])
    return round(len(rows) / (time.process_time() - start))


def _evolution(space: SearchSpace, latency: CompiledTable, model: Any) -> int:
    """Rows a processor second of a whole NSGA-II, selection and variation included."""

    def score(rows: NDArray[np.int16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        values = np.stack((-model.mean(rows), latency.predict(rows)), axis=1)
        return values, np.zeros((len(rows), 0))

    rng = np.random.default_rng(1)
    start = time.process_time()
    found = evolve(space, score, space.sample(rng, 500), population=500, generations=40, rng=rng)
    return round(len(found.positions) / (time.process_time() - start))


if __name__ == "__main__":
    sys.exit(main())

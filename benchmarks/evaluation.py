"""Architectures evaluated a second: one process, several, and with hopeless ones stopped early.

python benchmarks/evaluation.py --networks 40 --workers 2

Weights are trained for some steps on the built-in digits, or on made-up images of 32x32 pixels with
``--space small``: a Once-for-All space whose validation split is larger than its calibration, which
is where a race pays.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.evaluation.choose_pool import open_pool
from app.evaluation.log import EvaluationLog
from app.evaluation.race_bounds import RaceRule
from app.evaluation.scheduler import WHOLE_ROUND, Evaluator
from app.jobs.train import TrainRequest, train_job
from app.runs.allocator import keep_freed_memory
from app.runs.directory import open_run
from app.runs.trained import open_trained
from search import Objective, SearchProblem, SearchResult, search
from search.strategies import nsga2
from supernet.quality.evaluate import BatchCache, evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", choices=("digits", "small"), default="digits")
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--evaluations", type=int, default=100, help="of the searches compared")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = _train(Path(folder), args.space, args.steps)
        result = {"space": args.space, "steps": args.steps, "networks": args.networks,
                  "one_process": one_process(run, args.networks, args.rounds),
                  "workers": several(run, args.workers, args.networks),
                  "early_stop": early_stop(run, args.evaluations)}  # fmt: skip
        print(json.dumps(result, indent=2))


def one_process(run: Path, networks: int, rounds: int) -> dict[str, Any]:
    """Processor milliseconds of an evaluation, interleaved, and whether all values agree."""
    trained = open_trained(open_run(run), lambda _: None)
    supernet, data = trained.supernet, trained.data
    rows = supernet.space.sample(np.random.default_rng(0), networks)
    architectures = supernet.space.decode(rows)
    cache = BatchCache()
    ways: dict[str, Callable[[Any], float]] = {
        "batches_made_each_time": lambda a: evaluate(supernet, a, data).value,
        "batches_kept": lambda a: evaluate(supernet, a, data, cache=cache).value,
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, list[float]] = {name: [] for name in ways}
    for architecture in architectures * rounds:
        for name, way in ways.items():
            before = time.process_time()
            values[name].append(way(architecture))
            spent[name].append((time.process_time() - before) * 1e3)
    first, second = values.values()
    return {
        **{f"{name}_ms": round(_per_network(spent[name], networks), 2) for name in ways},
        "architectures_a_second": round(1e3 / _per_network(spent["batches_kept"], networks), 2),
        "freed_memory_is_kept": keep_freed_memory(),
        "kept_megabytes": round(cache.bytes / 1e6, 2),
        "values_equal": first == second,
    }


def _per_network(spent: Sequence[float], networks: int) -> float:
    """Mean over networks of each one's best time: what others do at the same time only adds."""
    rounds = np.array(spent).reshape(-1, networks)
    return float(statistics.fmean(rounds.min(axis=0)))


def several(run: Path, workers: int, networks: int) -> dict[str, Any]:
    """Wall seconds for the same networks in one process and in several, once these are up."""
    found: dict[str, Any] = {"workers": workers, "networks": networks}
    values = {}
    for count in (1, workers):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copytree(run, Path(folder) / "run"))
            log = EvaluationLog(open_trained(open_run(copy), lambda _: None), print)
            problem = _problem(log)
            with Evaluator(problem, log, pool=open_pool(log, workers=count)) as evaluator:
                began = time.perf_counter()
                # Importing and opening is paid once a search; it is told apart here.
                first = problem.space.sample(np.random.default_rng(99), 2 * count)
                evaluator.evaluate_batch(first)
                up = time.perf_counter()
                rows = problem.space.sample(np.random.default_rng(1), networks)
                values[count] = evaluator.evaluate_batch(rows)["accuracy"]
                seconds = time.perf_counter() - up
        found[f"{count}_start_s"] = round(up - began, 2)
        found[f"{count}_s"] = round(seconds, 2)
        found[f"{count}_a_second"] = round(networks / seconds, 2)
    found["values_equal"] = bool(np.array_equal(*values.values()))
    return found


def early_stop(run: Path, evaluations: int) -> dict[str, Any]:
    """The same search by NSGA-II with and without early stops, over three seeds.

    The searches go their own ways, since one sees estimates where the other sees values; so the
    stopped one's own candidates are evaluated on the whole split afterwards, and its front is
    compared with the front of those.
    """
    rows = []
    for seed in range(3):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copytree(run, Path(folder) / "run"))
            log = EvaluationLog(open_trained(open_run(copy), lambda _: None), print)
            began = time.process_time()
            with Evaluator(_problem(log), log, rule=RaceRule()) as evaluator:
                raced = _search(evaluator, evaluations, seed)
            middle = time.process_time()
            with Evaluator(_problem(log), log) as whole:
                values = whole.evaluate_batch(raced.history.positions)["accuracy"]
            exact = raced.history.values.copy()
            exact[:, 0] = values
            problem = evaluator.problem
            points = problem.minimised(exact)
            front = _front(points)
            rows.append(
                {
                    "seed": seed,
                    "stopped": len(evaluator.stopped),
                    "validation_samples_saved": round(evaluator.saved_share, 3),
                    "processor_s": round(middle - began, 1),
                    "same_front": sorted(front) == sorted(raced.front.rows.tolist()),
                }
            )
    return {"evaluations": evaluations, "searches": rows}


def _front(points: np.ndarray) -> list[int]:
    from search.arrays.pareto import nondominated

    return [int(i) for i in np.flatnonzero(nondominated(points))]


def _search(evaluator: Evaluator, evaluations: int, seed: int) -> SearchResult:
    result = search(
        evaluator.problem, nsga2.build(), evaluations=evaluations, seed=seed,
        evaluate_batch=evaluator.evaluate_batch, chunk=WHOLE_ROUND, known=evaluator.list_known(),
    )  # fmt: skip
    return evaluator.settle(result)


def _problem(log: EvaluationLog) -> SearchProblem:
    def never(rows: np.ndarray) -> np.ndarray:
        raise AssertionError("the evaluator evaluates")

    accuracy = Objective("accuracy", "fraction", "maximize", never, "evaluated")
    macs = Objective("macs", "macs", "minimize", log.trained.cost_model.macs, "analytic")
    return SearchProblem(log.trained.supernet.space, (accuracy, macs))


def _train(folder: Path, space: str, steps: int) -> Path:
    """A run trained for some steps; for ``small`` on textures of five kinds in noise."""
    data = "digits" if space == "digits" else f"folder:{_textures(folder / 'images')}"
    out = folder / "run"
    request = TrainRequest(
        out=out, family="ofa_mobilenetv3", preset="tiny", data=data, seed=0, steps=steps
    )
    train_job(request, lambda _: None)
    return out


def _textures(folder: Path, each: int = 1200, size: int = 32) -> Path:
    """Images of stripes and blobs at five scales under noise, as PNG files by class."""
    from PIL import Image

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    for label in range(5):
        target = folder / f"class{label}"
        target.mkdir(parents=True)
        for number in range(each):
            angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2)
            along = np.cos(angle) * x + np.sin(angle) * y
            across = np.cos(angle) * y - np.sin(angle) * x
            wave = np.sin(2 * np.pi * (2 + label) * along + phase[0])
            wave = wave * np.cos(2 * np.pi * label * across / 2 + phase[1])
            pixels = wave[..., None] * rng.uniform(0.2, 1, 3) + rng.normal(0, 1.2, (size, size, 3))
            scaled = np.clip(127 + 50 * pixels, 0, 255).astype(np.uint8)
            Image.fromarray(scaled).save(target / f"{number}.png")
    return folder


if __name__ == "__main__":
    main()

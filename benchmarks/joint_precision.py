"""Hypervolume of searching architecture and precision jointly, against one after the other.

    python benchmarks/joint_precision.py --data digits --cache runs/joint
    python benchmarks/joint_precision.py --data clutter --cache runs/joint
    python benchmarks/joint_precision.py --data cifar10 --cache runs/joint
    python benchmarks/joint_precision.py --data text --text shakespeare.txt --cache runs/joint

Searches by the default strategy spend the same number of evaluations on one supernet whose units
compute in float, in 8 bits, or in fewer (images: weights of 4 bits, and of 2 where they are
trained; text: 8 bits with ranges found at run time, and 4-bit weights):

* ``joint``: every evaluation is of an architecture with a policy;
* ``one_after_other``: float architectures with the first part of the evaluations; then the four
  that add most to the float front are taken, and each is given the policies that a search of its
  own finds with a quarter of the rest;
* ``architecture_first``: the same first part, then one search for policies of all architectures of
  the float front at once, by a predictor that knows the first part;
* ``uniform_int8``: architectures alone, everything in 8 bits.

All minimise the error on validation (for text the loss), latency (a table measured on this
machine, borders between precisions included) and bytes. Clutter and CIFAR-10 are trained with
their precisions; digits and text are rounded after training, with ranges from training data. Each
front is then verified: error on test, and latency of its networks measured whole, all fronts of a
supernet in one campaign. The hypervolume's reference is a tenth of the range beyond the worst of
all verified points of fronts that are compared. Where a single search ends is luck to a tenth or
more, so every supernet is searched ``--searches`` times with draws of its own, and the bar is for
the geometric mean of their ratios. Supernets and the table are kept in ``--cache``; without it
nothing is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _cifar10 import cifar10

from hardware.campaign import measure_networks
from hardware.compiled_table import CompiledTable
from hardware.device import Device
from hardware.profile import Budget, profile
from hardware.table import LatencyTable
from predictors import fit
from search import History, Objective, SearchProblem, SearchResult, search
from search.arrays.pareto import (
    choose_by_hypervolume,
    hypervolume,
    nondominated,
    reference_point,
)
from search.arrays.row_pool import all_rows
from search.strategies.predictor_guided import PredictorGuided
from supernet.costs.cost_model import CostModel
from supernet.data import IMAGES, DataSource, open_data
from supernet.families import matlm, ofa_mobilenetv3, resnet
from supernet.files import write_json
from supernet.precision.elastic import make_precision_elastic
from supernet.precision.steps import add_learned_steps
from supernet.quality.evaluate import BatchCache, recalibrate_extracted, score_samples
from supernet.quantization.formats import FP32, INT8, parse_policy
from supernet.space import PRECISION, SearchSpace
from supernet.supernet import Supernet
from supernet.training import Recipe, find_recipe, train

Rows = NDArray[np.int16]
SHEETS = Path(__file__).resolve().parents[2] / "shared" / "data" / "train" / "cifar10"
TEXT = SHEETS.parent / "tinyshakespeare.txt"
JOINT, FIRST, UNIFORM = "joint", "architecture_first", "uniform_int8"
AFTER = "one_after_other"
NETWORKS = 4
"""Float architectures that ``one_after_other`` goes on with."""
BAR = 1.05
CALIBRATION = 256
"""Training samples for normalisation and ranges of one network."""
ESTIMATOR = "minmax"
"""The cheapest; with 8 bits for activations ranges need no care."""
POOL = 20_000
"""Rows that the second part of ``architecture_first`` chooses from."""
ROUNDS = 4
SLOWER = 0.2
"""Learning rate of training with precisions, relative to that in float."""
BUDGET = Budget(passes=4, unit_ms=3.0, seconds=120.0)


@dataclass(frozen=True)
class Task:
    """What is searched.

    Args:
        data: To train, choose and verify on.
        build: Makes the untrained float supernet of a seed.
        recipe: How it is trained.
        precisions: Formats of its units.
        samples: Samples of validation that choose, and of test that verify, at most.
        tuning: How the supernet is trained on with its precisions; without it, weights are rounded
            after training.
    """

    data: DataSource
    build: Callable[[int], Supernet]
    recipe: Recipe
    precisions: str
    samples: int
    tuning: Recipe | None = None


def make_digits() -> Task:
    """The smallest OFA-MobileNetV3 on the built-in digits."""
    data = open_data("digits")
    config = ofa_mobilenetv3.configure("tiny", data.shape)
    return Task(
        data,
        lambda seed: ofa_mobilenetv3.build(replace(config, seed=seed)),
        find_recipe("digits+inplace+sgd"),
        "fp32,int8,w4a8",
        1_000,
    )


def make_clutter() -> Task:
    """OFA-MobileNetV3 on the built-in cluttered digits, where small networks err much more."""
    data = open_data("clutter")
    config = ofa_mobilenetv3.configure("clutter", data.shape)
    return Task(
        data,
        lambda seed: ofa_mobilenetv3.build(replace(config, seed=seed)),
        find_recipe("clutter+inplace+sgd"),
        "fp32,int8,w4a8,w2a8",
        len(data.val),
        slow_down(find_recipe("clutter+eqnet+sgd").replace({"steps": 350, "warmup_steps": 50})),
    )


def slow_down(recipe: Recipe) -> Recipe:
    """The recipe for weights that were trained in float already."""
    return recipe.replace({"learning_rate": SLOWER * recipe.learning_rate})


def make_text(path: Path) -> Task:
    """The smallest MatLM on a text."""
    data = open_data(f"text:{path}", context=matlm.PRESETS["classic"].context)
    config = matlm.configure("classic", data.shape)
    return Task(
        data,
        lambda seed: matlm.build(replace(config, seed=seed)),
        replace(find_recipe("text+sandwich+adamw"), steps=400, warmup_steps=50),
        "fp32,int8,int8-dynamic,weights4",
        128,
    )


def make_cifar10(folder: Path) -> Task:
    """Residual networks on CIFAR-10 at 16 pixels.

    Wide enough that integers pay, and small enough that a processor trains them in minutes.
    """
    data = cifar10(folder, 16)
    config = resnet.Config(
        size=16,
        classes=data.shape.classes,
        widths=((16, 24, 32), (32, 48, 64), (64, 96, 128)),
        depths=((1, 2), (1, 2), (1, 2)),
    )
    short: dict[str, Any] = {
        "epochs": None,
        "steps": 400,
        "batch_size": 64,
        "warmup_steps": 40,
        "ema_decay": 0.98,
        "checkpoint_every": 100,
    }
    return Task(
        data,
        lambda seed: resnet.build(replace(config, seed=seed)),
        find_recipe("image").replace(short),
        "fp32,int8,w4a8,w2a8",
        1_000,
        slow_down(find_recipe("image+eqnet").replace(short)),
    )


MAKERS: dict[str, Callable[[argparse.Namespace], Task]] = {
    "digits": lambda _: make_digits(),
    "clutter": lambda _: make_clutter(),
    "cifar10": lambda options: make_cifar10(options.sheets),
    "text": lambda options: make_text(options.text),
}


@dataclass
class Judge:
    """Errors of networks with inherited weights, each computed once; losses for text.

    Args:
        supernet: Elastic in precision, trained.
        data: To calibrate and judge on.
        samples: Samples that are scored, at most.
        path: Where errors are kept from one call to the next.
    """

    supernet: Supernet
    data: DataSource
    samples: int
    path: Path
    known: dict[str, float] = field(init=False)
    batches: BatchCache = field(default_factory=BatchCache)

    def __post_init__(self) -> None:
        self.known = json.loads(self.path.read_text()) if self.path.exists() else {}

    def keep(self) -> None:
        """Write what is known for the next call."""
        write_json(self.path, self.known)

    def judge(self, positions: Rows, split: str) -> NDArray[np.float64]:
        """Errors ``(n,)`` of rows ``(n, len(space))`` on a split."""
        return np.array([self._judge_row(row, split) for row in positions])

    def _judge_row(self, row: Rows, split: str) -> float:
        architecture = self.supernet.space.decode(row[None])[0]
        key = f"{split}-{architecture.digest}"
        if key not in self.known:
            chosen = np.random.default_rng(1).permutation(len(self.data.split(split)))
            with torch.inference_mode():
                network = self.supernet.extract(architecture)
                common = (self.supernet, architecture, self.data)
                recalibrate_extracted(
                    network, *common, CALIBRATION, cache=self.batches, estimator=ESTIMATOR
                )
                scores = score_samples(
                    network, *common, split, cache=self.batches, rows=chosen[: self.samples]
                )
            images = self.data.shape.task == IMAGES
            self.known[key] = float(1 - scores.mean() if images else scores.mean())
        return self.known[key]


@dataclass(frozen=True)
class Arena:
    """One trained supernet, elastic in precision, and what its networks cost."""

    plain: SearchSpace
    judge: Judge
    costs: CostModel
    latency: CompiledTable

    @property
    def space(self) -> SearchSpace:
        """Architectures with policies."""
        return self.judge.supernet.space

    def widen(self, positions: Rows, precision: str) -> Rows:
        """Rows of the float space as rows of the joint space, all units in one precision."""
        own = [c.values.index(precision) for c in self.space.choices if c.kind == PRECISION]
        columns = np.broadcast_to(np.array(own, np.int16), (len(positions), len(own)))
        return self.space.canonical(np.concatenate((positions, columns), axis=1))

    def problem(self, precision: str | None = None, pool: Rows | None = None) -> SearchProblem:
        """The three objectives, of the joint space or of the float space in one precision."""

        def widen(rows: Rows) -> Rows:
            return rows if precision is None else self.widen(rows, precision)

        return SearchProblem(
            self.space if precision is None else self.plain,
            (
                Objective("error", "fraction or nats", "minimize",
                    lambda x: self.judge.judge(widen(x), "val"), "evaluated"),
                Objective("latency_ms", "ms", "minimize",
                    lambda x: self.latency.predict(widen(x)), "table"),
                Objective("size_bytes", "bytes", "minimize",
                    lambda x: self.costs.size_bytes(widen(x)), "analytic"),
            ),
            pool=pool,
        )  # fmt: skip


def search_jointly(arena: Arena, evaluations: int, seed: int) -> Rows:
    """Front of architectures with policies, in rows of the joint space."""
    return _search(arena.problem(), evaluations, seed).front.positions


def search_uniform(arena: Arena, evaluations: int, seed: int) -> Rows:
    """Front of architectures that compute in 8 bits throughout."""
    found = _search(arena.problem(INT8.name), evaluations, seed)
    return arena.widen(found.front.positions, INT8.name)


def search_architecture_first(arena: Arena, evaluations: int, seed: int, share: float) -> Rows:
    """Front of a search for float architectures and then for policies of the best of them.

    Args:
        arena: What is searched.
        evaluations: Of both parts together.
        seed: Of both searches.
        share: Part of the evaluations that is spent on float architectures.
    """
    history, fronts = _search_float(arena, round(share * evaluations), seed)
    pool = draw_policies(arena.space, fronts, np.random.default_rng((seed, 2)))
    second = arena.problem(pool=np.unique(np.concatenate((pool, history.positions)), axis=0))
    return _search(second, evaluations, seed, history).front.positions


def search_one_after_other(arena: Arena, evaluations: int, seed: int, share: float) -> Rows:
    """Front of a search for float architectures and of one for policies of each of a few of them.

    Args:
        arena: What is searched.
        evaluations: Of all parts together.
        seed: Of all searches.
        share: Part of the evaluations that is spent on float architectures.
    """
    history, fronts = _search_float(arena, round(share * evaluations), seed)
    problem = arena.problem()
    values = problem.minimised(problem.cheap_values(fronts))
    values[:, 0] = arena.judge.judge(fronts, "val")
    picked = choose_by_hypervolume(values[:0], values, reference_point(values), NETWORKS)
    each = (evaluations - len(history)) // len(picked)
    rows, found = [history.positions], [history.values]
    for turn, place in enumerate(picked):
        rng = np.random.default_rng((seed, 3, turn))
        own = arena.problem(pool=draw_policies(arena.space, fronts[[place]], rng))
        result = _search(own, each, seed, initial=each // 2)
        rows.append(result.history.positions)
        found.append(result.history.values)
    every = np.concatenate(rows)
    kept = nondominated(problem.minimised(np.concatenate(found)))
    return np.unique(every[kept], axis=0)


def _search_float(arena: Arena, evaluations: int, seed: int) -> tuple[History, Rows]:
    """Evaluations and front of a search for float architectures, in rows of the joint space."""
    found = _search(arena.problem(FP32.name), evaluations, seed)
    history = History(
        found.history.names,
        arena.widen(found.history.positions, FP32.name),
        found.history.values,
        np.zeros(len(found.history), np.int64),
    )
    return history, arena.widen(found.front.positions, FP32.name)


def draw_policies(space: SearchSpace, positions: Rows, rng: np.random.Generator) -> Rows:
    """Policies for architectures: every uniform one, all of them where few, else random ones.

    Half of the random ones draw the shares of precisions first, so that nearly uniform policies
    are among them.

    Args:
        space: Of architectures with policies.
        positions: Rows whose precisions are to be replaced.
        rng: Draws.
    """
    places = [i for i, choice in enumerate(space.choices) if choice.kind == PRECISION]
    policies = SearchSpace(tuple(replace(space.choices[i], needs=None) for i in places))
    each = POOL // len(positions)
    every = all_rows(policies, each)
    result = []
    for row in positions:
        drawn = every
        if drawn is None:
            count = int(policies.cardinalities.max())
            shares = rng.dirichlet(np.ones(count), each // 2)
            edges = shares.cumsum(1)[:, None, :-1]
            skewed = (rng.random((len(shares), len(places)))[:, :, None] > edges).sum(-1)
            uniform = np.repeat(np.arange(count)[:, None], len(places), 1)
            drawn = np.concatenate((uniform, skewed, policies.sample(rng, each // 2)))
        rows = np.repeat(row[None], len(drawn), 0)
        rows[:, places] = drawn
        result.append(rows)
    return np.unique(space.canonical(np.concatenate(result)), axis=0)


def _search(
    problem: SearchProblem,
    evaluations: int,
    seed: int,
    history: History | None = None,
    initial: int | None = None,
) -> SearchResult:
    strategy = PredictorGuided(fit)
    if history is not None:
        # What is known takes the place of the first sample.
        initial = len(history)
    if initial is not None:
        strategy = replace(strategy, initial=initial)
    return search(problem, strategy, evaluations=evaluations, seed=seed, history=history)


def verify(arena: Arena, rows: Rows, seed: int) -> NDArray[np.float64]:
    """Error on test, measured latency in milliseconds and bytes ``(n, 3)`` of rows, once each."""
    distinct, places = np.unique(rows, axis=0, return_inverse=True)
    supernet = arena.judge.supernet
    graphs = [supernet.graph(a) for a in supernet.space.decode(distinct)]
    measured = measure_networks(graphs, Device(), rounds=ROUNDS, seed=seed)
    points = np.stack(
        (
            arena.judge.judge(distinct, "test"),
            np.array([m.latency_ms for m in measured]),
            arena.costs.size_bytes(distinct),
        ),
        axis=1,
    )
    result: NDArray[np.float64] = points[places.ravel()]
    return result


def predict(arena: Arena, rows: Rows) -> NDArray[np.float64]:
    """Error on validation, latency by the table and bytes ``(n, 3)``, as the searches saw them."""
    return np.stack(
        (arena.judge.judge(rows, "val"), arena.latency.predict(rows), arena.costs.size_bytes(rows)),
        axis=1,
    )


def compare(points: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Hypervolume of the joint front as a multiple of each of the others.

    Args:
        points: Values to be minimised, ``(n, 3)``, by search.
    """
    bound = reference_point(np.concatenate(list(points.values())))
    volumes = {name: hypervolume(values, bound) for name, values in points.items()}
    return {name: round(volumes[JOINT] / volumes[name], 4) for name in volumes if name != JOINT}


def prepare(task: Task, seed: int, cache: Path) -> Arena:
    """Train the supernet of a seed and profile its units, or take both from the cache."""
    plain = task.build(seed)
    folder = cache / f"seed-{seed}"
    trained = train(plain, task.data, replace(task.recipe, seed=seed), folder)
    supernet = make_precision_elastic(plain, parse_policy(task.precisions))
    if task.tuning is not None:
        tuning = replace(task.tuning, seed=seed)
        supernet = add_learned_steps(supernet, task.data, seed, tuning.quantizer)
        trained = train(supernet, task.data, tuning, folder / "precisions")
    costs = supernet.cost_model()
    device = cache / "latency"
    if (device / "report.json").exists():
        table = LatencyTable.load(device)
    else:
        table = profile(costs, supernet.graph, Device(), folder=device, budget=BUDGET)
    known = f"{trained.checkpoint.digest}-{supernet.space.digest}-{CALIBRATION}-{task.samples}"
    judge = Judge(supernet, task.data, task.samples, folder / f"errors-{known}.json")
    return Arena(plain.space, judge, costs, table.compile(costs, Device()))


def run_seed(
    task: Task, seed: int, cache: Path, evaluations: int, share: float, searches: int
) -> dict[str, Any]:
    """Search in all ways on the supernet of one seed, several times, verify and compare."""
    began = time.perf_counter()
    arena = prepare(task, seed, cache)
    prepared = time.perf_counter()
    fronts: list[dict[str, Rows]] = []
    for turn in range(searches):
        draw = 100 * seed + turn
        fronts.append(
            {
                JOINT: search_jointly(arena, evaluations, draw),
                AFTER: search_one_after_other(arena, evaluations, draw, share),
                FIRST: search_architecture_first(arena, evaluations, draw, share),
                UNIFORM: search_uniform(arena, evaluations, draw),
            }
        )
        arena.judge.keep()
    searched = time.perf_counter()
    rows = np.concatenate([front for turn in fronts for front in turn.values()])
    verified = verify(arena, rows, seed)
    arena.judge.keep()
    # What the searches went by; test adds the chance of few samples to it, validation the optimism
    # of whoever looked at most networks.
    predicted = predict(arena, rows)
    ends = np.cumsum([len(front) for turn in fronts for front in turn.values()])[:-1]

    def compare_turns(points: NDArray[np.float64]) -> list[dict[str, float]]:
        parts = iter(np.split(points, ends))
        return [compare({name: next(parts) for name in turn}) for turn in fronts]

    # A tenth faster or smaller is worth the same everywhere on a logarithmic scale.
    logarithmic = np.column_stack((verified[:, 0], np.log2(verified[:, 1:])))
    first = dict(zip(fronts[0], np.split(verified, ends), strict=False))
    every = compare_turns(verified)
    return {
        "seed": seed,
        "joint_over": average(every),
        "joint_over_of_each_search": every,
        "joint_over_logarithmic": average(compare_turns(logarithmic)),
        "joint_over_on_validation": average(compare_turns(predicted)),
        "fronts_of_first_search": {
            name: describe(arena.space, rows, first[name]) for name, rows in fronts[0].items()
        },
        "seconds": {
            "prepare": round(prepared - began, 1),
            "search": round(searched - prepared, 1),
            "verify": round(time.perf_counter() - searched, 1),
        },
    }


def average(ratios: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Geometric mean of the ratios of several searches, by what the joint one is compared with."""
    names = ratios[0]
    return {
        name: round(float(np.exp(np.mean([np.log(r[name]) for r in ratios]))), 4) for name in names
    }


def describe(space: SearchSpace, rows: Rows, points: NDArray[np.float64]) -> dict[str, Any]:
    """Size and ranges of a front, and in which share of its units each precision is used."""
    precisions = {choice.name for choice in space.choices if choice.kind == PRECISION}
    counts = Counter(
        str(value)
        for architecture in space.decode(rows)
        for name, value in architecture.to_dict().items()
        if name in precisions
    )
    low, high = points.min(0), points.max(0)
    return {
        "points": len(rows),
        "test_error": [round(low[0], 4), round(high[0], 4)],
        "latency_us": [round(1e3 * low[1], 1), round(1e3 * high[1], 1)],
        "bytes": [int(low[2]), int(high[2])],
        "units": {name: round(n / counts.total(), 3) for name, n in sorted(counts.items())},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON object; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", choices=("digits", "clutter", "cifar10", "text"), default="digits"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--evaluations", type=int, default=80)
    parser.add_argument("--searches", type=int, default=3, help="of each kind on a supernet")
    parser.add_argument(
        "--share", type=float, default=0.5, help="float part of searches in two parts"
    )
    parser.add_argument("--steps", type=int, help="of training [the task's]")
    parser.add_argument("--cache", type=Path, help="keeps supernets, errors and the latency table")
    parser.add_argument("--sheets", type=Path, default=SHEETS, help="folder of the CIFAR-10 sheets")
    parser.add_argument("--text", type=Path, default=TEXT, help="a UTF-8 text file")
    options = parser.parse_args(arguments)
    needed = {"cifar10": options.sheets, "text": options.text}.get(options.data)
    if needed is not None and not needed.exists():
        print(json.dumps({"skipped": f"{needed} is not there; give --sheets or --text"}))
        return 0
    torch.set_num_threads(1)
    task = _make_task(options)
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        cache = (options.cache or Path(scratch)) / options.data
        for seed in options.seeds:
            runs.append(
                run_seed(task, seed, cache, options.evaluations, options.share, options.searches)
            )
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    lowest = {name: min(r["joint_over"][name] for r in runs) for name in (AFTER, FIRST, UNIFORM)}
    met = all(ratio >= BAR for ratio in lowest.values())
    result = {
        "data": options.data,
        "evaluations": options.evaluations,
        "searches": options.searches,
        "precisions": task.precisions,
        "runs": runs,
        "lowest_joint_over": lowest,
        "bar": BAR,
        "met": met,
    }
    print(json.dumps(result, indent=2))
    return 0 if met else 1


def _make_task(options: argparse.Namespace) -> Task:
    task = MAKERS[options.data](options)
    if options.steps is None:
        return task
    recipe = replace(task.recipe, steps=options.steps, warmup_steps=options.steps // 10)
    return replace(task, recipe=recipe)


if __name__ == "__main__":
    sys.exit(main())

"""How lucky the winners of searches are, and what is stated of them: by value and by posterior.

    python benchmarks/winners_curse.py --seeds 20
    python benchmarks/winners_curse.py --tasks clutter,digits --pool 1000

Every search has a budget, and the same number of validation samples in all: by value,
``--evaluations`` networks are evaluated and the best value within the budget is taken; by
posterior, a fifth of the samples goes to finalists instead. ``regret`` is how far the chosen
network's true quality lies below the best within the budget, of all there are and of those that
were evaluated; ``optimism`` is what was stated less the truth; ``covered`` is the share of cases
whose truth lies within the stated 90 % interval. ``recommended`` is the cheapest of those that
cannot be told apart from the best by posterior.

Published tables have a known truth, to which noise of known size is added. For the built-in data a
supernet is trained once and a pool of its networks is scored on renderings of all base digits that
training has not seen; every seed deals these bases anew into validation and test. Where those of
validation are easier for all networks alike, that is no optimism about the winner: the mean
difference over networks of the pool that are as good is taken off. What is called true there has
an error of its own, which choosing the luckiest of the pool as the best within the budget adds to
every regret.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _answers import answer
from _options import read_options
from _published import Rows, Values, cell_statistics, hw_gpt, nasbench201, ofa_macs, ofa_table

from app.records.searches.picking import Z_ALIKE
from app.searching.results.confirm import ConfirmRule, confirm_finalists
from app.searching.results.evidence import Evidence, Scored, gather_evidence
from app.searching.results.final_quality import FinalQuality, bound_share, infer_quality
from predictors import Statistics, fit
from search import Constraint, History, Objective, SearchProblem, search
from search.strategies.predictor_guided import PredictorGuided
from supernet.data import DataSource, Split, open_data
from supernet.families import ofa_mobilenetv3
from supernet.quality.audit import sample_across_costs
from supernet.space import SearchSpace
from supernet.training import find_recipe, train

SHARE = 0.2
BUDGETS = (0.3, 0.5, 0.8)
Z90 = 1.645
ROUND = 15
# Networks of a pool that tell how much easier validation is than test.
ALIKE = 100
# Networks that are scored between two words of progress.
AT_ONCE = 100


class Source:
    """Where one seed's evaluations come from: the noisy value of a network, and further looks."""

    def evaluate(self, rows: Rows) -> Values:
        """Values ``(n,)`` as a search sees them."""
        raise NotImplementedError

    def gather(self, rows: Rows, looks: list[int]) -> Evidence:
        """What is known of rows after so many further looks at each."""
        raise NotImplementedError


@dataclass(frozen=True)
class Task:
    """A search problem whose truth is known, or known much better than a search knows it.

    Args:
        name: For the output.
        space: The space.
        cost: Exact costs of rows.
        truth: True qualities of rows for a seed, larger is better.
        truth_error: Standard error of the truth of rows, for a seed.
        draw: The source of evaluations of a seed.
        error: Standard error of single values, for the problem's noise.
        shares: Whether qualities are accuracies.
        pool: Rows that there are; ``None`` for the whole space.
        statistics: Free numbers for predictors.
    """

    name: str
    space: SearchSpace
    cost: Callable[[Rows], Values]
    truth: Callable[[Rows, int], Values]
    truth_error: Callable[[Rows, int], Values]
    draw: Callable[[int], Any]
    error: float
    shares: bool
    pool: Rows | None = None
    statistics: Statistics | None = None

    def find_ease(self, seed: int, level: float, looks: int) -> float:
        """How much more accurate networks of a level are on validation than on test, in the mean.

        Of those of the pool whose mean over both is nearest to it, which favours neither; after so
        many further looks at each.
        """
        if self.pool is None or not self.shares:
            return 0.0
        val = self.draw(seed).measure(self.pool, looks)
        test = self.truth(self.pool, seed)
        near = np.argsort(np.abs((val + test) / 2 - level), kind="stable")[:ALIKE]
        return float((val - test)[near].mean())

    def list_rows(self) -> Rows:
        """All rows that there are."""
        if self.pool is not None:
            return self.pool
        cards = tuple(int(c) for c in self.space.cardinalities)
        grid = np.stack(np.unravel_index(np.arange(np.prod(cards)), cards), axis=1)
        return np.unique(self.space.canonical(grid.astype(np.int16)), axis=0)


# -- published tables ------------------------------------------------------------------------------


class Noisy:
    """True values with independent noise of known size; further looks are further draws."""

    def __init__(self, truth: Callable[[Rows], Values], error: float, seed: int) -> None:
        self.truth, self.error, self.seed = truth, error, seed

    def _draw(self, rows: Rows, count: int) -> Values:
        """The first ``count`` looks at each row, ``(n, count)``."""
        noise = [
            np.random.default_rng([self.seed, *row.tolist()]).standard_normal(count) for row in rows
        ]
        return self.truth(rows)[:, None] + self.error * np.array(noise)

    def evaluate(self, rows: Rows) -> Values:
        """The first look at each row, ``(n,)``."""
        return self._draw(rows, 1)[:, 0]

    def gather(self, rows: Rows, looks: list[int]) -> Evidence:
        """Means of all looks and their errors, none of which is shared."""
        counts = np.array(looks) + 1
        drawn = self._draw(rows, int(counts.max()))
        means = np.array([row[:n].mean() for row, n in zip(drawn, counts, strict=True)])
        errors = self.error / np.sqrt(counts)
        return Evidence(means, errors, errors, counts.astype(np.intp))


def list_tables() -> Iterator[Task]:
    """The published tables that are there."""
    cells, gpt, ofa = nasbench201(), hw_gpt(), ofa_table()
    if cells is not None:
        latency = cells.latency_ms[:, cells.devices.index("pixel2")]
        yield _make_table(
            "nasbench201", cells.space, cells.lookup(cells.accuracy), cells.lookup(latency), 1.5,
            statistics=cell_statistics,
        )  # fmt: skip
    if ofa is not None:
        rows, accuracy, _ = ofa.distinct()
        known = {row.tobytes(): value for row, value in zip(rows, accuracy, strict=True)}

        def look_up(asked: Rows) -> Values:
            return np.array([known[np.asarray(row, np.int16).tobytes()] for row in asked])

        yield _make_table("ofa", ofa.space, look_up, ofa_macs(ofa), 0.3, pool=rows)
    if gpt is not None:
        quality, cost = gpt.lookup(-gpt.perplexity), gpt.lookup(gpt.latency_ms["h100"])
        yield _make_table("hwgpt", gpt.space, quality, cost, 0.3, pool=gpt.rows)


def _make_table(
    name: str,
    space: SearchSpace,
    truth: Callable[[Rows], Values],
    cost: Callable[[Rows], Values],
    error: float,
    **more: Any,
) -> Task:
    return Task(
        name, space, cost, lambda rows, seed: truth(rows),
        lambda rows, seed: np.zeros(len(rows)), lambda seed: Noisy(truth, error, seed),
        error, False, **more,
    )  # fmt: skip


# -- built-in data ---------------------------------------------------------------------------------


class Dealt:
    """Scores of a pool on validation bases, one set of renderings after another."""

    def __init__(self, pool: ScoredPool, bases: NDArray[np.int64]) -> None:
        self.pool, self.bases = pool, bases

    def _score(self, rows: Rows, looks: list[int]) -> list[Scored]:
        return [
            self.pool.summarise(place, self.bases, look + 1)
            for place, look in zip(self.pool.find(rows), looks, strict=True)
        ]

    def evaluate(self, rows: Rows) -> Values:
        """Accuracies on the first renderings, ``(n,)``."""
        return self.measure(rows, 0)

    def measure(self, rows: Rows, looks: int) -> Values:
        """Accuracies after so many further looks at each, ``(n,)``."""
        return np.array([one.value for one in self._score(rows, [looks] * len(rows))])

    def gather(self, rows: Rows, looks: list[int]) -> Evidence:
        """What the package makes of the scores of all renderings that were looked at."""
        return gather_evidence(self._score(rows, looks), 0)


class ScoredPool:
    """Right and wrong answers of a pool of networks on renderings of unseen base digits.

    Args:
        rows: The networks, ``(n, len(space))``.
        scores: ``(n, sets, samples)``.
        groups: Base digit of each sample of a set, ``(samples,)``.
    """

    def __init__(self, rows: Rows, scores: NDArray[np.bool_], groups: NDArray[np.int64]) -> None:
        self.rows, self.scores, self.groups = rows, scores, groups
        self._places = {row.tobytes(): place for place, row in enumerate(rows)}

    def find(self, rows: Rows) -> list[int]:
        """Places of rows in the pool."""
        return [self._places[np.asarray(row, np.int16).tobytes()] for row in rows]

    def deal(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bases of validation and of test."""
        bases = np.random.default_rng(seed).permutation(np.unique(self.groups))
        half = len(bases) // 2
        return np.sort(bases[:half]), np.sort(bases[half:])

    def summarise(self, place: int, bases: NDArray[np.int64], sets: int) -> Scored:
        """One network on some bases and the first sets of renderings."""
        return _summarise(self, place, bases.tobytes(), sets)


@cache
def _summarise(pool: ScoredPool, place: int, bases: bytes, sets: int) -> Scored:
    kept = np.isin(pool.groups, np.frombuffer(bases, np.int64))
    parts = [part[kept].astype(np.float64) for part in pool.scores[place, :sets]]
    return Scored.from_scores(parts, [pool.groups[kept]] * len(parts), answers=True)


def make_pool(spec: str, networks: int, sets: int) -> tuple[SearchSpace, Any, ScoredPool]:
    """Train a supernet on built-in data and score networks across all costs."""
    data = open_data(spec)
    preset = "clutter" if spec == "clutter" else ofa_mobilenetv3.DEFAULT_PRESET
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.configure(preset, data.shape))
    with tempfile.TemporaryDirectory() as folder:
        train(supernet, data, find_recipe(f"{spec}+inplace+sgd"), Path(folder))
    supernet.eval()
    costs = supernet.cost_model()
    chosen = sample_across_costs(supernet.space, costs.macs, networks, np.random.default_rng(0))
    found = [_join(data, number) for number in range(sets)]
    unseen = replace(data, val=found[0], further=lambda number: found[number])
    names = ["val", *(f"val+{number}" for number in range(1, sets))]
    answers = []
    for first in range(0, len(chosen), AT_ONCE):
        answers.append(answer(supernet, chosen[first : first + AT_ONCE], unseen, names))
        done = min(first + AT_ONCE, len(chosen))
        print(f"{spec}: {done}/{len(chosen)} networks scored", file=sys.stderr, flush=True)
    groups = found[0].groups
    assert groups is not None
    rows = supernet.space.encode(chosen)
    return supernet.space, costs, ScoredPool(rows, np.concatenate(answers), groups.numpy())


def _join(data: DataSource, number: int) -> Split:
    """All samples that training has not seen, as one split; of clutter, rendered anew."""
    if data.further is None:
        parts = [data.val, data.test]
        groups = torch.arange(len(data.val) + len(data.test))
    else:
        from sklearn.datasets import load_digits

        from supernet.data.clutter import RENDERINGS, render

        digits = load_digits()
        assert data.val.groups is not None
        assert data.test.groups is not None
        bases = torch.cat([data.val.groups, data.test.groups]).unique()
        inks = digits.images[bases.numpy()].astype(np.int32)
        images = torch.from_numpy(render(inks, RENDERINGS["val"], 100 + number))[:, None]
        groups = bases.repeat_interleave(RENDERINGS["val"])
        return Split(images, torch.from_numpy(digits.target[groups.numpy()]).long(), groups)
    return Split(
        torch.cat([part.inputs for part in parts]), torch.cat([p.targets for p in parts]), groups
    )


def make_built_in(spec: str, networks: int) -> Task:
    """A task over a pool of networks of a supernet that is trained now."""
    sets = 4 if spec == "clutter" else 1
    space, costs, pool = make_pool(spec, networks, sets)

    def of_test(rows: Rows, seed: int) -> list[Scored]:
        _, test = pool.deal(seed)
        return [pool.summarise(place, test, sets) for place in pool.find(rows)]

    typical = float(np.mean([pool.summarise(i, pool.deal(0)[0], 1).error for i in range(20)]))
    return Task(
        spec, space, lambda rows: costs.macs(rows).astype(np.float64),
        lambda rows, seed: np.array([one.value for one in of_test(rows, seed)]),
        lambda rows, seed: np.array([one.error for one in of_test(rows, seed)]),
        lambda seed: Dealt(pool, pool.deal(seed)[0]), typical, True, pool.rows,
    )  # fmt: skip


# -- searches --------------------------------------------------------------------------------------


class Looked:
    """Finalists of one search, as the package asks for them."""

    def __init__(self, task: Task, problem: SearchProblem, history: History, source: Any,
                 most: int, seed: int) -> None:  # fmt: skip
        self.task, self.problem, self.history, self.source = task, problem, history, source
        self.most, self.seed = most, seed
        self.looks = [0] * len(history)

    @property
    def has_more(self) -> bool:
        """Whether there are further samples."""
        return self.most > 0

    def count_sets(self, row: int) -> int:
        """Further looks at a row."""
        return self.looks[row]

    def look_further(self, rows: Sequence[int], count: Callable[[], None]) -> None:
        """Look once more at each."""
        for row in rows:
            self.looks[row] += 1
            count()

    def infer(self) -> FinalQuality:
        """What all looks say together."""
        return infer_quality(
            self.problem, self.history, "accuracy", np.arange(len(self.history)),
            self.source.gather(self.history.positions, self.looks), self.task.statistics, self.seed,
        )  # fmt: skip


def compare(task: Task, budget: float, seed: int, evaluations: int) -> list[dict[str, Any]]:
    """One case: what each way chooses and states within a budget."""
    source = task.draw(seed)
    further = 0 if isinstance(source, Dealt) and source.pool.scores.shape[1] == 1 else 8
    if isinstance(source, Dealt) and further:
        further = source.pool.scores.shape[1] - 1
    # The same samples in all, wherever they go.
    confirmed = round(SHARE * evaluations) if further else 0
    results = []
    for count in dict.fromkeys((evaluations, evaluations - confirmed)):
        problem = SearchProblem(
            task.space,
            (
                Objective("accuracy", "", "maximize", source.evaluate, "evaluated",
                          noise=lambda values: np.full(len(values), task.error)),
                Objective("cost", "", "minimize", task.cost, "analytic"),
            ),
            (Constraint("cost", at_most=budget),),
            **({} if task.pool is None else {"pool": task.pool}),
        )  # fmt: skip
        fitted = PredictorGuided(
            lambda *given, **named: fit(*given, **{"statistics": task.statistics, **named}),
            batch=ROUND,
        )
        history = search(problem, fitted, evaluations=count, seed=seed, chunk=10_000).history
        within = task.cost(history.positions) <= budget
        if count == evaluations:
            values = source.gather(history.positions, [0] * len(history))
            place = _best(values.values, within)
            results.append(
                _judge(task, "value", history, place, values.values[place],
                       values.errors[place], within, seed)
            )  # fmt: skip
        if count == evaluations - confirmed:
            looked = Looked(task, problem, history, source, further, seed)
            rule = ConfirmRule(confirmed, sets=further)
            confirmed = confirm_finalists(problem, history, looked, rule, seed, lambda _line: None)
            quality = confirmed.quality
            mean = quality.posterior.mean
            place = _best(mean, within)
            results.append(
                _judge(task, "posterior", history, place, mean[place],
                       quality.deviation[place], within, seed, max(looked.looks))
            )  # fmt: skip
            own = quality.posterior.deviation
            spread = np.hypot(own, own[place])
            alike = within & (mean[place] - mean <= Z_ALIKE * spread)
            cheap = int(np.flatnonzero(alike)[task.cost(history.positions)[alike].argmin()])
            found = _judge(task, "recommended", history, cheap, mean[cheap],
                           quality.deviation[cheap], within, seed, max(looked.looks))  # fmt: skip
            costs = task.cost(history.positions[[cheap, place]])
            results.append({**found, "cost": float(costs[0] / costs[1])})
    return results


def _best(values: Values, within: NDArray[np.bool_]) -> int:
    return int(np.flatnonzero(within)[values[within].argmax()])


def _judge(task: Task, way: str, history: History, place: int, stated: float, deviation: float,
           within: NDArray[np.bool_], seed: int, looks: int = 0) -> dict[str, Any]:  # fmt: skip
    truth = task.truth(history.positions, seed)
    error = float(task.truth_error(history.positions[[place]], seed)[0])
    # What is compared with has an error of its own where it is measured, too.
    total = float(np.hypot(deviation, error))
    low, high = stated - Z90 * total, stated + Z90 * total
    if task.shares:
        low, high = bound_share(stated, total, Z90)
    return {
        "way": way,
        "optimism": float(stated - truth[place])
        - task.find_ease(seed, float(stated + truth[place]) / 2, looks),
        "regret_of_evaluated": float(truth[within].max() - truth[place]),
        "true": float(truth[place]),
        "covered": bool(low <= truth[place] <= high),
    }


def summarise(cases: list[list[dict[str, Any]]], best: list[float]) -> dict[str, Any]:
    """Means over cases of each way, and ratios to taking the best value."""
    table: dict[str, dict[str, float]] = {}
    for way in ("value", "posterior", "recommended"):
        mine = [next(r for r in case if r["way"] == way) for case in cases]
        regret = [top - r["true"] for top, r in zip(best, mine, strict=True)]
        table[way] = {
            "optimism": np.mean([r["optimism"] for r in mine]),
            "regret": np.mean(regret),
            "regret_of_evaluated": np.mean([r["regret_of_evaluated"] for r in mine]),
            "covered": np.mean([r["covered"] for r in mine]),
        }
        if way == "recommended":
            table[way]["cost_of_best"] = np.mean([r["cost"] for r in mine])
    for way in ("posterior", "recommended"):
        for key in ("optimism", "regret", "regret_of_evaluated"):
            table[way][f"{key}_ratio"] = table[way][key] / table["value"][key]
    return {way: {k: round(float(v), 4) for k, v in row.items()} for way, row in table.items()}


def main() -> int:
    """Print one JSON object."""
    options = read_options(
        __doc__, seeds=20, evaluations=150, tasks="nasbench201,ofa,hwgpt,clutter,digits", pool=1000
    )
    torch.set_num_threads(1)
    wanted = options.tasks.split(",")
    tasks = [task for task in list_tables() if task.name in wanted]
    tasks += [make_built_in(name, options.pool) for name in ("clutter", "digits") if name in wanted]
    output: dict[str, Any] = {}
    for task in tasks:
        cases, best = [], []
        every = task.list_rows()
        costs = task.cost(every)
        for seed in range(options.seeds):
            for share in BUDGETS:
                budget = float(np.quantile(costs, share))
                cases.append(compare(task, budget, seed, options.evaluations))
                best.append(float(task.truth(every, seed)[costs <= budget].max()))
        output[task.name] = {"cases": len(cases), **summarise(cases, best)}
        print(json.dumps({task.name: output[task.name]}), file=sys.stderr, flush=True)
    print(json.dumps(output))
    return 0


if __name__ == "__main__":
    sys.exit(main())

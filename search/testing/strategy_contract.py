"""Checks of the contract of a search strategy, for this project's strategies and for your own.

In a test of your package::

    import pytest
    from predictors import fit
    from search.testing.strategy_contract import CHECKS
    from my_package import my_strategy

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_strategy(check):
        check(my_strategy, fit)

Every check takes the strategy's module and a function that fits predictors (a strategy that
predicts nothing does not call it), and raises ``AssertionError`` where the contract of
:class:`search.strategy.Strategy` is broken. They run on problems of nine choices whose evaluation
takes no time.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from search.history import History
from search.problem import Constraint, Objective, SearchProblem
from search.run import search
from search.strategy import FitPredictor
from supernet.space import Choice, SearchSpace


def make_problem(
    limit: float | None = None, *, cheap: bool = True, third: bool = False, most_blocks: int = 4
) -> SearchProblem:
    """Make a problem of accuracy against latency with nested choices.

    Args:
        limit: Upper limit of the latency, if there is one; of four blocks at most, the smallest
            architecture has a latency of 3, the largest one of 25.
        cheap: Whether the latency is known without evaluation.
        third: Whether multiply-adds are an objective, too.
        most_blocks: Depth of the largest architecture, two choices for each block.
    """
    depth = Choice("depth", tuple(range(1, most_blocks + 1)), "depth")
    blocks = [
        Choice(f"b{b}.{kind}", (1, 2, 3), kind, None if b == 0 else ("depth", b + 1))
        for b in range(most_blocks)
        for kind in ("kernel", "expand")
    ]
    space = SearchSpace((depth, *blocks))

    def latency(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        active = space.active(rows)
        return 1.0 + ((rows[:, 1:] + 1.0) * active[:, 1:]).sum(1)

    def accuracy(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        weights = 1.0 / np.arange(1, len(space) + 1)
        return 1 - np.exp(-(rows + space.active(rows)) @ weights / 4)

    def macs(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        return 1.0 + (rows.astype(np.float64) ** 2).sum(1)

    objectives = [
        Objective("accuracy", "fraction", "maximize", accuracy, "evaluated"),
        Objective("latency_ms", "ms", "minimize", latency, "table" if cheap else "measured"),
    ]
    if third:
        objectives.append(Objective("macs", "MAC", "minimize", macs, "analytic"))
    limits = () if limit is None else (Constraint("latency_ms", at_most=limit),)
    return SearchProblem(space, tuple(objectives), limits)


def check_parts(strategy: ModuleType, fit: FitPredictor) -> None:
    """The module says in a line what it is, and its strategy how large its rounds are."""
    assert isinstance(strategy.SUMMARY, str), "SUMMARY is no text"
    assert "\n" not in strategy.SUMMARY, "SUMMARY has several lines"
    built = strategy.build(fit)
    assert isinstance(built.has_first_sample, bool), "has_first_sample is neither True nor False"
    for evaluated in (0, 1000):
        assert built.batch_size(evaluated) >= 1, f"an empty round after {evaluated} evaluations"


def check_first_sample(strategy: ModuleType, fit: FitPredictor) -> None:
    """It learns from a first sample if, and only if, it says so."""
    task, built = make_problem(most_blocks=10), strategy.build(fit)
    found = search(task, built, evaluations=built.batch_size(0), seed=0).history
    opposite = found.values * [-1, 1]
    turned = History(found.names, found.positions, opposite, found.batches)
    first, second = (
        built.propose(task, known, 10, np.random.default_rng(1)) for known in (found, turned)
    )
    # What learns goes on differently where the values of its sample are turned around.
    learns = not np.array_equal(first, second)
    assert learns == built.has_first_sample, (
        f"has_first_sample is {built.has_first_sample}, but the values of the first round "
        f"{'decide' if learns else 'do not matter for'} what comes next"
    )


def check_proposals(strategy: ModuleType, fit: FitPredictor) -> None:
    """Proposals are new, distinct, canonical and within limits that are known beforehand."""
    for limit in (None, 12.0):
        task, built = make_problem(limit), strategy.build(fit)
        history = History.empty(task.names, len(task.space))
        for batch in range(4):
            rng = np.random.default_rng([0, len(history)])
            rows = built.propose(task, history, 16, rng)
            assert rows.shape == (16, len(task.space)), f"16 rows were asked for: {rows.shape}"
            assert rows.dtype == np.int16, f"positions are int16, not {rows.dtype}"
            assert (rows == task.space.canonical(rows)).all(), "a row is not canonical"
            assert len(history.new(rows)) == 16, "a row was there before, or comes twice"
            assert task.admits(rows).all(), "a row is beyond the limit"
            values = task.cheap_values(rows)
            values[:, 0] = task.objectives[0].evaluate(rows)
            values[batch, 0] = np.nan
            history = history.append(rows, values, batch)


def check_purity(strategy: ModuleType, fit: FitPredictor) -> None:
    """Proposals are a function of the history and the generator, and of nothing else."""
    task, built = make_problem(), strategy.build(fit)
    history = search(task, built, evaluations=60, seed=0).history
    first, second = (built.propose(task, history, 10, np.random.default_rng(3)) for _ in range(2))
    again = strategy.build(fit).propose(task, history, 10, np.random.default_rng(3))
    assert (first == second).all(), "the same history was answered in two ways"
    assert (first == again).all(), "another object answers otherwise: state is kept somewhere"


def check_kinds_of_problems(strategy: ModuleType, fit: FitPredictor) -> None:
    """Expensive costs, a third objective and a tight limit are searched, reproducibly."""
    problems = (make_problem(cheap=False), make_problem(third=True), make_problem(14.0))
    for task in problems:
        first, second = (
            search(task, strategy.build(fit), evaluations=90, seed=1) for _ in range(2)
        )
        assert len(first.history.keys) == len(first.history) == 90
        assert (first.history.positions == second.history.positions).all(), "a seed has two results"
        assert len(first.front) > 3
        assert first.trace[-1] > 0


def check_small_pools(strategy: ModuleType, fit: FitPredictor) -> None:
    """Small pools, ties everywhere and choices of one value are no obstacle."""
    sizes = (1, 3, 3, 1, 3, 3, 3)
    space = SearchSpace(
        tuple(Choice(f"b{i}.expand", tuple(range(n)), "expand") for i, n in enumerate(sizes))
    )
    pool = np.unique(space.sample(np.random.default_rng(0), 150), axis=0)
    latency = Objective("latency_ms", "ms", "minimize", lambda x: 1.0 + x.sum(1), "table")
    gains: tuple[Callable[[NDArray[np.int16]], NDArray[np.float64]], ...] = (
        lambda x: np.sqrt(x).sum(1) / 9,
        lambda x: np.full(len(x), 0.5),
    )
    for gain in gains:
        accuracy = Objective("accuracy", "fraction", "maximize", gain, "evaluated")
        limit = Constraint("latency_ms", at_most=6.5)
        task = SearchProblem(space, (accuracy, latency), (limit,), pool=pool)
        admitted = {row.tobytes() for row in pool[task.admits(pool)]}
        assert 50 < len(admitted) < len(pool) - 15
        result = search(task, strategy.build(fit), evaluations=len(pool), seed=0)
        assert result.history.keys == admitted, "the pool was not searched to its end"
        assert len(result.history) == len(admitted)


def check_failures(strategy: ModuleType, fit: FitPredictor) -> None:
    """A search goes on when every single evaluation fails."""
    task = make_problem()

    def fail(rows: NDArray[np.int16]) -> dict[str, NDArray[np.float64]]:
        return {"accuracy": np.full(len(rows), np.nan)}

    result = search(task, strategy.build(fit), evaluations=70, seed=0, evaluate_batch=fail)
    assert len(result.history) == 70
    assert result.history.failed.all()


def check_models(strategy: ModuleType, fit: FitPredictor) -> None:
    """Models are of expensive quantities only, and finite on what was evaluated."""
    task = make_problem()
    result = search(task, strategy.build(fit), evaluations=60, seed=2)
    assert set(result.models) <= {"accuracy"}, f"models of {sorted(result.models)}"
    for model in result.models.values():
        assert np.isfinite(model.mean(result.history.positions)).all()


def check_strategy(strategy: ModuleType, fit: FitPredictor) -> None:
    """Make every check."""
    for check in CHECKS:
        check(strategy, fit)


CHECKS = (
    check_parts,
    check_first_sample,
    check_proposals,
    check_purity,
    check_kinds_of_problems,
    check_small_pools,
    check_failures,
    check_models,
)

"""The search loop: propose, evaluate, remember, repeat; interrupted runs continue exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from search.arrays.pareto import reference_point
from search.front import ParetoFront, pareto_front
from search.history import Evaluation, History
from search.problem import SearchProblem
from search.stops import EXHAUSTED, Stops, frozen_reference, hypervolume_trace, usable
from search.strategy import Model, Strategy
from supernet.errors import InputError

EvaluateBatch = Callable[[NDArray[np.int16]], Mapping[str, NDArray[np.floating]]]


@dataclass(frozen=True)
class Progress:
    """Where a search stands after a round.

    Args:
        history: Every evaluation so far.
        total: Evaluations asked for.
        front: The current front.
        hypervolume: Of the front, against a reference frozen after the first round (or the one
            the search was given); NaN while nothing is usable.
    """

    history: History
    total: int
    front: ParetoFront
    hypervolume: float

    @property
    def done(self) -> int:
        """Evaluations done."""
        return len(self.history)

    @property
    def failed(self) -> int:
        """Evaluations that failed."""
        return int(self.history.failed.sum())

    @property
    def best(self) -> Mapping[str, float]:
        """The best value of each objective on the front; empty while there is no front."""
        objectives = self.front.problem.objectives
        if not len(self.front):
            return {}
        columns = zip(objectives, self.front.values.T, strict=False)
        return {o.name: float((column * o.sign).min() * o.sign) for o, column in columns}


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        history: Every evaluation, in order.
        front: Non-dominated feasible evaluations.
        reference: Hypervolume reference ``(m,)`` in the objectives' own directions.
        trace: Hypervolume after 1, 2, ... evaluations, ``(n,)``.
        models: Predictors of the expensive quantities, fitted to the whole history.
        stopped: What ended it: ``"evaluations"``, ``"time"``, ``"stagnation"``, or ``"exhausted"``
            when the strategy had nothing left to propose.
    """

    history: History
    front: ParetoFront
    reference: NDArray[np.float64]
    trace: NDArray[np.float64]
    models: Mapping[str, Model]
    stopped: str


def search(
    problem: SearchProblem,
    strategy: Strategy,
    *,
    evaluations: int | None = None,
    seed: int,
    stops: Stops | None = None,
    history: History | None = None,
    known: Mapping[bytes, Mapping[str, float]] | None = None,
    evaluate_batch: EvaluateBatch | None = None,
    chunk: int = 1,
    on_evaluated: Callable[[Evaluation], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
    reference: NDArray[np.floating] | None = None,
) -> SearchResult:
    """Spend a number of evaluations on a problem.

    A run is a function of problem, strategy and seed alone. ``known`` values are taken instead of
    evaluating, and count like any other; so a run that was killed and started again with what it
    had stored evaluates the same architectures as an undisturbed one, and so does a search that
    finds values of earlier searches. Only a time limit makes the length of a run (never its order)
    depend on the machine.

    Args:
        problem: Objectives and limits. Call :func:`search.check_feasible` first.
        strategy: Proposes what to evaluate.
        evaluations: Length of the history to reach; or give ``stops``.
        seed: Seed of every random decision.
        stops: What ends the search, when that is not the number of evaluations alone.
        history: Rows to continue from instead of replaying; an incomplete last round is proposed
            again and its rows are reused.
        known: Values of the expensive quantities by ``positions.tobytes()`` (canonical int16).
        evaluate_batch: Rows ``(k, len(space))`` in, values ``(k,)`` of each expensive quantity
            out; by default the quantities' own functions. NaN marks a failure.
        chunk: Rows handed to ``evaluate_batch`` at once.
        on_evaluated: Called for every row, in order, as soon as its values exist: store them here.
        progress: Called after every round.
        reference: Hypervolume reference in natural directions; by default the worst values seen
            and a margin of a tenth.

    Returns:
        History, front, hypervolume trace, final predictors and why the search ended.

    Raises:
        InputError: ``evaluations`` or ``chunk`` below 1, both or neither of ``evaluations`` and
            ``stops``, or evaluation returned wrong shapes.
    """
    if chunk < 1:
        raise InputError(f"chunk = {chunk} is impossible; it must be at least 1")
    if (evaluations is None) == (stops is None):
        raise InputError("a search needs either evaluations or stops")
    ends = stops if evaluations is None else Stops(evaluations)
    assert ends is not None
    began = time.monotonic()
    cache = dict(known or {})
    done = _complete_rounds(problem, strategy, history, cache)
    evaluate = evaluate_batch or _own_functions(problem)
    fixed = None
    if reference is not None:
        fixed = problem.minimised(np.asarray(reference, dtype=np.float64)[None])[0]
    # Matrices of a few hundred rows: several BLAS threads on a busy machine wait for each other
    # and take tens of times longer than one. Evaluations keep all threads.
    blas = ThreadpoolController().select(user_api="blas")
    while (stopped := ends.met(problem, done, time.monotonic() - began, fixed)) is None:
        wanted = min(strategy.batch_size(len(done)), ends.evaluations - len(done))
        # A full round is proposed even when the budget ends inside it: with a larger budget the
        # same search goes on as if it had been asked for more at once.
        rng = np.random.default_rng([seed, len(done)])
        with blas.limit(limits=1):
            rows = strategy.propose(problem, done, strategy.batch_size(len(done)), rng)[:wanted]
        if not len(rows):
            stopped = EXHAUSTED
            break
        batch = int(done.batches[-1]) + 1 if len(done) else 0
        cheap = problem.cheap_values(rows)
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            values, reused = _values(problem, part, cheap[start : start + chunk], cache, evaluate)
            done = done.append(part, values, batch)
            for row, numbers, old in zip(part, values, reused, strict=True):
                if on_evaluated is not None:
                    named = dict(zip(problem.names, map(float, numbers), strict=True))
                    on_evaluated(Evaluation(row, named, batch, old))
        if progress is not None:
            progress(_progress(problem, done, ends.evaluations, fixed))
    with blas.limit(limits=1):
        return _result(problem, strategy, done, seed, fixed, stopped)


def _progress(
    problem: SearchProblem, history: History, total: int, fixed: NDArray[np.float64] | None
) -> Progress:
    front = pareto_front(problem, history)
    bound = frozen_reference(problem, history) if fixed is None else fixed
    volume = float("nan")
    if bound is not None:
        volume = front.hypervolume(problem.natural(bound[None])[0])
    return Progress(history, total, front, volume)


def _complete_rounds(
    problem: SearchProblem,
    strategy: Strategy,
    history: History | None,
    cache: dict[bytes, Mapping[str, float]],
) -> History:
    empty = History.empty(problem.names, len(problem.space))
    if history is None or not len(history):
        return empty
    if history.names != problem.names:
        raise InputError(
            f"the history holds {', '.join(history.names)}; the problem asks for "
            f"{', '.join(problem.names)}"
        )
    for row, values in zip(history.positions, history.values, strict=True):
        cache.setdefault(row.tobytes(), dict(zip(history.names, values, strict=True)))
    last = history.before(int(history.batches[-1]))
    if len(history) - len(last) == strategy.batch_size(len(last)):
        return history
    return last


def _own_functions(problem: SearchProblem) -> EvaluateBatch:
    def evaluate(rows: NDArray[np.int16]) -> Mapping[str, NDArray[np.floating]]:
        return {quantity.name: quantity.evaluate(rows) for quantity in problem.expensive}

    return evaluate


def _values(
    problem: SearchProblem,
    rows: NDArray[np.int16],
    cheap: NDArray[np.float64],
    cache: dict[bytes, Mapping[str, float]],
    evaluate: EvaluateBatch,
) -> tuple[NDArray[np.float64], list[bool]]:
    """All quantities of the rows, expensive ones from the cache where it has them all."""
    names = [quantity.name for quantity in problem.expensive]
    reused = [all(n in cache.get(row.tobytes(), {}) for n in names) for row in rows]
    todo = np.array([i for i, old in enumerate(reused) if not old], dtype=np.intp)
    if len(todo) and names:
        fresh = evaluate(rows[todo])
        for name in names:
            column = np.asarray(fresh[name], dtype=np.float64) if name in fresh else None
            if column is None or column.shape != (len(todo),):
                raise InputError(
                    f"evaluation of {len(todo)} architectures must return {len(todo)} values of "
                    f"{name!r}; got {'none' if column is None else column.shape}"
                )
        for j, i in enumerate(todo):
            cache[rows[i].tobytes()] = {name: float(fresh[name][j]) for name in names}
    values = cheap.copy()
    for i, row in enumerate(rows):
        for name in names:
            value = cache[row.tobytes()][name]
            # An infinite measurement is a failure too, and never a very good or bad result.
            values[i, problem.column(name)] = value if np.isfinite(value) else np.nan
    return values, reused


def _result(
    problem: SearchProblem,
    strategy: Strategy,
    history: History,
    seed: int,
    fixed: NDArray[np.float64] | None,
    stopped: str,
) -> SearchResult:
    front = pareto_front(problem, history)
    kept = usable(problem, history)
    if fixed is not None:
        bound = fixed
    elif kept.any():
        bound = reference_point(problem.minimised(history.values[kept]))
    else:
        bound = np.full(len(problem.objectives), np.nan)
    reference = problem.natural(bound[None])[0]
    trace = hypervolume_trace(problem, history, reference)
    models = strategy.models(problem, history, seed)
    return SearchResult(history, front, reference, trace, models, stopped)

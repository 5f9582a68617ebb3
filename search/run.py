"""The search loop: propose, evaluate, remember, repeat; interrupted runs continue exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from search.front import ParetoFront, pareto_front
from search.history import Evaluation, History
from search.pareto import hypervolume, reference_point
from search.problem import SearchProblem
from search.strategy import Model, Strategy

EvaluateBatch = Callable[[NDArray[np.int16]], Mapping[str, NDArray[np.floating]]]


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        history: Every evaluation, in order.
        front: Non-dominated feasible evaluations.
        reference: Hypervolume reference ``(m,)`` in the objectives' own directions.
        trace: Hypervolume after 1, 2, ... evaluations, ``(n,)``.
        models: Predictors of the expensive quantities, fitted to the whole history.
    """

    history: History
    front: ParetoFront
    reference: NDArray[np.float64]
    trace: NDArray[np.float64]
    models: Mapping[str, Model]


def search(
    problem: SearchProblem,
    strategy: Strategy,
    *,
    evaluations: int,
    seed: int,
    history: History | None = None,
    known: Mapping[bytes, Mapping[str, float]] | None = None,
    evaluate_batch: EvaluateBatch | None = None,
    chunk: int = 1,
    on_evaluated: Callable[[Evaluation], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    reference: NDArray[np.floating] | None = None,
) -> SearchResult:
    """Spend a number of evaluations on a problem.

    A run is a function of problem, strategy and seed alone. ``known`` values are taken instead of
    evaluating, and count like any other; so a run that was killed and started again with what it
    had stored evaluates the same architectures as an undisturbed one, and so does a search that
    finds values of earlier searches.

    Args:
        problem: Objectives and limits. Call :func:`search.check_feasible` first.
        strategy: Proposes what to evaluate.
        evaluations: Length of the history to reach.
        seed: Seed of every random decision.
        history: Rows to continue from instead of replaying; an incomplete last round is proposed
            again and its rows are reused.
        known: Values of the expensive quantities by ``positions.tobytes()`` (canonical int16).
        evaluate_batch: Rows ``(k, len(space))`` in, values ``(k,)`` of each expensive quantity
            out; by default the quantities' own functions. NaN marks a failure.
        chunk: Rows handed to ``evaluate_batch`` at once.
        on_evaluated: Called for every row, in order, as soon as its values exist: store them here.
        progress: Called with evaluations done and to do.
        reference: Hypervolume reference in natural directions; by default the worst values seen
            and a margin of a tenth.

    Returns:
        History, front, hypervolume trace and final predictors.

    Raises:
        ValueError: ``evaluations`` or ``chunk`` below 1, or evaluation returned wrong shapes.
    """
    if evaluations < 1 or chunk < 1:
        raise ValueError(f"evaluations ({evaluations}) and chunk ({chunk}) must be at least 1")
    cache = dict(known or {})
    done = _complete_rounds(problem, strategy, history, cache)
    evaluate = evaluate_batch or _own_functions(problem)
    # Matrices of a few hundred rows: several BLAS threads on a busy machine wait for each other
    # and take tens of times longer than one. Evaluations keep all threads.
    blas = ThreadpoolController().select(user_api="blas")
    while len(done) < evaluations:
        wanted = min(strategy.batch_size(len(done)), evaluations - len(done))
        # A full round is proposed even when the budget ends inside it: with a larger budget the
        # same search goes on as if it had been asked for more at once.
        rng = np.random.default_rng([seed, len(done)])
        with blas.limit(limits=1):
            rows = strategy.propose(problem, done, strategy.batch_size(len(done)), rng)[:wanted]
        if not len(rows):
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
                progress(len(done), evaluations)
    with blas.limit(limits=1):
        return _result(problem, strategy, done, seed, reference)


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
        raise ValueError(
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
                raise ValueError(
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
    reference: NDArray[np.floating] | None,
) -> SearchResult:
    front = pareto_front(problem, history)
    usable = ~history.failed & (problem.violations(history.values) <= 0).all(axis=1)
    points = problem.minimised(history.values)
    if reference is not None:
        bound = problem.minimised(np.asarray(reference, dtype=np.float64)[None])[0]
    elif usable.any():
        bound = reference_point(points[usable])
    else:
        bound = np.full(len(problem.objectives), np.nan)
    trace = np.zeros(len(history))
    best = points[:0]
    volume = 0.0
    for i, point in enumerate(points):
        if usable[i] and not (best <= point).all(axis=1).any():
            best = np.concatenate((best[~(best >= point).all(axis=1)], point[None]))
            volume = hypervolume(best, bound)
        trace[i] = volume
    models = strategy.models(problem, history, seed)
    return SearchResult(history, front, problem.natural(bound[None])[0], trace, models)

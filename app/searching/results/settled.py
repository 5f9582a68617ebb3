"""The front of a search when all evidence is in: by posterior quality instead of lucky values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.evaluation.pools import WorkerPool
from app.progress import Say, Step
from app.records.numbers import format_items
from app.records.quantities import QUALITIES
from app.searching.objectives import Sources
from app.searching.results.alone_quality import AloneQuality
from app.searching.results.confirm import (
    Confirmed,
    ConfirmRule,
    LoggedFinalists,
    confirm_finalists,
    find_probabilities,
)
from app.searching.results.final_quality import FinalQuality
from predictors import Statistics
from search import History, SearchProblem, SearchResult, indistinguishable, pareto_front
from search.stops import TIME

# Evaluations of finalists on further samples, as a share of those of the search.
CONFIRM_SHARE = 0.2
# Of fewer no model can be fitted.
LEAST_NETWORKS = 3
# A point is named within noise of the front where it belongs there at least so probably.
LEAST_PROBABILITY = 0.05


@dataclass(frozen=True)
class Settled:
    """A search whose evidence is complete.

    Args:
        result: What it found; its front is that of the posterior qualities, and it was stopped by
            time where finalists remained to be looked at.
        qualities: Posterior of every quality that was searched for, by name.
        close: Rows of the history that are off the front and may yet belong there, ascending.
        confirmed: What finalists took where the data has further samples; ``None`` where there are
            none, or no posterior.
        alone: What the quality of the same networks would be, were they trained alone; the front is
            by it where there is one.
    """

    result: SearchResult
    qualities: Mapping[str, FinalQuality]
    close: NDArray[np.intp]
    confirmed: Confirmed | None = None
    alone: AloneQuality | None = None


def settle_front(
    problem: SearchProblem,
    result: SearchResult,
    sources: Sources,
    statistics: Statistics | None,
    seed: int,
    say: Say,
    *,
    pool: WorkerPool | None = None,
    is_late: Callable[[], bool] = lambda: False,
) -> Settled:
    """Confirm finalists, infer posteriors and find the front by them.

    Qualities that are evaluated on samples have an error and get a posterior; where there is none,
    the front is that of the values. So it is where fewer than :data:`LEAST_NETWORKS` were evaluated
    to the end. No point may be left where a limit on the quality held for lucky values alone.

    Args:
        problem: What was searched for.
        result: What the search found by single evaluations.
        sources: Where evaluations are kept.
        statistics: Free numbers of architectures, for the model.
        seed: Of the search.
        say: Told about progress.
        pool: Who evaluates finalists; by default this process.
        is_late: Whether to begin no further round of such evaluations.
    """
    history = result.history
    names = [o.name for o in problem.objectives if o.expensive and o.name in QUALITIES]
    if len(names) != 1:
        return Settled(result, {}, indistinguishable(problem, history))
    (name,) = names
    finalists = LoggedFinalists(problem, history, name, sources.log, statistics, seed, pool)
    if len(finalists) < LEAST_NETWORKS:
        return Settled(result, {}, indistinguishable(problem, history))
    rule = ConfirmRule(evaluations=round(CONFIRM_SHARE * len(history)))
    say(Step(f"search: weighing {format_items(len(finalists), 'evaluation')}", passing=True))
    confirmed = confirm_finalists(problem, history, finalists, rule, seed, say, is_late)
    quality = confirmed.quality
    front = pareto_front(problem, put_in(history, problem, quality))
    probability = find_probabilities(problem, history, quality, seed, membership=True)
    close = np.setdiff1d(np.flatnonzero(probability >= LEAST_PROBABILITY), front.rows)
    stopped = TIME if confirmed.stopped else result.stopped
    return Settled(
        replace(result, front=front, stopped=stopped),
        {name: quality},
        close,
        confirmed if finalists.has_more else None,
    )


def put_in(history: History, problem: SearchProblem, quality: FinalQuality) -> History:
    """The history with posterior means in place of what was evaluated.

    Rows whose quality is not known to the end, such as those of candidates that were stopped
    early, count as failed: no front may hold them.
    """
    values = history.values.copy()
    column = problem.column(quality.name)
    values[:, column] = np.nan
    values[quality.rows, column] = quality.posterior.mean
    return History(history.names, history.positions, values, history.batches)

"""Further evidence where it decides: finalists are evaluated on more samples until one stands out.

A race among the networks that may yet be on the front, or may yet be the best within the limits of
the search. In every round the posterior says how probable that is for each; those of which it is
neither nearly certain nor nearly impossible are evaluated on the next set of further samples, the
most undecided first. What is given up on in a round would belong there with a probability below
``error``, as far as the posterior holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.evaluation.log import EvaluationLog
from app.evaluation.pools import InlinePool, WorkerPool
from app.evaluation.round_work import evaluate_together
from app.evaluation.scheduler import SPLIT
from app.progress import Say, Step
from app.searching.results.contenders import choose_rows
from app.searching.results.evidence import Scored, gather_evidence
from app.searching.results.final_quality import FinalQuality, infer_quality
from predictors import Statistics
from search import History, SearchProblem
from search.arrays.pareto import nondominated
from supernet.data import name_further

Vector = NDArray[np.float64]

DRAWS = 400
# Rows whose place on the front is worked out: those behind have no chance.
MOST_CANDIDATES = 400
_NO_MORE = 1 << 30


@dataclass(frozen=True)
class ConfirmRule:
    """How much is spent on finalists.

    Args:
        evaluations: Most evaluations on further samples, of as many samples as ``val`` has.
        error: A network that belongs where it is raced to with less probability is given up on.
        sets: Most sets of further samples of one network.
    """

    evaluations: int
    error: float = 0.05
    sets: int = 8


@dataclass(frozen=True)
class Confirmed:
    """What is known of finalists in the end.

    Args:
        quality: Of all networks, given everything that was evaluated.
        evaluations: Evaluations on further samples that it took.
        networks: Of so many networks.
        stopped: Whether it was too late to look at all that were in question.
    """

    quality: FinalQuality
    evaluations: int
    networks: int
    stopped: bool = False


class Finalists(Protocol):
    """Networks of a history, what is known of their quality, and how to know more."""

    @property
    def has_more(self) -> bool:
        """Whether there are further samples at all."""
        ...

    def count_sets(self, row: int) -> int:
        """Sets of further samples that a network, by its row, was looked at on."""
        ...

    def look_further(self, rows: Sequence[int], count: Callable[[], None]) -> None:
        """Look at different networks, each on its next set of further samples.

        Args:
            rows: Of the networks.
            count: Called for each as soon as it was looked at.
        """
        ...

    def infer(self) -> FinalQuality:
        """Take all that is known together."""
        ...


def find_probabilities(
    problem: SearchProblem,
    history: History,
    quality: FinalQuality,
    seed: int,
    *,
    membership: bool = False,
) -> Vector:
    """Find how probable it is of every row that it belongs where the search wants it.

    That is on the front; with limits on other quantities and two objectives, whose front has one
    best end within the limits, it is that end alone. A limit on the quality itself holds for what
    it may be, not for what was evaluated.

    Args:
        problem: Objectives and limits; one of the objectives is the quality.
        history: What was evaluated.
        quality: What is known of the quality.
        seed: Of the draws.
        membership: Ask for the front in any case.

    Returns:
        ``(n,)`` over the history; 0 for rows that failed, are beyond a limit, or of which the
        quality is not known.
    """
    probability = np.zeros(len(history))
    column = problem.column(quality.name)
    objective = problem.quantities[column]
    violated = problem.violations(history.values) > 0
    limits = [c for c in problem.constraints if c.objective == quality.name]
    exact = [c.objective != quality.name for c in problem.constraints]
    feasible = ~history.failed & ~violated[:, exact].any(axis=1)
    mine = np.flatnonzero(feasible[quality.rows])
    mine = mine[_find_plausible(problem, history, quality, mine)]
    rows = quality.rows[mine]
    if not len(rows):
        return probability
    drawn = quality.posterior.draw(mine, DRAWS, np.random.default_rng(seed))
    points = problem.minimised(history.values[rows])
    alone = seeks_best(problem, quality.name) and not membership
    counts = np.zeros(len(rows))
    for values in drawn:
        points[:, column] = values * objective.sign
        within = np.ones(len(rows), dtype=np.bool_)
        for limit in limits:
            within &= limit.violation(values) <= 0
        places = np.flatnonzero(within)
        if alone and len(places):
            counts[places[points[places, column].argmin()]] += 1
        elif len(places):
            counts[places[nondominated(points[places])]] += 1
    probability[rows] = counts / DRAWS
    return probability


def seeks_best(problem: SearchProblem, name: str) -> bool:
    """Whether a search wants one best network within limits, rather than a whole front."""
    return len(problem.objectives) == 2 and any(c.objective != name for c in problem.constraints)


def _find_plausible(
    problem: SearchProblem, history: History, quality: FinalQuality, mine: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Which of some rows are not dominated by far, at most so many; places in ``mine``."""
    column = problem.column(quality.name)
    sign = problem.quantities[column].sign
    points = problem.minimised(history.values[quality.rows[mine]])
    mean = quality.posterior.mean[mine] * sign
    deviation = quality.posterior.deviation[mine]
    hopeful, sober = points.copy(), points.copy()
    hopeful[:, column], sober[:, column] = mean - 3 * deviation, mean + 3 * deviation
    behind = np.array(
        [
            ((sober <= point).all(axis=1) & (sober < point).any(axis=1)).any() for point in hopeful
        ],
        dtype=np.bool_,
    )  # fmt: skip
    kept = np.flatnonzero(~behind)
    if len(kept) > MOST_CANDIDATES:
        kept = np.sort(kept[np.argsort(-deviation[kept], kind="stable")[:MOST_CANDIDATES]])
    return kept


def confirm_finalists(
    problem: SearchProblem,
    history: History,
    finalists: Finalists,
    rule: ConfirmRule,
    seed: int,
    say: Say,
    is_late: Callable[[], bool] = lambda: False,
) -> Confirmed:
    """Infer the quality of networks, looking at those in question on further samples.

    Args:
        problem: Objectives and limits.
        history: What the search evaluated.
        finalists: What is known of the networks, and how to know more.
        rule: How much is spent.
        seed: Of the search.
        say: Told about progress.
        is_late: Whether to begin no further round; the one under way is finished.
    """
    quality = finalists.infer()
    spent = 0
    looked: set[int] = set()

    def tell() -> None:
        say(Step("confirm: looking at finalists again", spent, rule.evaluations, "evaluation"))

    def count() -> None:
        nonlocal spent
        spent += 1
        tell()

    while finalists.has_more and spent < rule.evaluations:
        probability = find_probabilities(problem, history, quality, seed)
        undecided = [
            int(row)
            for row in quality.rows
            if rule.error < probability[row] < 1 - rule.error
            and finalists.count_sets(row) < rule.sets
        ]
        # A single one that may yet be the best has nobody left to be compared with.
        if len(undecided) < 1 + seeks_best(problem, quality.name):
            break
        if is_late():
            return Confirmed(quality, spent, len(looked), stopped=True)
        # The most open questions first.
        undecided.sort(key=lambda row: (abs(probability[row] - 0.5), row))
        asked = undecided[: rule.evaluations - spent]
        # The first of a round may take long: it must not seem that what was told before does.
        tell()
        finalists.look_further(asked, count)
        looked.update(asked)
        quality = finalists.infer()
    return Confirmed(quality, spent, len(looked))


class LoggedFinalists:
    """Networks of a run: what is looked at is in its log, and looked up there the next time.

    Args:
        problem: Objectives of the search.
        history: What it evaluated.
        name: The quality.
        log: Where evaluations are kept.
        statistics: Free numbers of architectures, for the model.
        seed: Of the search.
        pool: Who evaluates; by default this process.
    """

    def __init__(
        self,
        problem: SearchProblem,
        history: History,
        name: str,
        log: EvaluationLog,
        statistics: Statistics | None,
        seed: int,
        pool: WorkerPool | None = None,
    ) -> None:
        self._problem, self._history, self._name = problem, history, name
        self._log, self._statistics, self._seed = log, statistics, seed
        self._pool = pool
        architectures = problem.space.decode(history.positions)
        records = {
            row: record
            for row, architecture in enumerate(architectures)
            if (record := log.find(architecture, SPLIT)) is not None
            and record.value is not None
            and not history.failed[row]
        }
        rows = np.array(sorted(records), dtype=np.intp)
        self._rows = choose_rows(problem, history, name, rows)
        self._architectures = {int(row): architectures[row] for row in self._rows}
        self._records = {int(row): [records[int(row)]] for row in self._rows}
        self._looks = dict.fromkeys(self._records, 0)
        self._scored: dict[int, Scored] = {}

    def __len__(self) -> int:
        """Networks whose quality was evaluated to the end, up to as many as are weighed."""
        return len(self._rows)

    @property
    def has_more(self) -> bool:
        """Whether the data has further samples."""
        return self._log.trained.data.further is not None

    def count_sets(self, row: int) -> int:
        """Sets of further samples that a network was looked at on; endless once one failed."""
        return self._looks[row]

    def look_further(self, rows: Sequence[int], count: Callable[[], None]) -> None:
        """Evaluate networks on their next sets; one that fails there keeps what is known."""
        log = self._log
        pool = self._pool or InlinePool(log.trained, log.caches, log.calibration_samples)
        wanted = [(self._architectures[row], name_further(self._looks[row] + 1)) for row in rows]
        for row, record in zip(rows, evaluate_together(log, pool, wanted, count), strict=True):
            if record.value is None:
                # With a gap in its sets it could not be compared with others sample by sample.
                self._looks[row] = _NO_MORE
                continue
            self._looks[row] += 1
            self._records[row].append(record)
            self._scored.pop(row, None)

    def infer(self) -> FinalQuality:
        """Take all that is known together."""
        data = self._log.trained.data
        for row in map(int, self._rows):
            if row not in self._scored:
                self._scored[row] = Scored.from_records(self._records[row], data)
        evidence = gather_evidence([self._scored[int(row)] for row in self._rows], self._seed)
        return infer_quality(
            self._problem,
            self._history,
            self._name,
            self._rows,
            evidence,
            self._statistics,
            self._seed,
        )

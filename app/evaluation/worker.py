"""The work of a worker: one architecture evaluated, as far as its race needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from app.evaluation.race_bounds import Bound, RaceRule, Scores, find_stop
from app.records.quantities import QUANTITIES
from supernet.data import IMAGES, DataSource
from supernet.quality.evaluate import (
    BatchCache,
    StatisticsCache,
    recalibrate_extracted,
    score_samples,
    summarise_scores,
)
from supernet.space import Architecture, Value
from supernet.supernet import Supernet

# Of what a record keeps of single samples, beyond races: 65,536 answers or 2,048 losses.
MOST_SCORE_BYTES = 8192
# What a network that cannot be run raises; anything else is a bug and ends the search.
FAILURES = (RuntimeError, ValueError, ArithmeticError, MemoryError)


class TrainedNetwork(Protocol):
    """What a worker evaluates with."""

    @property
    def supernet(self) -> Supernet:
        """The network, in eval mode, with its weights."""
        ...

    @property
    def data(self) -> DataSource:
        """What it is evaluated on; may raise InputError when the data is gone."""
        ...

    @property
    def quality(self) -> str:
        """The quantity that it is judged by."""
        ...

    @property
    def estimator(self) -> str:
        """How ranges of activations follow from their values."""
        ...


@dataclass(frozen=True)
class Caches:
    """What is kept from one evaluation to the next, of one set of weights."""

    batches: BatchCache = field(default_factory=BatchCache)
    statistics: StatisticsCache = field(default_factory=StatisticsCache)


@dataclass(frozen=True)
class Task:
    """One architecture to evaluate.

    Args:
        choices: The architecture, as ``Architecture.to_dict``.
        split: Which split.
        rule: How to race; ``None`` to evaluate on the whole split.
        rival: Scores of the rival in the rule's order, or its value; ``None`` for no rival.
    """

    choices: Mapping[str, Value]
    split: str = "val"
    rule: RaceRule | None = None
    rival: Scores | float | None = None


@dataclass(frozen=True)
class Finding:
    """What came of a task.

    Args:
        objective: ``"accuracy"`` or ``"loss"``.
        unit: The unit of the value.
        value: The value on the whole split; the estimate of a stopped candidate; NaN for a failure.
        low: Lower end of the 95 % interval; of the bound for a stopped candidate.
        high: Upper end.
        samples: Samples looked at.
        total: Samples in the split.
        used: Calibration samples used.
        seconds: Spent.
        scores: The score of each sample in the rule's order, as far as it was evaluated; of races,
            and where samples are few.
        failure: Why there is no value.
        balanced: Mean accuracy over the classes, of a candidate that saw the whole split.
        fingerprint: Fingerprint of further samples, as the worker has them.
    """

    objective: str
    unit: str
    value: float
    low: float
    high: float
    samples: int
    total: int
    used: int
    seconds: float
    scores: NDArray[np.float32] | None = None
    failure: str | None = None
    balanced: float | None = None
    fingerprint: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether the candidate was stopped before the whole split."""
        return self.samples < self.total


def work(trained: TrainedNetwork, caches: Caches, samples: int, task: Task) -> Finding:
    """Evaluate an architecture; one that cannot be run becomes a finding that says why.

    Args:
        trained: Network, weights and data.
        caches: Kept from one task to the next.
        samples: Calibration samples.
        task: What to evaluate.

    Raises:
        InputError: Unknown split, or data that is not there.
    """
    finding = _work(trained, caches, samples, task)
    return replace(finding, fingerprint=trained.data.fingerprint_further(task.split))


def _work(trained: TrainedNetwork, caches: Caches, samples: int, task: Task) -> Finding:
    began = time.perf_counter()
    data = trained.data
    total = len(data.split(task.split))
    quality = QUANTITIES[trained.quality]
    try:
        architecture = trained.supernet.space.architecture(task.choices)
        finding = _evaluate(trained, architecture, caches, samples, task, began)
        if np.isfinite(finding.value):
            return finding
        reason = "the value is not a finite number"
    except FAILURES as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    nan = float("nan")
    seconds = time.perf_counter() - began
    return Finding(
        quality.name, quality.unit, nan, nan, nan, total, total, 0, seconds, failure=reason
    )


def _evaluate(
    trained: TrainedNetwork,
    architecture: Architecture,
    caches: Caches,
    samples: int,
    task: Task,
    began: float,
) -> Finding:
    supernet, data = trained.supernet, trained.data
    total = len(data.split(task.split))
    # As in supernet.quality.evaluate.evaluate, whose values these are to the last bit.
    with torch.inference_mode():
        model = supernet.extract(architecture)
        used = recalibrate_extracted(
            model,
            supernet,
            architecture,
            data,
            samples,
            cache=caches.batches,
            statistics=caches.statistics,
            estimator=trained.estimator,
        )

        def score(rows: NDArray[np.intp] | None) -> Scores:
            found = score_samples(
                model, supernet, architecture, data, task.split, rows=rows, cache=caches.batches
            )
            if not np.isfinite(found).all():
                raise ArithmeticError("outputs of the network are not finite numbers")
            return found

        scores, bound = _score_until_stopped(score, total, task, maximize=data.shape.task == IMAGES)
    seconds = time.perf_counter() - began
    whole = scores
    if task.rule is not None and bound is None:
        whole = np.empty_like(scores)
        whole[task.rule.draw_order(total)] = scores
    elif task.rule is None:
        scores = scores[RaceRule().draw_order(total)]
    split = data.split(task.split) if bound is None else None
    found = summarise_scores(whole, data.shape.task, task.split, used, seconds, split)
    known = (found.value, found.low, found.high)
    value, low, high = known if bound is None else (bound.estimate, bound.low, bound.high)
    return Finding(
        objective=found.objective,
        unit=found.unit,
        value=value,
        low=low,
        high=high,
        samples=len(scores),
        total=total,
        used=used,
        seconds=seconds,
        scores=scores.astype(np.float32) if _keeps(task, total, data) else None,
        balanced=found.balanced,
    )


def _keeps(task: Task, total: int, data: DataSource) -> bool:
    """Whether the scores of single samples are worth the place in the log: of races, and few."""
    answers = data.shape.task == IMAGES
    size = total / 8 if answers else 4 * total
    return task.rule is not None or size <= MOST_SCORE_BYTES


def _score_until_stopped(
    score: Callable[[NDArray[np.intp] | None], Scores], total: int, task: Task, *, maximize: bool
) -> tuple[Scores, Bound | None]:
    """Score as far as needed: the scores in the rule's order, and the bound that stopped."""
    rule = task.rule
    if rule is None:
        return score(None), None
    order = rule.draw_order(total)
    if task.rival is None:
        return score(None)[order], None
    seen: Scores = np.zeros(0)
    for count in rule.list_stages(total):
        seen = np.concatenate((seen, score(order[len(seen) : count])))
        bound = find_stop(seen, total, task.rival, rule, maximize=maximize)
        if bound is not None and count < total:
            return seen, bound
    return seen, None

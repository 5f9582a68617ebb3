"""Where architectures are evaluated: in this process, or in several."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.evaluation.early_stop import Bound, Racing, Scores, race
from app.records.quantities import QUANTITIES
from app.runs.directory import open_run
from app.runs.trained import Trained, open_trained
from supernet.data import IMAGES
from supernet.quality.evaluate import (
    BatchCache,
    StatisticsCache,
    calibrate_extracted,
    sample_scores,
    summary,
)
from supernet.space import Architecture, Value

# What a network that cannot be run raises; anything else is a bug and ends the search.
FAILURES = (RuntimeError, ValueError, ArithmeticError, MemoryError)


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
    rule: Racing | None = None
    rival: Scores | float | None = None


@dataclass(frozen=True)
class Finding:
    """What came of a task.

    Args:
        objective: ``"accuracy"`` or ``"loss"``.
        unit: Of the value.
        value: On the whole split; the estimate of a stopped candidate; NaN for a failure.
        low: Lower end of the 95 % interval; of the bound for a stopped candidate.
        high: Upper end.
        samples: Samples looked at.
        total: Samples in the split.
        used: Calibration samples used.
        seconds: Spent.
        scores: Of a raced candidate, in the rule's order, as far as it was evaluated.
        failure: Why there is no value.
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

    @property
    def stopped(self) -> bool:
        """Whether the candidate was stopped before the whole split."""
        return self.samples < self.total


@dataclass(frozen=True)
class Setup:
    """What a worker opens, once.

    Args:
        run: The run directory; every machine must see it under this path.
        checkpoint: Digest of the weights that the results are for.
        calibration_samples: As for :func:`supernet.quality.evaluate.evaluate`.
        workers: How many share the processor.
    """

    run: str
    checkpoint: str
    calibration_samples: int
    workers: int = 1


class Pool(Protocol):
    """Evaluates tasks, several at a time."""

    width: int

    def submit(self, task: Task) -> Future[Finding]:
        """Begin a task."""
        ...

    def restart(self) -> None:
        """Replace workers that died; what was in flight is lost."""
        ...

    def close(self) -> None:
        """Let go of all workers."""
        ...


def work(trained: Trained, caches: Caches, samples: int, task: Task) -> Finding:
    """Evaluate an architecture; one that cannot be run becomes a finding that says why.

    Args:
        trained: Network, weights and data.
        caches: Kept from one task to the next.
        samples: Calibration samples.
        task: What to evaluate.

    Raises:
        ValueError: Unknown split, or data that is not there.
    """
    began = time.perf_counter()
    data = trained.data
    total = len(data.split(task.split))
    quality = QUANTITIES[trained.quality]
    try:
        architecture = trained.supernet.space.architecture(task.choices)
        finding = _evaluated(trained, architecture, caches, samples, task, began)
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


def _evaluated(
    trained: Trained,
    architecture: Architecture,
    caches: Caches,
    samples: int,
    task: Task,
    began: float,
) -> Finding:
    import torch

    supernet, data = trained.supernet, trained.data
    total = len(data.split(task.split))
    # As in supernet.evaluate.evaluate, whose values these are to the last bit.
    with torch.inference_mode():
        model = supernet.extract(architecture)
        used = calibrate_extracted(
            model, supernet, architecture, data, samples,
            cache=caches.batches, statistics=caches.statistics,
        )  # fmt: skip

        def score(rows: NDArray[np.intp] | None) -> Scores:
            found = sample_scores(
                model, supernet, architecture, data, task.split, rows=rows, cache=caches.batches
            )
            if not np.isfinite(found).all():
                raise ArithmeticError("outputs of the network are not finite numbers")
            return found

        scores, bound = _scored(score, total, task, maximize=data.shape.task == IMAGES)
    seconds = time.perf_counter() - began
    whole = scores
    if task.rule is not None and bound is None:
        whole = np.empty_like(scores)
        whole[task.rule.order(total)] = scores
    found = summary(whole, data.shape.task, task.split, used, seconds)
    value, low, high = found.value, found.low, found.high
    if bound is not None:
        value, low, high = bound.estimate, bound.low, bound.high
    kept = None if task.rule is None else scores.astype(np.float32)
    return Finding(found.objective, found.unit, value, low, high, len(scores), total, used,
                   seconds, kept)  # fmt: skip


def _scored(
    score: Callable[[NDArray[np.intp] | None], Scores], total: int, task: Task, *, maximize: bool
) -> tuple[Scores, Bound | None]:
    """Scores as far as they were needed, in the rule's order, and the bound that stopped them."""
    rule = task.rule
    if rule is None:
        return score(None), None
    order = rule.order(total)
    if task.rival is None:
        return score(None)[order], None
    seen: Scores = np.zeros(0)
    for count in rule.stages(total):
        seen = np.concatenate((seen, score(order[len(seen) : count])))
        bound = race(seen, total, task.rival, rule, maximize=maximize)
        if bound is not None and count < total:
            return seen, bound
    return seen, None


class InlinePool:
    """This process; a task is done when ``submit`` returns."""

    width = 1

    def __init__(self, trained: Trained, caches: Caches, samples: int) -> None:
        self._do = lambda task: work(trained, caches, samples, task)

    def submit(self, task: Task) -> Future[Finding]:
        """Evaluate now."""
        future: Future[Finding] = Future()
        try:
            future.set_result(self._do(task))
        except Exception as error:
            future.set_exception(error)
        return future

    def restart(self) -> None:
        """Nothing: this process lives."""

    def close(self) -> None:
        """Nothing: there are no workers."""


class ProcessPool:
    """Fresh processes on this machine, each with the run opened once.

    Args:
        setup: What each opens; ``setup.workers`` is their number.
    """

    def __init__(self, setup: Setup) -> None:
        self.width = setup.workers
        self._setup = setup
        self._executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        # Forked children would share locks of threads that torch has started already.
        return ProcessPoolExecutor(self.width, mp_context=get_context("spawn"))

    def submit(self, task: Task) -> Future[Finding]:
        """Begin a task in a free process."""
        return self._executor.submit(work_apart, self._setup, task)

    def restart(self) -> None:
        """Start all processes anew."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._start()

    def close(self) -> None:
        """Drop what has not begun; what has begun ends by itself."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def work_apart(setup: Setup, task: Task) -> Finding:
    """:func:`work` in a process of its own, which opens the run for its first task."""
    trained, caches = _opened(setup)
    return work(trained, caches, setup.calibration_samples, task)


@lru_cache(maxsize=1)
def _opened(setup: Setup) -> tuple[Trained, Caches]:
    """The run of a setup, in a worker.

    Raises:
        ValueError: It cannot be seen from here, or has other weights by now.
    """
    import torch

    _follow_parent()
    # Ctrl-C reaches all processes of a terminal; the one that asked says what became of it.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    trained = open_trained(open_run(Path(setup.run)), lambda _: None)
    if trained.checkpoint.digest != setup.checkpoint:
        raise ValueError(
            f"{setup.run} has weights {trained.checkpoint.digest} by now; the search began with "
            f"{setup.checkpoint}: run the same command again"
        )
    if "OMP_NUM_THREADS" not in os.environ:
        share = max(1, (os.cpu_count() or 1) // setup.workers)
        torch.set_num_threads(min(share, torch.get_num_threads()))
    return trained, Caches()


def _follow_parent() -> None:
    """End with the process that started this one, however it ends.

    A pool's worker waits for work on a pipe that it holds open itself, so it would wait for ever
    when its parent is killed.
    """
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

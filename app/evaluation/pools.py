"""Pools of workers: this process alone, or fresh processes of this machine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Protocol

from app.evaluation.worker import Caches, Finding, Task, TrainedNetwork, work


@dataclass(frozen=True)
class Setup:
    """What a worker opens, once.

    Args:
        run: The run directory; every machine must see it under this path.
        checkpoint: Digest of the weights that the results are for.
        calibration_samples: As for :func:`supernet.quality.evaluate.evaluate`.
        workers: How many share the processor.
        trusted: Dotted paths of a user's own modules that the run's files may name.
    """

    run: str
    checkpoint: str
    calibration_samples: int
    workers: int = 1
    trusted: tuple[str, ...] = ()


WorkApart = Callable[["Setup", Task], Finding]
"""Does a task in a worker, which opens the run of the setup for its first one."""


class WorkerPool(Protocol):
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


class InlinePool:
    """This process; a task is done when ``submit`` returns."""

    width = 1

    def __init__(self, trained: TrainedNetwork, caches: Caches, samples: int) -> None:
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
        """Do nothing: this process lives."""

    def close(self) -> None:
        """Do nothing: there are no workers."""


class ProcessPool:
    """Fresh processes on this machine; each opens the run once.

    Args:
        setup: What each opens; ``setup.workers`` is their number.
        work: Does a task there; a function of a module, so that processes find it.
    """

    def __init__(self, setup: Setup, work: WorkApart) -> None:
        self.width = setup.workers
        self._setup, self._work = setup, work
        self._executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        # Forked children would share locks of threads that torch has started already.
        return ProcessPoolExecutor(self.width, mp_context=get_context("spawn"))

    def submit(self, task: Task) -> Future[Finding]:
        """Begin a task in a free process."""
        return self._executor.submit(self._work, self._setup, task)

    def restart(self) -> None:
        """Start all processes anew."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._start()

    def close(self) -> None:
        """Drop what has not begun; what has begun ends by itself."""
        self._executor.shutdown(wait=True, cancel_futures=True)

"""Pools of workers: what every pool can do, and the one that is this process alone."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from app.evaluation.worker import Caches, Finding, Task, TrainedNetwork, work


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

"""Processes of this machine as workers, each of which opens the run itself."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path

import torch

from app.evaluation.worker import Caches, Finding, Task, work
from app.runs.directory import open_run
from app.runs.trained import Trained, open_trained


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


class ProcessPool:
    """Fresh processes on this machine; each opens the run once.

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
    """Do a task in a process of its own, which opens the run for its first one."""
    trained, caches = _open_once(setup)
    return work(trained, caches, setup.calibration_samples, task)


@lru_cache(maxsize=1)
def _open_once(setup: Setup) -> tuple[Trained, Caches]:
    """Open the run of a setup, in a worker.

    Raises:
        ValueError: It cannot be seen from here, or has other weights by now.
    """
    _follow_parent()
    # Ctrl-C reaches all processes of a terminal; the one that asked says what became of it.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    trained = open_trained(open_run(Path(setup.run), setup.trusted), lambda _: None)
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

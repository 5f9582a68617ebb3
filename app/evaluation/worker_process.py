"""A worker in a process of its own, on this machine or another: it opens the run itself."""

from __future__ import annotations

import os
import signal
import threading
from functools import lru_cache
from multiprocessing import parent_process
from pathlib import Path

import torch

from app.evaluation.pools import Setup
from app.evaluation.worker import Caches, Finding, Task, work
from app.runs.directory import open_run
from app.runs.trained import Trained, open_trained
from hardware.processors import count_allowed_processors
from supernet.errors import InputError


def work_apart(setup: Setup, task: Task) -> Finding:
    """Do a task in a process of its own, which opens the run for its first one."""
    trained, caches = _open_once(setup)
    return work(trained, caches, setup.calibration_samples, task)


@lru_cache(maxsize=1)
def _open_once(setup: Setup) -> tuple[Trained, Caches]:
    """Open the run of a setup, in a worker.

    Raises:
        InputError: It cannot be seen from here, or has other weights by now.
    """
    _follow_parent()
    # Ctrl-C reaches all processes of a terminal; the one that asked says what became of it.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    trained = open_trained(open_run(Path(setup.run), setup.trusted), lambda _: None)
    if trained.checkpoint.digest != setup.checkpoint:
        raise InputError(
            f"{setup.run} has weights {trained.checkpoint.digest} by now; the search began with "
            f"{setup.checkpoint}: run the same command again"
        )
    if "OMP_NUM_THREADS" not in os.environ:
        share = max(1, count_allowed_processors() // setup.workers)
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

"""Choosing who evaluates: this process, several of this machine, or a Ray cluster."""

from __future__ import annotations

import os

from app.evaluation.log import EvaluationLog
from app.evaluation.pools import InlinePool, ProcessPool, Setup, WorkerPool
from app.evaluation.ray_pool import RayPool
from app.evaluation.worker_process import work_apart
from supernet.errors import InputError


def open_pool(log: EvaluationLog, *, workers: int = 1, ray: str | None = None) -> WorkerPool:
    """Open the pool that evaluates.

    Args:
        log: The log of the run, with its calibration.
        workers: Processes, or actors of Ray; one evaluates in this process.
        ray: Address of a Ray cluster (``"auto"``, ``"local"`` or ``HOST:PORT``), which must see
            the run directory under the same path; ``None`` for this machine alone.

    Raises:
        InputError: Fewer than one worker, or no cluster at the address.
        ModuleNotFoundError: Ray is not installed.
    """
    if workers < 1:
        raise InputError(f"workers = {workers} is impossible; use at least 1")
    trained = log.trained
    run = os.path.abspath(trained.run.path)
    digest = trained.checkpoint.digest
    setup = Setup(run, digest, log.calibration_samples, workers, trained.run.trusted)
    if ray is not None:
        return RayPool(setup, ray, work_apart)
    if workers == 1:
        return InlinePool(trained, log.caches, log.calibration_samples)
    return ProcessPool(setup, work_apart)

"""Architectures evaluated on the machines of a Ray cluster."""

from __future__ import annotations

import socket
from concurrent.futures import Future
from typing import Any

import numpy as np

from app.evaluation.pools import Setup, WorkApart
from app.evaluation.worker import Finding, Task
from app.runs.addresses import hide_secrets, show_address
from supernet.errors import InputError, MissingPackageError
from supernet.reproducible import use_reproducible_kernels

_PATIENCE_SECONDS = 10.0


class RayPool:
    """Actors of a Ray cluster, each with the run opened once.

    Args:
        setup: What each opens; the run must lie where every machine sees it.
        address: Of the cluster: ``"auto"``, ``"local"`` for one on this machine alone, or
            ``HOST:PORT``.
        work: Does a task in an actor.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        InputError: There is no cluster at the address.
    """

    def __init__(self, setup: Setup, address: str, work: WorkApart) -> None:
        ray = self._ray = _import_ray()
        self.width = setup.workers
        self._setup, self._work = setup, work
        self._ours = not ray.is_initialized()
        if self._ours:
            _require_listener(address)
            try:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise _no_cluster(address, str(error)) from error
        self._actors: list[Any] = []
        self._busy: list[int] = []
        self.restart()

    def submit(self, task: Task) -> Future[Finding]:
        """Begin a task with the actor that has the least to do."""
        chosen = int(np.argmin(self._busy))
        self._busy[chosen] += 1
        future: Future[Finding] = self._actors[chosen].run.remote(task).future()
        busy = self._busy

        def release(_: Future[Finding]) -> None:
            busy[chosen] -= 1

        future.add_done_callback(release)
        return future

    def restart(self) -> None:
        """Start new actors for the old."""
        for actor in self._actors:
            self._ray.kill(actor)
        actor = self._ray.remote(num_cpus=1)(_Actor)
        self._actors = [actor.remote(self._setup, self._work) for _ in range(self.width)]
        self._busy = [0] * self.width

    def close(self) -> None:
        """End the actors, and the connection if it was made here."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._ours:
            self._ray.shutdown()


class _Actor:
    """One worker of a Ray cluster."""

    def __init__(self, setup: Setup, work: WorkApart) -> None:
        # Other machines of a cluster do not inherit this one's environment.
        use_reproducible_kernels()
        self._setup, self._work = setup, work

    def run(self, task: Task) -> Finding:
        """Evaluate a task."""
        return self._work(self._setup, task)


def _require_listener(address: str) -> None:
    """Refuse ``HOST:PORT`` where nobody listens at once; Ray would try for minutes.

    Raises:
        InputError: Nobody listens there.
    """
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, reason: str) -> ValueError:
    first = reason.strip().splitlines()[0] if reason.strip() else "no answer"
    reason = hide_secrets(first, address)
    return InputError(
        f"there is no Ray cluster at {show_address(address)!r} ({reason}); start one with "
        "`ray start --head`, or use local"
    )


def _import_ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingPackageError(
            "evaluating on Ray needs ray, which is not installed; "
            "run: pip install 'supernet[ray]', or use --workers for processes on this machine",
            name="ray",
        ) from None
    return ray

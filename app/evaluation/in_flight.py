"""Tasks in flight in a pool of workers that may die once: then they are lost, and it restarts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Protocol

from app.evaluation.worker import Finding, Task
from supernet.errors import InputError

# How Ray says that a worker ended; its exceptions cannot be imported where it is not installed.
_RAY_DEATHS = (
    "RayActorError",
    "ActorDiedError",
    "ActorUnavailableError",
    "WorkerCrashedError",
    "OutOfMemoryError",
)


class RestartablePool(Protocol):
    """The part of a pool of workers that is needed here."""

    def submit(self, task: Task) -> Future[Finding]:
        """Begin a task."""
        ...

    def restart(self) -> None:
        """Replace workers that died; what was in flight is lost."""
        ...


class InFlight:
    """What a pool works on in one round.

    Args:
        pool: Who evaluates; it is restarted when its workers die for the first time.
    """

    def __init__(self, pool: RestartablePool) -> None:
        self._pool = pool
        self._flying: dict[Future[Finding], int] = {}
        self._names: dict[int, str] = {}
        self._has_restarted = False

    def submit(self, index: int, name: str, task: Task) -> None:
        """Begin a task.

        Args:
            index: Under which :meth:`collect` gives the finding back.
            name: What the architecture is called in a message.
            task: What to evaluate.
        """
        self._names[index] = name
        try:
            future = self._pool.submit(task)
        except Exception as error:
            if not _is_death(error):
                raise
            # Workers that died since the last findings; collecting restarts them.
            future = Future()
            future.set_exception(error)
        self._flying[future] = index

    def collect(self) -> Iterator[tuple[int, Finding | None]]:
        """Wait for the next findings.

        Yields:
            ``(index, finding)`` for each task that is done, lowest index first; then, when
            workers died, ``(index, None)`` for each task that was lost with them.

        Raises:
            InputError: A worker cannot do its task and says why, or workers died for the second
                time.
        """
        death = None
        for future in sorted(self._wait(), key=self._flying.__getitem__):
            try:
                finding = future.result()
            except InputError as error:
                # From a worker: with a trace of another process, but for the user all the same.
                raise InputError(str(error)) from error
            except Exception as error:
                if not _is_death(error):
                    raise
                death = error
            else:
                yield self._flying.pop(future), finding
        if death is not None:
            lost = sorted(self._flying.values())
            self._restart([self._names[index] for index in lost], death)
            self._flying.clear()
            yield from ((index, None) for index in lost)

    def _wait(self) -> set[Future[Finding]]:
        if not self._flying:
            return set()
        return wait(self._flying, return_when=FIRST_COMPLETED).done

    def _restart(self, lost: list[str], death: Exception) -> None:
        if self._has_restarted:
            raise InputError(
                "a worker died twice in one round, probably for lack of memory, while "
                f"{', '.join(lost)} were evaluated; all that is finished is kept: run the same "
                "command again with fewer workers"
            ) from death
        self._has_restarted = True
        self._pool.restart()


def _is_death(error: Exception) -> bool:
    """Whether a worker ended, rather than an evaluation."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ in _RAY_DEATHS

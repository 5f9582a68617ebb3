"""The order of one round: what is evaluated next, what is in flight and what is done."""

from __future__ import annotations

import heapq

import numpy as np


class RoundQueue:
    """The places of a round, handed out in rising order.

    Args:
        count: Places in the round.
        depth: How many may be in flight at once.
        lag: A place may start only when all are done that lie at least so many before it, so that
            a race's rivals are the same whoever finishes first; ``None`` for no such wait.
    """

    def __init__(self, count: int, *, depth: int, lag: int | None = None) -> None:
        self._depth, self._lag = depth, lag
        # A sorted list is a heap.
        self._waiting = list(range(count))
        self._flying: set[int] = set()
        self._done = np.zeros(count, dtype=bool)

    @property
    def is_done(self) -> bool:
        """Whether every place is done."""
        return bool(self._done.all())

    def take(self) -> int | None:
        """Take the next place that may start; ``None`` when none may before another is done."""
        if not self._waiting or len(self._flying) >= self._depth:
            return None
        index = self._waiting[0]
        if self._lag is not None and not self._done[: max(0, index - self._lag + 1)].all():
            return None
        self._flying.add(heapq.heappop(self._waiting))
        return index

    def finish(self, index: int) -> None:
        """Mark a place that was taken as done."""
        self._flying.remove(index)
        self._done[index] = True

    def put_back(self, index: int) -> None:
        """Let a place that was taken and lost wait again, before all later ones."""
        self._flying.remove(index)
        heapq.heappush(self._waiting, index)

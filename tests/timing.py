"""How long things take in units of other things, which a slow or busy machine leaves alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from numpy.typing import NDArray


def least_seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Processor time of a call, the least of several: what disturbs one does not disturb all."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds)


def saved_by_batching(call: Callable[[NDArray], object], rows: NDArray, alone: int = 200) -> float:
    """How many times as long a row takes alone as among all the others."""
    call(rows[:2])  # whatever is made once
    single = least_seconds(lambda: [call(row[None]) for row in rows[:alone]], 3) / alone
    return single / (least_seconds(lambda: call(rows), 3) / len(rows))

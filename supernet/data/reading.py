"""Reading many files: in several threads, in order, telling how far it is."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# Results in the order of the items, and what the item after the last of them failed with.
_Batch = tuple[list[_Result], Exception | None]

Count = Callable[[str, int, int | None], None]
"""Told what is done with images or files, with how many, and of how many if that is known."""

MOST_THREADS = 8
_IN_BATCH = 16


def count_nothing(what: str, done: int, total: int | None) -> None:
    """Tell nobody."""


def apply_in_order(
    function: Callable[[_Item], _Result], items: Sequence[_Item]
) -> Generator[_Result, None, None]:
    """Apply a function to every item, several at a time; results come in the order of the items.

    Threads help where the function lets others run, as reading and decoding images do. Few results
    are ahead of the one that is waited for.

    Args:
        function: Called in other threads.
        items: What it is called with.

    Raises:
        Exception: What the function raised, for the first item that it raised anything for.
    """
    threads = min(MOST_THREADS, _count_processors())
    starts = iter(range(0, len(items), _IN_BATCH))
    pending: deque[Future[_Batch[_Result]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="reading") as executor:
        try:
            for start in starts:
                batch = items[start : start + _IN_BATCH]
                pending.append(executor.submit(_apply, function, batch))
                if len(pending) > 2 * threads:
                    yield from _unpack(pending.popleft())
            while pending:
                yield from _unpack(pending.popleft())
        finally:
            for future in pending:
                future.cancel()


def _apply(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> _Batch[_Result]:
    results: list[_Result] = []
    for item in items:
        try:
            results.append(function(item))
        except Exception as error:
            # Whoever takes the results first meets it where it belongs: after those before it.
            return results, error
    return results, None


def _unpack(future: Future[_Batch[_Result]]) -> Iterator[_Result]:
    results, error = future.result()
    yield from results
    if error is not None:
        raise error


def _count_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

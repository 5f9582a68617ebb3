"""Records that stay in their file until somebody asks for one: a sequence of places in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError

Item = TypeVar("Item")
# Places that are read together, so that going through all of them is no million of small reads.
_TOGETHER = 256


@dataclass(frozen=True, eq=False)
class StoredSequence(Sequence[Item], Generic[Item]):
    """Records of one file, each read and checked when it is asked for.

    Args:
        path: The file.
        starts: Where each record begins, in bytes, ``(n,)`` and rising.
        ends: Where each ends, ``(n,)``.
        digests: What each is about, ``(n,)``: a file that was replaced meanwhile gives itself away.
        parse: Makes a record of its bytes and says what it is about; ValueError for anything else.
    """

    path: Path
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    digests: NDArray[np.str_]
    parse: Callable[[bytes], tuple[Item, str]]

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Item, ...]: ...

    def __getitem__(self, place: int | slice) -> Item | tuple[Item, ...]:
        """One record, or several.

        Raises:
            IndexError: There is no such place.
            InputError: The file holds something else by now.
            OSError: It cannot be read any more.
        """
        places = range(len(self))[place]
        if isinstance(places, range):
            return tuple(self._read(places))
        return next(self._read(range(places, places + 1)))

    def __iter__(self) -> Iterator[Item]:
        for first in range(0, len(self), _TOGETHER):
            yield from self._read(range(first, min(first + _TOGETHER, len(self))))

    def _read(self, places: range) -> Iterator[Item]:
        with self.path.open("rb") as file:
            for place in places:
                start, end = int(self.starts[place]), int(self.ends[place])
                file.seek(start)
                yield self._parse(file.read(end - start), str(self.digests[place]))

    def _parse(self, content: bytes, expected: str) -> Item:
        try:
            item, digest = self.parse(content)
        except ValueError:
            digest = ""
        if digest != expected:
            raise InputError(f"{self.path} has changed since it was opened; open it again")
        return item

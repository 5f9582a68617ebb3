"""Files of equal content, found without reading more than is needed."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from .reading import Count, count_nothing

_HEAD = 1 << 16


def find_copies(sizes: Mapping[Path, int], count: Count = count_nothing) -> dict[Path, Path]:
    """Find files that are copies of others, byte for byte, links included.

    Args:
        sizes: Bytes of every file, in the order that decides which comes first.
        count: Told how many of those that may be copies are compared.

    Returns:
        Every copy with the first file of the same content; empty files are not looked at.

    Raises:
        OSError: A file cannot be read.
    """
    groups = _group([[file for file, size in sizes.items() if size]], sizes.__getitem__)
    groups = _group(groups, _Counted(groups, count, _HEAD))
    short = [group for group in groups if sizes[group[0]] <= _HEAD]
    long = [group for group in groups if sizes[group[0]] > _HEAD]
    same = [*short, *_group(long, _Counted(long, count))]
    return {copy: first for first, *copies in same for copy in copies}


class _Counted:
    """Digests files and tells how many."""

    def __init__(
        self, groups: Sequence[Sequence[Path]], count: Count, most: int | None = None
    ) -> None:
        self._total, self._done = sum(map(len, groups)), 0
        self._count, self._most = count, most

    def __call__(self, file: Path) -> bytes:
        digest = _digest(file, self._most)
        self._done += 1
        self._count("looking for copies", self._done, self._total)
        return digest


def _group(
    groups: Iterable[Sequence[Path]], key: Callable[[Path], Hashable]
) -> list[Sequence[Path]]:
    """Divide every group by a key; what is left alone is dropped."""
    result: list[Sequence[Path]] = []
    for group in groups:
        parts: defaultdict[Hashable, list[Path]] = defaultdict(list)
        for file in group:
            parts[key(file)].append(file)
        result += [part for part in parts.values() if len(part) > 1]
    return result


def _digest(file: Path, most: int | None = None) -> bytes:
    with file.open("rb", buffering=0) as opened:
        if most is not None:
            return hashlib.blake2b(opened.read(most)).digest()
        result = hashlib.blake2b()
        while block := opened.read(1 << 20):
            result.update(block)
        return result.digest()

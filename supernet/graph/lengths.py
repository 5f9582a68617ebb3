"""Dimensions besides the batch that may have any size: in a trace, numbers of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from supernet.errors import InputError

# Primes far above the sizes of most layers, all sums of which differ from them and each other.
_SENTINELS = (10007, 20011, 40009, 80021, 160001, 320009, 640007)


class Lengths:
    """The dynamic lengths of a trace, and the sums of two of them.

    Args:
        places: Names of lengths by input and dimension; one name stands for one size.
        taken: Sizes of layers and inputs, which no length may be mistaken for.
    """

    def __init__(self, places: Mapping[str, Mapping[int, str]], taken: Collection[int]) -> None:
        self.places = places
        self.names = tuple(
            dict.fromkeys(name for axes in places.values() for name in axes.values())
        )
        self._sizes = dict(zip(self.names, _choose_sizes(len(self.names), taken), strict=True))
        self._terms: dict[int, tuple[str, ...]] = {s: (n,) for n, s in self._sizes.items()}
        for i, first in enumerate(self.names):
            for second in self.names[i + 1 :]:
                self._terms[self._sizes[first] + self._sizes[second]] = (first, second)

    def fill(self, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of an input with the sentinels of its lengths."""
        sizes = list(shape)
        for axis, length in self.places.get(name, {}).items():
            sizes[axis] = self._sizes[length]
        return tuple(sizes)

    def is_dynamic(self, size: object) -> bool:
        """Whether a number of a trace is a length, or the sum of two."""
        return isinstance(size, int) and size in self._terms

    def are_in(self, sizes: Sequence[object]) -> bool:
        """Whether any of some numbers is dynamic."""
        return bool(self._terms) and any(self.is_dynamic(size) for size in sizes)

    def describe(self, size: int) -> str:
        """The name of a length, or of a sum (``"past + length"``)."""
        return " + ".join(self._terms[size])

    def find_places(self, size: int) -> list[tuple[str, int]]:
        """An input and dimension that has each length whose sum a size is."""
        return [
            next(
                (name, axis)
                for name, axes in self.places.items()
                for axis, length in axes.items()
                if length == term
            )
            for term in self._terms[size]
        ]


def _choose_sizes(count: int, taken: Collection[int]) -> tuple[int, ...]:
    """Sentinels of which neither one nor a sum of two is taken."""
    for sizes in combinations(_SENTINELS, count):
        sums = map(sum, combinations(sizes, 2))
        if not {*sizes, *sums}.intersection(taken):
            return sizes
    raise InputError(f"layers have the sizes that stand for {count} dynamic lengths in a trace")

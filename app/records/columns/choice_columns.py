"""The choices of many architectures as columns of codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.space import Value

# Of rows and choices together; above that only a file could be meant that wants memory.
_MOST_CODES = 100_000_000
_MOST_VALUES = 32_767
_ABSENT = -1


class Vocabulary:
    """The different values that were seen, in the order of their first appearance.

    Args:
        values: What was seen before.
    """

    def __init__(self, values: Iterable[Value | None] = ()) -> None:
        self.values: list[Value | None] = []
        self._codes: dict[tuple[type, Value | None], int] = {}
        for value in values:
            self.encode(value)

    def encode(self, value: Value | None) -> int:
        """The number of a value; 1 and 1.0 are two values."""
        key = (type(value), value)
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = len(self.values)
            self.values.append(value)
        return code


@dataclass(frozen=True, eq=False)
class ChoiceColumns:
    """What each of ``n`` architectures has for each of ``k`` choices.

    Args:
        names: Of the choices, ``k`` in the order of their first appearance.
        values: What occurs of each, ``k`` lists.
        codes: Which of them an architecture has, ``(n, k)``; -1 where the choice is inert.
    """

    names: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    codes: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def are_sound(self) -> bool:
        """Whether the codes stand for values, in every column; for what comes from a file."""
        fits = (len(self.names),) * 2 == (len(self.values), self.codes.shape[-1])
        if self.codes.ndim != 2 or not fits or self.codes.dtype != np.int16:
            return False
        if not all(isinstance(name, str) for name in self.names):
            return False
        for values, codes in zip(self.values, self.codes.T, strict=True):
            if not all(isinstance(value, int | float | str) for value in values):
                return False
            if codes.size and not _ABSENT <= codes.min() <= codes.max() < len(values):
                return False
        return True

    def column(self, name: str) -> NDArray[np.float64] | NDArray[np.object_]:
        """The values of one choice, ``(n,)``.

        Numbers come as ``float64`` with NaN where the choice is inert, anything else as objects
        with ``None`` there. A choice that no architecture has is inert in all of them.
        """
        if name not in self.names:
            return np.full(len(self), np.nan)
        place = self.names.index(name)
        values, codes = self.values[place], self.codes[:, place]
        if any(isinstance(value, str) for value in values):
            return np.array([*values, None], dtype=np.object_)[codes]
        return np.array([*values, np.nan], dtype=np.float64)[codes]


class ChoiceTable:
    """Makes :class:`ChoiceColumns` of architectures that come a few at a time.

    Args:
        before: Columns that the architectures are appended to.
    """

    def __init__(self, before: ChoiceColumns | None = None) -> None:
        self._vocabularies = {
            name: Vocabulary(values)
            for name, values in zip(before.names, before.values, strict=True)
        } if before else {}  # fmt: skip
        self._parts: list[NDArray[np.int16]] = [before.codes] if before else []
        self._rows = len(before) if before else 0
        self._fits = True

    def append(self, architectures: Sequence[Mapping[str, Value]]) -> None:
        """Take in further architectures, by the names of their choices."""
        known = self._vocabularies
        for choices in architectures:
            if not choices.keys() <= known.keys():
                known.update({name: Vocabulary() for name in choices if name not in known})
        self._rows += len(architectures)
        self._fits &= self._rows * len(known) <= _MOST_CODES
        if not self._fits:
            return
        codes = np.full((len(architectures), len(known)), _ABSENT, dtype=np.int64)
        places = {name: place for place, name in enumerate(known)}
        for row, choices in zip(codes, architectures, strict=True):
            for name, value in choices.items():
                row[places[name]] = known[name].encode(value)
        self._fits = bool((codes < _MOST_VALUES).all())
        self._parts.append(codes.astype(np.int16))

    def finish(self) -> ChoiceColumns:
        """The columns; without any where there are more choices than networks have."""
        if not self._fits:
            return ChoiceColumns((), (), np.empty((self._rows, 0), dtype=np.int16))
        codes = np.full((self._rows, len(self._vocabularies)), _ABSENT, dtype=np.int16)
        first = 0
        for part in self._parts:
            codes[first : first + len(part), : part.shape[1]] = part
            first += len(part)
        values = tuple(
            tuple(value for value in known.values if value is not None)
            for known in self._vocabularies.values()
        )
        return ChoiceColumns(tuple(self._vocabularies), values, codes)


def tabulate_choices(architectures: Sequence[Mapping[str, Value]]) -> ChoiceColumns:
    """The columns of architectures that are in memory."""
    table = ChoiceTable()
    table.append(architectures)
    return table.finish()

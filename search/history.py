"""What has been evaluated so far: append-only, in order, failures included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError


@dataclass(frozen=True)
class Evaluation:
    """One evaluated architecture.

    Args:
        positions: Canonical option positions ``(len(space),)``.
        values: Every quantity of the problem; NaN where the evaluation failed.
        batch: Index of the proposal round it came from, from 0.
        reused: Whether the values were known already.
    """

    positions: NDArray[np.int16]
    values: Mapping[str, float]
    batch: int
    reused: bool = False


@dataclass(frozen=True)
class History:
    """Evaluations in order; appending returns a longer history and leaves this one alone.

    Args:
        names: Quantities, the columns of ``values``.
        positions: ``(n, len(space))`` canonical.
        values: ``(n, len(names))`` in natural directions; NaN marks a failure.
        batches: Proposal round of each row, ``(n,)``, never decreasing.

    Raises:
        InputError: Shapes disagree or batches decrease.
    """

    names: tuple[str, ...]
    positions: NDArray[np.int16]
    values: NDArray[np.float64]
    batches: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        n = len(self.positions)
        if self.values.shape != (n, len(self.names)) or self.batches.shape != (n,):
            raise InputError(
                f"history of {n} rows and {len(self.names)} quantities has values of shape "
                f"{self.values.shape} and batches of shape {self.batches.shape}"
            )
        if n and (np.diff(self.batches) < 0).any():
            raise InputError("history rows must be in the order of their batches")

    @classmethod
    def empty(cls, names: Iterable[str], choices: int) -> History:
        """No evaluations yet, for a space with this many choices."""
        columns = tuple(names)
        return cls(columns, np.zeros((0, choices), np.int16), np.zeros((0, len(columns))))

    @classmethod
    def from_rows(cls, names: Iterable[str], choices: int, rows: Iterable[Evaluation]) -> History:
        """A history of these evaluations; a quantity a row does not have becomes NaN."""
        history = cls.empty(names, choices)
        rows = list(rows)
        if not rows:
            return history
        values = [[row.values.get(name, np.nan) for name in history.names] for row in rows]
        return cls(
            history.names,
            np.stack([row.positions for row in rows]).astype(np.int16),
            np.array(values, dtype=np.float64),
            np.array([row.batch for row in rows], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.positions)

    def append(
        self, positions: NDArray[np.integer], values: NDArray[np.floating], batch: int
    ) -> History:
        """A history with rows ``(k, len(space))`` and values ``(k, len(names))`` added."""
        return History(
            self.names,
            np.concatenate((self.positions, np.asarray(positions, np.int16))),
            np.concatenate((self.values, np.asarray(values, np.float64))),
            np.concatenate((self.batches, np.full(len(positions), batch, np.int64))),
        )

    def before(self, batch: int) -> History:
        """The rows of rounds before ``batch``."""
        count = int(np.searchsorted(self.batches, batch))
        return History(
            self.names, self.positions[:count], self.values[:count], self.batches[:count]
        )

    @cached_property
    def keys(self) -> frozenset[bytes]:
        """The evaluated rows as bytes, for looking up."""
        return frozenset(row.tobytes() for row in self.positions)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Rows where some quantity has no value, ``(n,)``."""
        return np.asarray(~np.isfinite(self.values).all(axis=1))

    def new(self, positions: NDArray[np.integer]) -> NDArray[np.int16]:
        """The distinct rows among ``positions`` that are not in this history, order kept."""
        rows = np.asarray(positions, dtype=np.int16)
        seen = set(self.keys)
        kept = []
        for i, row in enumerate(rows):
            key = row.tobytes()
            if key not in seen:
                seen.add(key)
                kept.append(i)
        return rows[kept]

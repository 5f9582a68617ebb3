"""Number formats of neighbouring units, changed together.

A unit pays for being in another format than its neighbours (``latency.md`` calls them borders), so
good policies are runs of units in one format. Moves that change one choice meet two borders on the
way from one run to the next and are turned down; those of this module change a run at once.
Spaces without number formats are left alone, and no random numbers are drawn for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.space import PRECISION, SearchSpace

Rows = NDArray[np.int16]
MUTATED = 0.3
"""Share of children whose formats change by a run."""


@dataclass(frozen=True)
class FormatChoices:
    """Choices that offer number formats, in the order of the units.

    Args:
        columns: Where they are in a row, ``(k,)``.
        positions: Of every format that any of them offers, ``(k, formats)``; -1 where it does not.
    """

    columns: NDArray[np.intp]
    positions: Rows

    def fill(
        self,
        rows: Rows,
        first: NDArray[np.integer],
        last: NDArray[np.integer],
        formats: NDArray[np.integer],
    ) -> None:
        """Put a run of one format into each row ``(n, len(space))``, in place.

        Args:
            rows: Are changed.
            first: Index of the run's first unit, ``(n,)``.
            last: Index of its last unit, ``(n,)``.
            formats: Columns of ``positions``, ``(n,)``; units without that format keep theirs.
        """
        units = np.arange(len(self.columns))
        inside = (units >= first[:, None]) & (units <= last[:, None])
        wanted = self.positions[:, formats].T
        inside &= wanted >= 0
        rows[:, self.columns] = np.where(inside, wanted, rows[:, self.columns])


def list_format_choices(space: SearchSpace) -> tuple[FormatChoices, ...]:
    """List the number formats of a space: one group, or one for weights and one for activations."""
    groups: dict[str, list[int]] = {}
    for column, choice in enumerate(space.choices):
        if choice.kind == PRECISION:
            groups.setdefault(choice.name.rpartition(".")[2], []).append(column)
    found = []
    for columns in groups.values():
        offered = [space.choices[column].values for column in columns]
        formats = dict.fromkeys(value for values in offered for value in values)
        positions = [
            [values.index(form) if form in values else -1 for form in formats] for values in offered
        ]
        found.append(FormatChoices(np.array(columns), np.array(positions, np.int16)))
    return tuple(found)


def spread_formats(space: SearchSpace, rows: Rows, rng: np.random.Generator) -> Rows:
    """Spread the formats of random rows from one format for all units to any mixture.

    A third of the rows keeps what it has, a third draws the share of each format first, and a
    third has one format throughout: independent draws for many units never do.

    Args:
        space: What the rows belong to.
        rows: ``(n, len(space))``; not changed.
        rng: Source of randomness.

    Returns:
        The same shape, canonical.
    """
    groups = list_format_choices(space)
    if not groups:
        return rows
    rows = rows.copy()
    way = rng.integers(3, size=len(rows))
    for group in groups:
        count = group.positions.shape[1]
        shares = rng.dirichlet(np.ones(count), len(rows))
        shares[way == 2] = np.eye(count)[rng.integers(count, size=int((way == 2).sum()))]
        edges = shares.cumsum(1)[:, None, :-1]
        drawn = (rng.random((len(rows), len(group.columns)))[:, :, None] > edges).sum(-1)
        wanted = group.positions[np.arange(len(group.columns)), drawn]
        changed = (way > 0)[:, None] & (wanted >= 0)
        rows[:, group.columns] = np.where(changed, wanted, rows[:, group.columns])
    return space.canonical(rows)


def mutate_formats(space: SearchSpace, rows: Rows, rng: np.random.Generator) -> Rows:
    """Give a run of neighbouring units of some rows one format.

    Args:
        space: What the rows belong to.
        rows: ``(n, len(space))``; not changed.
        rng: Source of randomness.

    Returns:
        The same shape, canonical; :data:`MUTATED` of the rows have a new run.
    """
    groups = list_format_choices(space)
    if not groups:
        return rows
    rows = rows.copy()
    for group in groups:
        chosen = np.flatnonzero(rng.random(len(rows)) < MUTATED)
        ends = np.sort(rng.integers(len(group.columns), size=(2, len(chosen))), axis=0)
        formats = rng.integers(group.positions.shape[1], size=len(chosen))
        part = rows[chosen]
        group.fill(part, ends[0], ends[1], formats)
        rows[chosen] = part
    return space.canonical(rows)


def change_runs(space: SearchSpace, rows: Rows) -> Rows:
    """All rows in which a prefix, a suffix or a whole run of units has another format.

    Args:
        space: What the rows belong to.
        rows: ``(n, len(space))``.

    Returns:
        ``(m, len(space))``, canonical, with repeats; none for spaces without number formats.
    """
    changed = [rows[:0]]
    for group in list_format_choices(space):
        units, formats = group.positions.shape
        for row in rows:
            now = row[group.columns]
            starts = np.flatnonzero(np.r_[True, now[1:] != now[:-1]])
            stops = np.r_[starts[1:] - 1, units - 1]
            first = np.r_[np.zeros(units, np.intp), np.arange(units), starts]
            last = np.r_[np.arange(units), np.full(units, units - 1), stops]
            copies = np.repeat(row[None], len(first) * formats, 0)
            group.fill(
                copies,
                np.repeat(first, formats),
                np.repeat(last, formats),
                np.tile(np.arange(formats), len(first)),
            )
            changed.append(copies)
    return space.canonical(np.concatenate(changed))

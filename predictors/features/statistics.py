"""Free numbers of architectures as features: costs by unit, sums by kind of choice, stacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from predictors.features.encoding import Statistics
from supernet.space import SearchSpace

Rows = NDArray[np.int16]
Numbers = Callable[[Rows], NDArray[np.floating]]


def stack(*parts: Numbers) -> Statistics:
    """Several statistics side by side: ``(n,)`` becomes one column, ``(n, k)`` becomes ``k``.

    Args:
        parts: Callables of positions ``(n, len(space))``, such as an objective's ``evaluate``.

    Raises:
        ValueError: No parts, at once; a part of another length, when called.
    """
    if not parts:
        raise ValueError("stacked statistics need at least one part")

    def columns(positions: Rows) -> NDArray[np.float64]:
        found = []
        for index, part in enumerate(parts):
            block = np.asarray(part(positions), dtype=np.float64)
            if block.ndim not in (1, 2) or len(block) != len(positions):
                raise ValueError(
                    f"statistic {index} of {len(positions)} architectures has shape {block.shape}; "
                    f"expected ({len(positions)},) or ({len(positions)}, k)"
                )
            found.append(block.reshape(len(positions), -1))
        return np.concatenate(found, axis=1)

    return columns


def logarithms(part: Numbers) -> Statistics:
    """Natural logarithms of statistics, for counts and times that span orders of magnitude.

    Raises:
        ValueError: When called, at a value that is not above 0.
    """

    def columns(positions: Rows) -> NDArray[np.float64]:
        block = np.asarray(part(positions), dtype=np.float64).reshape(len(positions), -1)
        if not (block > 0).all():
            row, column = (int(i) for i in np.argwhere(~(block > 0))[0])
            raise ValueError(
                f"statistic {column} of architecture {row} is {block[row, column]}; "
                f"a logarithm needs values above 0"
            )
        return np.log(block)

    return columns


def unit_costs(
    groups: Sequence[tuple[int, ...]],
    tables: Sequence[NDArray[np.floating]],
    units: Sequence[int] | None = None,
) -> Statistics:
    """The terms of an additive cost, one column per unit: where in the network the cost lies.

    Args:
        groups: For each term the columns of the choices that decide it.
        tables: For each term its values, one axis per choice of the group.
        units: For each term the column it is added to, such as its stage; by default a column of
            its own. Terms that no choice decides are left out then.

    Raises:
        ValueError: The numbers of groups, tables and units differ, or no term depends on a choice.
    """
    if len(groups) != len(tables) or (units is not None and len(units) != len(groups)):
        raise ValueError(
            f"{len(groups)} groups have {len(tables)} tables"
            + ("" if units is None else f" and {len(units)} units")
        )
    terms = [
        (tuple(group), np.asarray(table, dtype=np.float64))
        for group, table in zip(groups, tables, strict=True)
    ]
    places = np.array(units if units is not None else range(len(terms)), dtype=np.intp)
    varying = np.array([bool(group) for group, _ in terms], dtype=bool)
    if not varying.any():
        raise ValueError("no term of the cost depends on a choice; it tells architectures nothing")
    # Columns without a varying term would be constant.
    used = {place: i for i, place in enumerate(np.unique(places[varying]).tolist())}

    def columns(positions: Rows) -> NDArray[np.float64]:
        rows = np.asarray(positions)
        result = np.zeros((len(rows), len(used)))
        for (group, table), place in zip(terms, places.tolist(), strict=True):
            if group:
                result[:, used[place]] += table[tuple(rows[:, column] for column in group)]
        return result

    return columns


def kind_sums(space: SearchSpace) -> Statistics:
    """For every kind of choice: how many are active, and the mean position of those, in [0, 1].

    Args:
        space: Names the kinds; a kind of which always all are active has no count.
    """
    return _sums(space, [choice.kind for choice in space.choices])


def stage_sums(space: SearchSpace) -> Statistics:
    """The same for every pair of stage and kind; a stage is what precedes the first dot of a name.

    Args:
        space: Names the choices, by convention ``stage.block.property``.
    """
    labels = [f"{choice.name.partition('.')[0]} {choice.kind}" for choice in space.choices]
    return _sums(space, labels)


def _sums(space: SearchSpace, labels: Sequence[str]) -> Statistics:
    names = list(dict.fromkeys(labels))
    member = np.array([[label == name for name in names] for label in labels], dtype=np.float64)
    # A choice of one value has position 0 of 0.
    scale = np.maximum(space.cardinalities - 1, 1)
    always = np.array([choice.needs is None for choice in space.choices])
    counted = np.array([not always[member[:, i] > 0].all() for i in range(len(names))], dtype=bool)

    def columns(positions: Rows) -> NDArray[np.float64]:
        rows = np.asarray(positions)
        active = space.active(rows).astype(np.float64)
        counts = active @ member
        means = (rows / scale * active) @ member / np.maximum(counts, 1)
        return np.concatenate((counts[:, counted], means), axis=1)

    return columns

"""Why one network has another figure than a second one: the difference, split into its parts.

Latency is a sum over units, so that the difference of two tables' entries is each unit's part. A
quality is no sum. Its parts are Shapley values (Shapley 1953): what changing a block from one
network to the other is worth to a predictor, averaged over the orders in which blocks can be
changed. They add up to the predicted difference exactly; what they leave of the real one is the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import factorial

import numpy as np
from numpy.typing import NDArray

from supernet.space import SearchSpace

# Up to so many parts every combination of them is predicted.
MOST_EXACT = 9
# Else this many orders are drawn, each of them forwards and backwards.
ORDERS = 64

Predict = Callable[[NDArray[np.int16]], NDArray[np.float64]]


@dataclass(frozen=True)
class Part:
    """Choices that change together: those of a block, or of what a depth adds or removes.

    Args:
        name: Of the block, as its choices are named.
        columns: Places of the choices in the space.
    """

    name: str
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """A difference and its parts.

    Args:
        parts: Name and share of each part that is not 0, the largest share first.
        whole: The difference that was to be explained, where it is known.
    """

    parts: tuple[tuple[str, float], ...]
    whole: float | None

    @property
    def explained(self) -> float:
        """The sum of the parts."""
        return sum(share for _, share in self.parts)

    @property
    def rest(self) -> float | None:
        """What the parts do not explain."""
        return None if self.whole is None else self.whole - self.explained


def make_split(shares: Mapping[str, float], whole: float | None) -> Split:
    """A difference from the shares of its parts; parts of no share are left out.

    Args:
        shares: By the name of the part.
        whole: The difference itself.
    """
    found = [(name, share) for name, share in shares.items() if share]
    return Split(tuple(sorted(found, key=lambda part: -abs(part[1]))), whole)


def subtract_units(
    ours: Sequence[tuple[str, float]], theirs: Sequence[tuple[str, float]]
) -> dict[str, float]:
    """What each unit of two networks adds to the difference; a unit that one lacks costs it 0.

    Args:
        ours: Name and latency of every unit.
        theirs: Of the other network, which is subtracted.
    """
    shares = dict.fromkeys((unit for unit, _ in chain(ours, theirs)), 0.0)
    for unit, latency in ours:
        shares[unit] += latency
    for unit, latency in theirs:
        shares[unit] -= latency
    return shares


def find_parts(
    space: SearchSpace, ours: NDArray[np.int16], theirs: NDArray[np.int16]
) -> tuple[Part, ...]:
    """The parts in which two networks differ, in the order of the space.

    A choice belongs to what its name begins with (``stage1.block2`` of ``stage1.block2.kernel``).
    What decides whether a block is there belongs to that block, for neither changes without the
    other.

    Args:
        space: The space of both.
        ours: Positions of one network, ``(len(space),)``.
        theirs: Of the other.
    """
    active, other = space.active(np.stack([ours, theirs]))
    differs = (active != other) | (active & other & (ours != theirs))
    owners = {place: name.rpartition(".")[0] or name for place, name in enumerate(space.names)}
    joined: dict[str, str] = {}
    for place in np.flatnonzero(active != other).tolist():
        choice = space.choices[place]
        # The nearest choice above it that changed is what adds or removes the block.
        needs = choice.needs
        while needs is not None:
            above = space.index(needs[0])
            if differs[above] and owners[above] != owners[place]:
                joined.setdefault(owners[place], owners[above])
            needs = space.choices[above].needs
    groups: dict[str, list[int]] = {}
    for place in np.flatnonzero(differs).tolist():
        groups.setdefault(_find_root(joined, owners[place]), []).append(place)
    return tuple(
        Part(_name_part(places, owners, root), tuple(places)) for root, places in groups.items()
    )


def share_out(
    space: SearchSpace,
    predict: Predict,
    ours: NDArray[np.int16],
    theirs: NDArray[np.int16],
    *,
    seed: int = 0,
) -> dict[str, float]:
    """What each part adds to ``predict(ours) - predict(theirs)``; the shares sum up to it.

    Args:
        space: The space of both.
        predict: Expected values ``(n,)`` of canonical positions ``(n, len(space))``.
        ours: Positions of one network, ``(len(space),)``.
        theirs: Of the other, which is subtracted.
        seed: Draws the orders where there are too many parts for all of them.
    """
    parts = find_parts(space, ours, theirs)
    if not parts:
        return {}
    active, other = space.active(np.stack([ours, theirs]))
    # A block that one of them lacks comes and goes as the other has it.
    whole = np.where(active, ours, theirs), np.where(other, theirs, ours)
    member = np.zeros((len(parts), len(space)), dtype=np.bool_)
    for number, part in enumerate(parts):
        member[number, list(part.columns)] = True

    def value(sets: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Predictions ``(s,)`` of networks with our version of some parts, ``(s, k)``."""
        rows = np.where(sets.astype(np.int64) @ member > 0, whole[0], whole[1])
        distinct, places = np.unique(space.canonical(rows), axis=0, return_inverse=True)
        return predict(distinct)[places.ravel()]

    count = len(parts)
    shares = (
        _average_exactly(value, count) if count <= MOST_EXACT else _draw_orders(value, count, seed)
    )
    return {part.name: float(share) for part, share in zip(parts, shares, strict=True)}


def _average_exactly(
    value: Callable[[NDArray[np.bool_]], NDArray[np.float64]], count: int
) -> NDArray[np.float64]:
    sets = (np.arange(2**count)[:, None] >> np.arange(count)) & 1 > 0
    values, sizes = value(sets), sets.sum(axis=1)
    weights = np.array(
        [factorial(k) * factorial(count - k - 1) / factorial(count) for k in range(count)]
    )
    shares = np.empty(count)
    for part in range(count):
        without = np.flatnonzero(~sets[:, part])
        gain = values[without + (1 << part)] - values[without]
        shares[part] = (weights[sizes[without]] * gain).sum()
    return shares


def _draw_orders(
    value: Callable[[NDArray[np.bool_]], NDArray[np.float64]], count: int, seed: int
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(count) for _ in range(ORDERS)]
    orders += [order[::-1] for order in orders]
    # Row k of an order has its first k parts changed.
    ranks = np.argsort(np.stack(orders), axis=1)
    sets = ranks[:, None, :] < np.arange(count + 1)[None, :, None]
    values = value(sets.reshape(-1, count)).reshape(len(orders), count + 1)
    gains = np.diff(values, axis=1)
    return np.take_along_axis(gains, ranks, axis=1).mean(axis=0)


def _find_root(joined: Mapping[str, str], owner: str) -> str:
    seen = {owner}
    while owner in joined and joined[owner] not in seen:
        owner = joined[owner]
        seen.add(owner)
    return owner


def _name_part(places: Sequence[int], owners: Mapping[int, str], root: str) -> str:
    """The blocks of a part; what only adds or removes them is named where it is alone."""
    names = list(dict.fromkeys(owners[place] for place in places))
    return ", ".join([name for name in names if name != root] or [root])

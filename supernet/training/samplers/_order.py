"""The order of a step's architectures: without repeats, the largest first."""

from __future__ import annotations

from collections.abc import Sequence

from supernet.space import Architecture, Positions, SearchSpace


def list_distinct(space: SearchSpace, positions: Positions) -> tuple[Architecture, ...]:
    """List architectures without repeats, the largest first when it is among them.

    Args:
        space: The space of the architectures.
        positions: Their positions, ``(n, len(space))``.
    """
    drawn = list(dict.fromkeys(space.decode(positions)))
    drawn.sort(key=lambda architecture: architecture != space.largest)
    return tuple(drawn)


def add_ends(
    space: SearchSpace, others: Sequence[Architecture], smallest_last: bool
) -> tuple[Architecture, ...]:
    """Add the ends of a space to others, without repeats: the largest first.

    Args:
        space: The space of the architectures.
        others: Architectures besides the two ends.
        smallest_last: The smallest comes after the others, else right after the largest.
    """
    between = [other for other in others if other != space.smallest]
    rest = (*between, space.smallest) if smallest_last else (space.smallest, *between)
    return tuple(dict.fromkeys((space.largest, *rest)))

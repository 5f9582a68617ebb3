"""Networks that a front is held against: the smallest, the largest and the uniformly scaled."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

from app.records.searches.front import Front
from app.reporting.scatter.view import Reference
from app.runs.run_view import RunView
from supernet.space import Architecture, SearchSpace, Value

# Of a space with more uniform networks than this, few were evaluated by chance.
_MOST_UNIFORM = 512
_MOST_NAMED = 4


def list_references(run: RunView, front: Front, space: SearchSpace | None) -> list[Reference]:
    """The networks that were evaluated among those that need no search, cheapest first.

    Uniformly scaled is a network in which all choices of a kind have the same value.

    Args:
        run: Its log knows qualities of networks that the search did not evaluate.
        front: Where their figures are.
        space: The space that was searched; without it nothing is known of them.
    """
    if space is None:
        return []
    named = {"smallest": space.smallest, "largest": space.largest}
    found = [
        Reference(name, values)
        for name, member in named.items()
        if (values := _find_values(front, member.digest))
    ]
    ends = {member.digest for member in named.values()}
    uniform = [
        (values.get(front.cost.name, 0.0), Reference("uniform", values))
        for member in _list_uniform(space)
        if member.digest not in ends and (values := _find_values(front, member.digest))
    ]
    uniform.sort(key=lambda pair: pair[0])
    step = max(1, -(-len(uniform) // _MOST_NAMED))
    return [*found, *(reference for _, reference in uniform[::step])]


def _find_values(front: Front, digest: str) -> dict[str, float]:
    places = front.find_places(digest)
    if not places:
        return {}
    best = {axis.name: front.column(axis.name).best[places[0]] for axis in front.axes}
    return {name: float(value) for name, value in best.items() if value == value}


def _list_uniform(space: SearchSpace) -> Iterator[Architecture]:
    """The uniform networks of a space."""
    kinds: dict[str, tuple[Value, ...]] = {}
    for choice in space.choices:
        known = kinds.setdefault(choice.kind, choice.values)
        # Where choices of a kind differ in what they offer, a value is uniform if all have it.
        kinds[choice.kind] = tuple(value for value in known if value in choice.values)
    if not 0 < prod(len(values) for values in kinds.values()) <= _MOST_UNIFORM:
        return
    for values in product(*kinds.values()):
        wanted = dict(zip(kinds, values, strict=True))
        choices = {choice.name: wanted[choice.kind] for choice in space.choices}
        yield space.architecture(choices)

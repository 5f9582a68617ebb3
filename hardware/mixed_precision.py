"""Networks of several precisions: mixtures of every share, and networks of one alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supernet.space import Architecture, Choice, SearchSpace

HOMOGENEOUS = 2
"""Networks of each precision alone among those a table is calibrated on."""


def mix_precisions(
    space: SearchSpace,
    architectures: Sequence[Architecture],
    precisions: Sequence[str],
    rng: np.random.Generator,
) -> list[Architecture]:
    """Give architectures other precisions: a few of one alone, the rest mixtures of every share.

    Where each unit draws its precision by itself, half of every network is in each and all of them
    cross from one to the other equally often: the costs of units and of crossings cannot be told
    apart, and networks of nearly one precision, where searches end, are never met. So the shares
    of a network are drawn first, all mixtures alike likely.

    Args:
        space: Of the architectures.
        architectures: What everything but the precision is taken from.
        precisions: The formats, in which at least one unit has a choice.
        rng: Draws shares and precisions.

    Returns:
        As many architectures; the first ``HOMOGENEOUS`` for each precision are of it alone, as far
        as units have it, and of the largest they have elsewhere.
    """
    choices = [c for c in space.choices if set(c.values) <= set(precisions)]
    result = []
    for index, architecture in enumerate(architectures):
        alone, _ = divmod(index, HOMOGENEOUS)
        if alone < len(precisions):
            shares = np.eye(len(precisions))[alone]
        else:
            shares = rng.dirichlet(np.ones(len(precisions)))
        by_name = dict(zip(precisions, shares, strict=True))
        drawn = {c.name: _draw_precision(c, by_name, rng) for c in choices}
        whole = dict(zip(space.names, architecture.values, strict=True))
        result.append(space.architecture({**whole, **drawn}))
    return result


def _draw_precision(choice: Choice, shares: dict[str, float], rng: np.random.Generator) -> str:
    names = [str(value) for value in choice.values]
    weights = np.array([shares[name] for name in names])
    if not weights.any():
        return names[-1]
    return str(rng.choice(names, p=weights / weights.sum()))

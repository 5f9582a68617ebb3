"""Binary tournaments among the survivors of an algorithm of pymoo: who becomes a parent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pymoo.core.population import Population
from pymoo.operators.selection.tournament import TournamentSelection

Points = NDArray[np.float64]
Indices = NDArray[np.intp]
# Given two arrays of places among the survivors, where the first one wins.
Better = Callable[[Indices, Indices, np.random.Generator], NDArray[np.bool_]]


def toss_coins(count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Random booleans, ``(count,)``."""
    return np.asarray(rng.random(count) < 0.5)


def win_by_chance(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The tournament that either side wins."""
    return toss_coins(len(first), rng)


def win_by_dominance(points: Points) -> Better:
    """The tournament among points ``(k, m)`` that a dominating one wins; else chance."""

    def better(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
        mine, theirs = points[first], points[second]
        wins = (mine <= theirs).all(axis=1) & (mine < theirs).any(axis=1)
        loses = (theirs <= mine).all(axis=1) & (theirs < mine).any(axis=1)
        return wins | (~loses & toss_coins(len(first), rng))

    return better


def win_within_niches(survivors: Population) -> Better:
    """The tournament of U-NSGA-III (Seada and Deb 2016, algorithm 2).

    Within a niche the lower rank wins, then the nearer to the direction; else chance.
    """
    niche = read_attribute(survivors, "niche", -1)
    place = np.lexsort(
        (
            read_attribute(survivors, "dist_to_niche", np.inf),
            read_attribute(survivors, "rank", np.inf),
        )
    ).argsort()

    def better(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
        same = niche[first] == niche[second]
        return np.where(same, place[first] < place[second], toss_coins(len(first), rng))

    return better


def prefer_feasible(excess: Points, better: Better) -> Better:
    """The tournament in which feasible ones beat infeasible ones, and those by their excess.

    Args:
        excess: Summed violations of the survivors, ``(k,)``; 0 is feasible.
        better: Decides among feasible ones.
    """

    def wins(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
        mine, theirs = excess[first], excess[second]
        limited = (mine > 0) | (theirs > 0)
        by_limit = np.where(mine == theirs, toss_coins(len(first), rng), mine < theirs)
        return np.where(limited, by_limit, better(first, second, rng))

    return wins


def select_parents(make: Callable[[Population], Better]) -> TournamentSelection:
    """A tournament for pymoo's own mating.

    Those of NSGA-III and its relatives draw from an unseeded generator where both sides are beyond
    a limit.

    Args:
        make: Given the survivors, the tournament among feasible ones.
    """

    def compare(
        survivors: Population,
        pairs: Indices,
        random_state: np.random.Generator,
        **others: object,
    ) -> Indices:
        wins = prefer_feasible(survivors.get("CV")[:, 0], make(survivors))
        first, second = pairs.T
        return np.where(wins(first, second, random_state), first, second)[:, None]

    return TournamentSelection(func_comp=compare)


def read_attribute(survivors: Population, name: str, missing: float) -> Points:
    """An attribute that survival has set, ``(k,)``; ``missing`` where it has not (infeasible)."""
    found = [missing if value is None else value for value in survivors.get(name, to_numpy=False)]
    return np.array(found, dtype=np.float64)

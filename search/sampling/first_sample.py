"""First samples: the corners of the space and a spread over the cheap objective."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from search.arrays.format_runs import spread_formats
from search.arrays.neighbourhood import neighbourhood, unique_rows
from search.history import History
from search.problem import SearchProblem
from search.sampling.feasibility import least_violation

Rows = NDArray[np.int16]

_MOST_VISITED = 20_000
_MOST_EXPANDED = 200


def spread_sample(problem: SearchProblem, rng: np.random.Generator, count: int) -> Rows:
    """Random rows ``(count, len(space))`` from small to large networks, repeats possible.

    Uniform sampling of many choices concentrates on medium networks, and a front needs its ends.
    Here every row has its own skew, so that sizes spread over the whole range.
    """
    space = problem.space
    if problem.pool is not None:
        return problem.pool[rng.integers(len(problem.pool), size=count)]
    skew = np.exp(rng.normal(0, 0.8, (count, 1)))
    draws = rng.random((count, len(space))) ** skew
    positions = np.minimum((draws * space.cardinalities).astype(np.int16), space.cardinalities - 1)
    return spread_formats(space, space.canonical(positions), rng)


def admissible_sample(problem: SearchProblem, rng: np.random.Generator, count: int) -> Rows:
    """At most ``count`` random rows that meet the cheap constraints, repeats possible.

    Rows outside are mixed, choice by choice, with an architecture known to be inside: plain
    rejection finds nothing when a budget is tight.
    """
    rows = spread_sample(problem, rng, count)
    fits = problem.admits(rows)
    if fits.all():
        return rows
    if problem.pool is not None:
        inside = problem.pool[problem.admits(problem.pool)]
        return inside[rng.integers(len(inside), size=count)] if len(inside) else inside
    anchor, violations = least_violation(problem)
    if (violations > 0).any():
        return rows[fits]
    kept = [rows[fits]]
    outside = rows[~fits]
    for _ in range(6):
        # The share taken from the anchor grows towards one, so that every row ends inside.
        share = rng.random((len(outside), 1))
        mixed = np.where(rng.random(outside.shape) < share, anchor, outside)
        outside = problem.space.canonical(mixed)
        fits = problem.admits(outside)
        kept.append(outside[fits])
        outside = outside[~fits]
    return np.concatenate(kept)


def fresh_rows(
    problem: SearchProblem, history: History, count: int, rng: np.random.Generator
) -> Rows:
    """Up to ``count`` distinct admissible rows outside the history, found in any space.

    Random first; where the space is nearly used up, everything reachable by one-choice changes.
    """
    rows = np.zeros((0, len(problem.space)), dtype=np.int16)
    for _ in range(4):
        rows = history.new(np.concatenate((rows, admissible_sample(problem, rng, 4 * count))))
        if len(rows) >= count:
            return rng.permutation(rows)[:count]
    reached = _reachable(problem)
    rows = np.concatenate((rows, rng.permutation(reached[problem.admits(reached)])))
    return history.new(rows)[:count]


def initial_rows(problem: SearchProblem, count: int, rng: np.random.Generator) -> Rows:
    """Up to ``count`` distinct admissible rows, corners first, then spread over a cheap objective.

    Without cheap objectives the average position stands in for cost.
    """
    space = problem.space
    corners = unique_rows(problem.project(space.encode([space.smallest, space.largest])))
    corners = corners[problem.admits(corners)]
    pool = unique_rows(np.concatenate((corners, admissible_sample(problem, rng, 40 * count))))
    cost = cheap_cost(problem, pool)
    chosen = list(range(len(corners)))[:count]
    taken = np.zeros(len(pool), dtype=bool)
    taken[chosen] = True
    edges = np.linspace(cost.min(), cost.max(), count - len(chosen) + 1) if len(pool) else cost
    for low, high in pairwise(edges):
        inside = np.flatnonzero((cost >= low) & (cost <= high) & ~taken)
        if not len(inside):
            gap = np.where(taken, np.inf, np.abs(cost - (low + high) / 2))
            inside = np.flatnonzero(gap == gap.min())[:1] if np.isfinite(gap).any() else inside
        if len(inside):
            pick = int(rng.choice(inside))
            chosen.append(pick)
            taken[pick] = True
    rows = pool[chosen]
    if len(rows) < count:
        known = History.empty(problem.names, len(space)).append(rows, _blank(problem, rows), 0)
        extra = fresh_rows(problem, known, count, rng)
        rows = np.concatenate((rows, extra))[:count]
    return rows


def cheap_cost(problem: SearchProblem, rows: Rows) -> NDArray[np.float64]:
    """The first cheap objective of rows ``(n,)``, or without any their average position."""
    for objective in problem.objectives:
        if not objective.expensive:
            return np.asarray(objective.evaluate(rows), dtype=np.float64)
    return (rows / np.maximum(problem.space.cardinalities - 1, 1)).mean(1)


def _blank(problem: SearchProblem, rows: Rows) -> NDArray[np.float64]:
    return np.full((len(rows), len(problem.quantities)), np.nan)


def _reachable(problem: SearchProblem) -> Rows:
    """Rows connected to the smallest by one-choice changes, at most 20,000 of them; or the pool."""
    if problem.pool is not None:
        return problem.pool
    space = problem.space
    reached = edge = space.encode([space.smallest])
    while len(edge) and len(reached) < _MOST_VISITED:
        merged = unique_rows(np.concatenate((reached, neighbourhood(space, edge[:_MOST_EXPANDED]))))
        # Rows keep the order of first appearance, so what is new comes last.
        edge = np.concatenate((edge[_MOST_EXPANDED:], merged[len(reached) :]))
        reached = merged
    return reached[:_MOST_VISITED]

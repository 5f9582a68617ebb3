"""A warm start: zero-cost proxies choose the first architectures that a search evaluates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.runs.trained import Trained
from search import History, SearchProblem, Strategy
from search.arrays.neighbourhood import unique_rows
from search.sampling.first_sample import cheap_cost, initial_rows
from search.strategy import Model
from supernet.errors import InputError
from supernet.proxies import make_proxy_statistics, pick_warm_start

Rows = NDArray[np.int16]
Scores = Callable[[Rows], NDArray[np.float64]]

# Candidates for each place in the first round. A proxy runs the network, which the thousands of
# candidates of later rounds do not allow.
CANDIDATES = 4


@dataclass(frozen=True)
class WarmStart:
    """A strategy whose first round was chosen by proxies; every other round is its own.

    Args:
        strategy: Decides the sizes of rounds and everything after the first.
        scores: Proxies of rows, ``(n, len(space))`` in, ``(n, k)`` out, larger is better.
    """

    strategy: Strategy
    scores: Scores

    @property
    def has_first_sample(self) -> bool:
        """As the strategy says."""
        return self.strategy.has_first_sample

    def batch_size(self, evaluated: int) -> int:
        """As the strategy says."""
        return self.strategy.batch_size(evaluated)

    def propose(
        self, problem: SearchProblem, history: History, count: int, rng: np.random.Generator
    ) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if len(history):
            return self.strategy.propose(problem, history, count, rng)
        return first_rows(problem, count, rng, self.scores)

    def models(self, problem: SearchProblem, history: History, seed: int) -> Mapping[str, Model]:
        """The predictors of the strategy."""
        return self.strategy.models(problem, history, seed)


def first_rows(
    problem: SearchProblem, count: int, rng: np.random.Generator, scores: Scores
) -> Rows:
    """The corners of the space, and the candidates that proxies prefer at each level of cost.

    Several proxies vote: a row counts by the share of candidates it beats, averaged over them
    (Abdelfattah et al. 2021, section 3.3, let them vote by majority).

    Args:
        problem: What is searched for.
        count: How many rows, at most.
        rng: Draws the candidates.
        scores: Proxies of rows ``(n, k)``, larger is better; one that is not a number loses.

    Returns:
        Distinct admissible rows ``(at most count, len(space))``.
    """
    space = problem.space
    candidates = initial_rows(problem, CANDIDATES * count, rng)
    corners = unique_rows(problem.project(space.encode([space.smallest, space.largest])))
    corner = (candidates[:, None] == corners).all(2).any(1)
    kept, rest = candidates[corner][:count], candidates[~corner]
    if len(kept) == count or not len(rest):
        return kept
    found = scores(rest)
    votes = (found[:, None] > found[None]).mean(1).mean(1)
    chosen = pick_warm_start(votes, rest, count - len(kept), cheap_cost(problem, rest))
    return np.concatenate((kept, chosen))


def proxy_scores(trained: Trained, proxies: Sequence[str]) -> Scores:
    """Proxies of the subnetworks of a trained supernet, tried on the smallest and the largest.

    Args:
        trained: Network and data.
        proxies: Names of modules in ``supernet/proxies``.

    Raises:
        InputError: An unknown proxy, one that says nothing about networks of this family, or a
            run without data.
    """
    space = trained.supernet.space
    corners = space.encode([space.smallest, space.largest])
    family = trained.run.record.family
    for name in proxies:
        statistics = make_proxy_statistics(trained.supernet, trained.data, [name])
        try:
            usable = bool(np.isfinite(statistics(corners)).all())
            reason = "its value is not a number"
        except (ValueError, RuntimeError) as error:
            usable, reason = False, str(error).partition("\n")[0]
        if not usable:
            raise InputError(f"proxy {name!r} does not suit family {family!r}: {reason}")
    return make_proxy_statistics(trained.supernet, trained.data, proxies)

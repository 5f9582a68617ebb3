"""Optuna's CMA-ES, for one weighting of the objectives after another."""

from __future__ import annotations

# Optuna notices a missing cmaes only when it samples; imported first, it is named at once.
import cmaes  # noqa: F401
import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler

from search.engines.optuna_replay import OptunaSearch, Round
from search.engines.pymoo_replay import Evaluated, weighted
from search.strategy import FitPredictor, Strategy

SUMMARY = "Optuna's CMA-ES, warm-started for a new weighting every round; needs cmaes"
_LEAST_ROWS = 20
_MOST_ROWS = 50


def sampler(made_for: Round) -> BaseSampler:
    """A distribution around the best few evaluations under the weights of the round.

    A covariance learnt for one weighting misleads under another, so that every round starts anew
    (warm start, Nomura et al. 2021). Optuna fits it to the best tenth of what it is given: of a
    whole history that would be architectures from all over the front.
    """
    if len(made_for.trials) < _LEAST_ROWS:
        return RandomSampler(seed=made_for.seed)
    best = np.argsort(made_for.values[:, 0], kind="stable")[:_MOST_ROWS]
    return CmaEsSampler(
        seed=made_for.seed,
        source_trials=[made_for.trials[i] for i in best],
        warn_independent_sampling=False,
    )


def scalar(seen: Evaluated, number: int) -> NDArray[np.float64]:
    """What round ``number`` minimises, ``(n, 1)``; beyond a limit worse than all within."""
    value = weighted(seen.points, weights(seen.points.shape[1], number))
    excess = seen.excess
    worst = value.max(initial=0.0)
    return np.where(excess > 0, worst + excess, value)[:, None]


def weights(objectives: int, number: int) -> NDArray[np.float64]:
    """The weights ``(objectives,)`` of round ``number``: a sequence that covers the simplex evenly.

    Gaps between the sorted members of a Kronecker sequence; golden ratio for two objectives.
    """
    root = 1.0
    for _ in range(64):
        root = (1 + root) ** (1 / objectives)
    steps = root ** -np.arange(1.0, objectives)
    cuts = np.sort((0.5 + number * steps) % 1)
    return np.diff(np.concatenate(([0.0], cuts, [1.0])))


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return OptunaSearch(sampler, values=scalar, batch=10, recalled=1)

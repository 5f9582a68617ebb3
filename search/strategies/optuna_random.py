"""Optuna's random sampler: every choice uniform, large and small networks rare."""

from __future__ import annotations

from optuna.samplers import RandomSampler

from search.engines.optuna_replay import OptunaSearch, Round
from search.strategy import FitPredictor, Strategy

SUMMARY = "Optuna's uniform random sampler"


def sampler(made_for: Round) -> RandomSampler:
    """Knows nothing of what was evaluated."""
    return RandomSampler(seed=made_for.seed)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return OptunaSearch(sampler, initial=0, batch=50, recalled=0)

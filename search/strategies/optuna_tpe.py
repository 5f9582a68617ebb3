"""Optuna's tree-structured Parzen estimator, several objectives at once."""

from __future__ import annotations

from optuna.samplers import TPESampler

from search.engines.optuna_replay import OptunaSearch, Round
from search.strategy import FitPredictor, Strategy

SUMMARY = "Optuna's Parzen estimator, all choices jointly (Ozaki et al. 2022)"


def sampler(made_for: Round) -> TPESampler:
    """Densities over all choices together; the asked ones of a round repel each other."""
    return TPESampler(seed=made_for.seed, multivariate=True, constant_liar=True)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return OptunaSearch(sampler, ordinal=False, batch=10)

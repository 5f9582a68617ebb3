"""Optuna's Gaussian process with expected hypervolume improvement; seconds per suggestion."""

from __future__ import annotations

from optuna.samplers import GPSampler

from search.engines.optuna_replay import OptunaSearch, Round
from search.strategy import FitPredictor, Strategy

SUMMARY = "Optuna's Gaussian process; slow, for few choices and evaluations that take minutes"


def sampler(made_for: Round) -> GPSampler:
    """One process per objective and limit, fitted anew for every suggestion.

    A suggestion takes about a second with ten choices and five with forty-five, and grows with the
    number of evaluations. Worth it where an evaluation takes minutes and choices are few; the
    predictor-guided default scores more architectures in a hundredth of the time.
    """
    return GPSampler(seed=made_for.seed, warn_independent_sampling=False)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return OptunaSearch(sampler, initial=20, batch=5)

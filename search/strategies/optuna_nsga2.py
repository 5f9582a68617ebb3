"""Optuna's NSGA-II: generations survive the replay as attributes of its trials."""

from __future__ import annotations

from functools import partial

from optuna.samplers import NSGAIISampler

from search.engines.optuna_replay import OptunaSearch, Round
from search.engines.pymoo_replay import Evaluated
from search.strategy import FitPredictor, Strategy

SUMMARY = "Optuna's NSGA-II"


def sampler(made_for: Round, population: int) -> NSGAIISampler:
    """Uniform crossover and random replacement of one choice in the mean, as Optuna has them."""
    return NSGAIISampler(population_size=population, seed=made_for.seed)


def generations(seen: Evaluated, population: int) -> list[dict[str, int]]:
    """The generation of each row, as the sampler stores it.

    Optuna starts a generation when the one before has ``population`` successes. Counted from the
    last row back, the last generation is always complete, whatever failed on the way: otherwise
    one failure would make the next round repeat the parents of this one.
    """
    key = NSGAIISampler._get_generation_key()
    offset = -len(seen) % population
    return [{key: (offset + i) // population} for i in range(len(seen))]


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return having(20)


def having(population: int) -> Strategy:
    """The strategy with this many survivors and children; Optuna's own default is 50."""
    return OptunaSearch(
        partial(sampler, population=population),
        ordinal=False,
        initial=population,
        batch=population,
        attributes=partial(generations, population=population),
    )

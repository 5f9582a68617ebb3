"""How large rounds are, and what is fitted in the end: methods that many strategies have alike.

Each is a function of the strategy, taken over by naming it in the class body, as in
``batch_size = start_with_initial``.
"""

from __future__ import annotations

from typing import Protocol

from search.engines.surrogates import fit_expensive
from search.history import History
from search.problem import SearchProblem
from search.strategy import FitPredictor, Model


class Batched(Protocol):
    """A strategy whose rounds are of one size."""

    @property
    def batch(self) -> int:
        """Evaluations per round."""
        ...


class StartsWithInitial(Batched, Protocol):
    """A strategy whose first round has a size of its own."""

    @property
    def initial(self) -> int:
        """Size of the first sample."""
        ...


class StartsWithPopulation(Batched, Protocol):
    """A strategy whose first round is a population."""

    @property
    def population(self) -> int:
        """Size of the first sample and of what survives."""
        ...


class Fitting(Protocol):
    """A strategy with a fit function."""

    @property
    def fit(self) -> FitPredictor | None:
        """Fits a predictor to one expensive quantity; ``None`` for none."""
        ...


def keep_batch(strategy: Batched, evaluated: int) -> int:
    """Always ``batch``."""
    return strategy.batch


def start_with_initial(strategy: StartsWithInitial, evaluated: int) -> int:
    """``initial`` at first, then ``batch``."""
    return strategy.initial if evaluated == 0 else strategy.batch


def complete_initial(strategy: StartsWithInitial, evaluated: int) -> int:
    """What is left of ``initial``, then ``batch``."""
    left = strategy.initial - evaluated
    return left if left > 0 else strategy.batch


def start_with_population(strategy: StartsWithPopulation, evaluated: int) -> int:
    """``population`` at first, then ``batch``."""
    return strategy.population if evaluated == 0 else strategy.batch


def fit_models(
    strategy: Fitting, problem: SearchProblem, history: History, seed: int
) -> dict[str, Model]:
    """A predictor for every expensive quantity with enough successful evaluations.

    None at all without ``fit``.
    """
    return fit_expensive(strategy.fit, problem, history, seed)

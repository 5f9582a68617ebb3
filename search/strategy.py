"""The contracts between the search loop, its strategies and the predictors handed to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from search.history import History
from search.problem import SearchProblem
from supernet.errors import InputError
from supernet.space import SearchSpace


class Model(Protocol):
    """A fitted predictor of one quantity, in its natural unit and direction."""

    def mean(self, positions: NDArray[np.integer]) -> NDArray[np.float64]:
        """Expected values ``(n,)`` of positions ``(n, len(space))``."""
        ...

    def predict(
        self, positions: NDArray[np.integer]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Expected values and standard deviations, ``(n,)`` each."""
        ...


class FitPredictor(Protocol):
    """Fits a model; ``predictors.fit`` is one."""

    def __call__(
        self,
        space: SearchSpace,
        positions: NDArray[np.integer],
        values: NDArray[np.floating],
        *,
        seed: int,
    ) -> Model:
        """Fit to positions ``(n, len(space))`` and finite values ``(n,)``."""
        ...


def require_fit(fit: FitPredictor | None, strategy: str) -> FitPredictor:
    """The fit function, for a strategy that cannot do without.

    Raises:
        InputError: There is none.
    """
    if fit is None:
        raise InputError(f"{strategy} needs a fit function, such as predictors.fit")
    return fit


def predict_nothing(
    strategy: object, problem: SearchProblem, history: History, seed: int
) -> Mapping[str, Model]:
    """``models`` of strategies that predict nothing."""
    return {}


class Strategy(Protocol):
    """Decides what to evaluate next, as a pure function of what is known."""

    @property
    def has_first_sample(self) -> bool:
        """Whether the first round is a sample that later ones learn from.

        Such a round must fit the budget whole, and may be chosen by other means. Without one the
        first round is as good as any other.
        """
        ...

    def batch_size(self, evaluated: int) -> int:
        """How many architectures to propose when so many have been evaluated; at least 1."""
        ...

    def propose(
        self, problem: SearchProblem, history: History, count: int, rng: np.random.Generator
    ) -> NDArray[np.int16]:
        """Up to ``count`` distinct, admissible rows ``(k, len(space))`` not in the history.

        Fewer than ``count`` mean that the strategy found no more; none ends the search.
        """
        ...

    def models(self, problem: SearchProblem, history: History, seed: int) -> Mapping[str, Model]:
        """Predictors of the expensive quantities after the search; empty for methods without."""
        ...

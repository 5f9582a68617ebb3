"""Random search: distinct random architectures, the floor every strategy has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.engines.rounds import keep_batch
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import fresh_rows
from search.strategy import FitPredictor, Strategy, predict_nothing

SUMMARY = "distinct random architectures; the baseline"
Rows = NDArray[np.int16]


@dataclass(frozen=True)
class RandomSearch:
    """Random rows within the cheap limits; ``batch`` at a time."""

    has_first_sample = False
    batch_size = keep_batch
    models = predict_nothing

    batch: int = 50

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        return fresh_rows(problem, history, count, rng)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return RandomSearch()

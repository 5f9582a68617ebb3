"""Statistics of cost are used where they rank unseen networks better, and only there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.predicting import InformedFit
from predictors import fit
from supernet.space import Choice, SearchSpace

SPACE = SearchSpace(tuple(Choice(f"c{i}", (0, 1, 2), "width") for i in range(14)))
ROWS = SPACE.sample(np.random.default_rng(0), 200)


def product(rows: NDArray[np.int16]) -> NDArray[np.float64]:
    """A quantity that additive models of single choices cannot express."""
    return np.prod(1.0 + rows[:, :7], axis=1) + np.prod(1.0 + rows[:, 7:], axis=1)


def test_a_telling_statistic_is_used() -> None:
    values = np.log(product(ROWS))
    informed = InformedFit(lambda rows: np.log(product(rows))[:, None])
    found = informed(SPACE, ROWS[:25], values[:25], seed=0)
    plain = fit(SPACE, ROWS[:25], values[:25], seed=0)
    assert found.report.tau > plain.report.tau + 0.02
    error = np.abs(found.mean(ROWS[25:]) - values[25:]).mean()
    assert error < np.abs(plain.mean(ROWS[25:]) - values[25:]).mean()


def test_noise_is_not() -> None:
    values = ROWS @ np.arange(1.0, 15.0)
    rng = np.random.default_rng(1)
    informed = InformedFit(lambda rows: rng.normal(size=(len(rows), 3)))
    found = informed(SPACE, ROWS[:60], values[:60], seed=0)
    plain = fit(SPACE, ROWS[:60], values[:60], seed=0)
    assert (found.mean(ROWS[60:]) == plain.mean(ROWS[60:])).all()

"""Statistics of cost are used where they rank unseen networks better, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.searching.informed_fit import InformedFit
from app.searching.results.report_cards import make_report_cards
from predictors import fit
from search import History, Objective, SearchProblem
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


@pytest.mark.parametrize(("direction", "best"), [("maximize", "highest"), ("minimize", "lowest")])
def test_cards_know_which_values_are_wanted(direction: str, best: str) -> None:
    def never(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        raise AssertionError("nothing is evaluated")

    problem = SearchProblem(
        SPACE,
        (
            Objective("loss", "nats/token", direction, never, "evaluated"),
            Objective("macs", "", "minimize", never, "analytic"),
        ),
    )
    values = ROWS[:40] @ np.arange(1.0, 15.0) + np.random.default_rng(2).normal(0, 20, 40)
    history = History.empty(problem.names, len(SPACE))
    history = history.append(ROWS[:40], np.stack((values, values), axis=1), 0)
    model = fit(SPACE, ROWS[:40], values, seed=0)
    card = make_report_cards(problem, history, {"loss": model}, seed=0, fit=fit)["loss"]
    sign = 1.0 if best == "highest" else -1.0
    chosen = np.argsort(-sign * model.held_out.mean, kind="stable")[:2]
    assert card.best == best
    assert card.regret == (sign * values).max() - (sign * values[chosen]).max()


def test_noise_is_not() -> None:
    values = ROWS @ np.arange(1.0, 15.0)
    rng = np.random.default_rng(1)
    informed = InformedFit(lambda rows: rng.normal(size=(len(rows), 3)))
    found = informed(SPACE, ROWS[:60], values[:60], seed=0)
    plain = fit(SPACE, ROWS[:60], values[:60], seed=0)
    assert (found.mean(ROWS[60:]) == plain.mean(ROWS[60:])).all()

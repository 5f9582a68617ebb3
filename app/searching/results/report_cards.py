"""Report cards of predictors with the learning curve that says how many evaluations are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from predictors import ReportCard, add_learning_curve, measure_learning_curve, rescore_for_cost
from predictors.predictor import Fit
from search import History, SearchProblem


def make_report_cards(
    problem: SearchProblem,
    history: History,
    models: Mapping[str, Any],
    *,
    seed: int,
    fit: Fit,
) -> dict[str, ReportCard]:
    """Make the cards of predictors fitted to a history, learning curves included.

    Args:
        problem: The problem whose expensive quantities are predicted.
        history: What the models were fitted to.
        models: By quantity; those that come without a report card are left out.
        seed: Deals the rows of the learning curve.
        fit: How the predictors were fitted.
    """
    cards = {}
    for name, model in models.items():
        report = getattr(model, "report", None)
        if not isinstance(report, ReportCard):
            continue
        column = problem.column(name)
        # A predictor does not know which end of what it predicts is wanted.
        if problem.quantities[column].direction == "minimize":
            report = rescore_for_cost(report, model.held_out)
        values = history.values[:, column]
        known = np.isfinite(values)
        curve = measure_learning_curve(
            problem.space, history.positions[known], values[known], fit=fit, seed=seed
        )
        cards[name] = add_learning_curve(report, curve)
    return cards

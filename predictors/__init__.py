"""Predictors: architectures in, numbers with error bars out."""

from __future__ import annotations

from predictors.features.encoding import Statistics, one_hot
from predictors.learning_curve import card_with_curve
from predictors.predictor import (
    Predictor,
    ReportCard,
    card_of_cost,
    card_text,
    held_out_prediction,
    interval,
)
from predictors.select import fit

__all__ = [
    "Predictor",
    "ReportCard",
    "Statistics",
    "card_of_cost",
    "card_text",
    "card_with_curve",
    "fit",
    "held_out_prediction",
    "interval",
    "one_hot",
]

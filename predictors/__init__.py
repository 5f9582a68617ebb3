"""Predictors: architectures in, numbers with error bars out."""

from __future__ import annotations

from predictors.features.encoding import Statistics, one_hot
from predictors.learning_curve import add_learning_curve, measure_learning_curve
from predictors.predictor import Fit, Predictor, predict_held_out, predict_interval
from predictors.report_card import ReportCard, rescore_for_cost, summarise_card
from predictors.select import fit

__all__ = [
    "Fit",
    "Predictor",
    "ReportCard",
    "Statistics",
    "add_learning_curve",
    "fit",
    "measure_learning_curve",
    "one_hot",
    "predict_held_out",
    "predict_interval",
    "rescore_for_cost",
    "summarise_card",
]

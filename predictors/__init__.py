"""Predictors: architectures in, numbers with error bars out."""

from __future__ import annotations

from predictors.encoding import Statistics, one_hot
from predictors.predictor import Predictor, ReportCard, held_out_prediction, interval
from predictors.select import fit

__all__ = [
    "Predictor",
    "ReportCard",
    "Statistics",
    "fit",
    "held_out_prediction",
    "interval",
    "one_hot",
]

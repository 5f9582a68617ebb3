"""Automatic choice of a prediction method by cross-validated rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from predictors.features.encoding import Extras
from predictors.models import gaussian_process, ridge
from predictors.predictor import Fit, Predictor, Rows, Values
from supernet.errors import InputError
from supernet.space import SearchSpace

# Only methods whose held-out predictions come in closed form: choosing costs milliseconds and
# nothing here imports scikit-learn.
DEFAULT_METHODS: tuple[Fit, ...] = (gaussian_process.fit, ridge.fit)
# Held-out taus of n rows scatter by about 1 / sqrt(n), those of two methods on the same rows by a
# fraction of it: a smaller lead is chance, and so is a lead of the error by less than a fifth.
_LEAD, _SMALLER = 0.15, 0.8


def fit(
    space: SearchSpace,
    positions: Rows,
    values: Values,
    *,
    methods: Sequence[Fit] = DEFAULT_METHODS,
    seed: int,
    statistics: Extras = None,
) -> Predictor:
    """Fit every method and return the one that ranks unseen architectures best.

    A later method takes the place of an earlier one when its held-out Kendall tau is ahead by more
    than chance, or is as good and the error clearly smaller.

    Args:
        space: As in :class:`predictors.predictor.Fit`.
        positions: Likewise.
        values: Likewise.
        methods: Candidates, preferred ones first; by default the Gaussian process, then ridge
            regression.
        seed: Handed to each method.
        statistics: Handed to each method.

    Raises:
        InputError: There are no methods, or as in :class:`predictors.predictor.Fit`.
    """
    if not methods:
        raise InputError("choosing a predictor needs at least one method")
    # Several BLAS threads on matrices this small mostly wait for each other.
    with ThreadpoolController().limit(limits=1, user_api="blas"):
        fitted = [
            method(space, positions, values, seed=seed, statistics=statistics) for method in methods
        ]

    best = fitted[0]
    for rival in fitted[1:]:
        if _is_ahead(rival, best):
            best = rival
    return best


def _is_ahead(rival: Predictor, best: Predictor) -> bool:
    ours, theirs = (
        model.report.tau if np.isfinite(model.report.tau) else -2.0 for model in (best, rival)
    )
    margin = _LEAD / np.sqrt(rival.report.samples)
    smaller = rival.report.rmse < _SMALLER * best.report.rmse
    return bool(theirs > ours + margin or (theirs > ours - margin and smaller))

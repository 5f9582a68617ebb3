"""What an earlier run on other data says about this one: its predictor as feature or prior."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from predictors.features.encoding import Extras, Features, Statistics
from predictors.predictor import Fit, Predictor, Rows, Values, prepare_training_rows
from predictors.report_card import HeldOut, ReportCard, Vector, make_report_card
from supernet.errors import InputError
from supernet.space import SearchSpace

# How much smaller the earlier run must make held-out errors before it is used at all: of several
# candidates judged on few values, one often looks a little better than it is.
MARGIN = 0.03


@dataclass(frozen=True)
class Corrected:
    """A straight line through an earlier predictor's mean, and a predictor of what it misses.

    Args:
        prior: The predictor of the earlier run.
        slope: How fast the values rise with the prior's mean.
        offset: What the values are where that mean is 0.
        rest: The predictor of the remainder.
        report: The report card of line and remainder together.
        held_out: The held-out predictions behind it.
    """

    prior: Predictor
    slope: float
    offset: float
    rest: Predictor
    report: ReportCard
    held_out: HeldOut

    def mean(self, positions: Rows) -> Vector:
        """Expected values ``(n,)``."""
        return self._line(positions) + self.rest.mean(positions)

    def predict(self, positions: Rows) -> tuple[Vector, Vector]:
        """Expected values and standard deviations, ``(n,)`` each."""
        mean, std = self.rest.predict(positions)
        return self._line(positions) + mean, std

    def _line(self, positions: Rows) -> Vector:
        return self.slope * self.prior.mean(positions) + self.offset


def transfer(fit: Fit, earlier_positions: Rows, earlier_values: NDArray[np.floating]) -> Fit:
    """Let an earlier run over the same choices, on other data or another device, help this one.

    Three predictors are fitted: one that ignores the earlier run, one with the earlier predictor's
    mean as a further statistic, and one of what is left after a straight line through that mean.
    Held-out errors decide, and the first keeps the job unless another is clearly better, so that
    an earlier run that has nothing to do with this one costs little.

    Args:
        fit: What fits the earlier and the new values, such as ``predictors.fit``.
        earlier_positions: ``(m, len(space))``.
        earlier_values: ``(m,)``, finite, in any unit; larger should mean larger here too.

    Returns:
        A fit with the signature of ``predictors.fit``, to be handed to a search strategy.

    Raises:
        InputError: Fewer than 3 earlier rows, or not one value for each.
    """
    rows, numbers = np.array(earlier_positions), np.array(earlier_values, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 3 or numbers.shape != (len(rows),):
        raise InputError(
            f"an earlier run with positions of shape {rows.shape} and values of shape "
            f"{numbers.shape} cannot be transferred; it needs at least 3 rows and a value for each"
        )

    # A search fits again after every round, and the earlier run stays what it was.
    @lru_cache(maxsize=4)
    def earlier(space: SearchSpace) -> Predictor:
        return fit(space, rows, numbers, seed=0)

    def fit_with_prior(
        space: SearchSpace,
        positions: Rows,
        values: Values,
        *,
        seed: int,
        statistics: Extras = None,
    ) -> Predictor:
        prior = earlier(space)
        plain = fit(space, positions, values, seed=seed, statistics=statistics)
        feature = fit(
            space, positions, values, seed=seed, statistics=_append_mean(statistics, prior)
        )
        corrected = _fit_corrected(fit, prior, space, positions, values, seed, statistics)
        best = min((feature, corrected), key=lambda model: model.report.rmse)
        clear = best.report.rmse < (1 - MARGIN) * plain.report.rmse
        return best if clear else plain

    return fit_with_prior


def _append_mean(statistics: Extras, prior: Predictor) -> Statistics:
    def columns(positions: NDArray[np.int16]) -> Features:
        mean = prior.mean(positions)[:, None]
        return mean if statistics is None else np.concatenate((statistics(positions), mean), 1)

    return columns


def _fit_corrected(
    fit: Fit,
    prior: Predictor,
    space: SearchSpace,
    positions: Rows,
    values: Values,
    seed: int,
    statistics: Extras,
) -> Corrected:
    """The line by least squares, never falling; held-out values leave it out of the row too."""
    rows, targets = prepare_training_rows(space, positions, values)
    x = prior.mean(rows)
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = max(float(centred @ targets) / spread, 0.0) if spread > 1e-20 else 0.0
    line = slope * centred + targets.mean()
    rest = fit(space, rows, targets - line, seed=seed, statistics=statistics)
    leverage = 1 / len(rows) + (centred**2 / spread if slope else 0.0)
    # What the line would say about each row without it (the usual leave-one-out identity).
    unseen = targets - (targets - line) / np.maximum(1 - leverage, 1e-3)
    # The line's own share of a held-out error is not part of the remainder's.
    mean = rest.held_out.mean + unseen
    held_out = HeldOut(rows, targets, mean, rest.held_out.std)
    return Corrected(
        prior=prior,
        slope=slope,
        offset=float(targets.mean() - slope * x.mean()),
        rest=rest,
        report=make_report_card(rest.report.model, held_out),
        held_out=held_out,
    )

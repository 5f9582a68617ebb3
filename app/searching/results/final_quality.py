"""The quality of a search's points, as all evidence has it: its posterior.

The best of many noisy evaluations is a lucky one. What is stated of a point is therefore not what
was evaluated alone, but the posterior of :mod:`predictors.posterior`, given every evaluation of the
search and further ones of those that are in question (:mod:`app.searching.results.confirm`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.records.quantities import ACCURACY
from app.searching.results.evidence import Evidence
from predictors import Statistics
from predictors.posterior import Posterior, infer_posterior
from search import History, SearchProblem
from supernet.quality.sampling_error import Z_TWO_SIDED_95, compute_wilson_interval

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class FinalQuality:
    """What is known of one quality of evaluated networks when all evidence is taken together.

    Args:
        name: Name of the quality.
        rows: The networks' rows in the history of the search, ascending, ``(k,)``.
        posterior: Of their true values, apart from what all evaluations have in common.
        shared: Standard error of each that all networks share, ``(k,)``.
        samples: Validation samples behind each, ``(k,)``.
    """

    name: str
    rows: NDArray[np.intp]
    posterior: Posterior
    shared: Vector
    samples: NDArray[np.intp]

    @property
    def deviation(self) -> Vector:
        """Standard deviation of what each may be on new data around what is stated, ``(k,)``."""
        total: Vector = np.hypot(self.posterior.deviation, self.shared)
        return total

    @property
    def low(self) -> Vector:
        """Lower ends of 95 % intervals for the quality on new data, ``(k,)``."""
        return self.bound()[0]

    @property
    def high(self) -> Vector:
        """Upper ends."""
        return self.bound()[1]

    def bound(self, z: float = Z_TWO_SIDED_95) -> tuple[Vector, Vector]:
        """Both ends of intervals for the quality on new data, ``(k,)`` each.

        Args:
            z: Standard deviations to either side, 95 % by default.
        """
        mean, deviation = self.posterior.mean, self.deviation
        if self.name != ACCURACY.name:
            return np.maximum(mean - z * deviation, 0.0), mean + z * deviation
        ends = [bound_share(share, error, z) for share, error in zip(mean, deviation, strict=True)]
        low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
        return low, high


def bound_share(share: float, error: float, z: float = Z_TWO_SIDED_95) -> tuple[float, float]:
    """Bound a share with a standard error by an interval that stays within 0 and 1.

    Wilson's, of as many answers as would have this error.

    Args:
        share: In 0..1, or beyond by what a model is off.
        error: Its standard error.
        z: Standard deviations to either side.
    """
    inside = float(np.clip(share, 0.0, 1.0))
    if error <= 0:
        return inside, inside
    # The error of a share near an end says little about how many answers there were.
    count = max(inside * (1 - inside), error * error) / (error * error)
    return compute_wilson_interval(inside, count, z)


def infer_quality(
    problem: SearchProblem,
    history: History,
    name: str,
    rows: NDArray[np.intp],
    evidence: Evidence,
    statistics: Statistics | None,
    seed: int,
) -> FinalQuality:
    """Infer the posterior of a quality.

    Args:
        problem: Of the search.
        history: What it evaluated.
        name: Of the quality.
        rows: Networks whose quality was evaluated to the end, ascending rows of the history,
            ``(k,)``; see :func:`app.searching.results.contenders.choose_rows`.
        evidence: What was evaluated of them, ``(k,)``.
        statistics: Free numbers of architectures, for the model.
        seed: Of the search.
    """
    objective = problem.quantities[problem.column(name)]
    posterior = infer_posterior(
        problem.space,
        history.positions[rows],
        evidence.values,
        evidence.own,
        maximize=objective.direction == "maximize",
        seed=seed,
        statistics=statistics,
        together=evidence.apart,
    )
    if evidence.told:
        rest = evidence.errors**2 - evidence.own**2
    else:
        # A model takes errors that are not shared for luck that cancels out. They may be shared,
        # and then what is stated of a network is no better known than its evaluation is.
        rest = evidence.errors**2 - posterior.deviation**2
    shared = np.sqrt(np.maximum(rest, 0.0))
    return FinalQuality(name, rows, posterior, shared, evidence.samples)

"""How far statistics of an audit may be off: by the luck of its networks, and of its samples.

Two variances are added. That of the networks is the jackknife's: every network is left out once
(Efron and Stein 1981, "The jackknife estimate of variance", which errs on the wide side). That of
the samples is the bootstrap's: groups of samples are drawn anew, the same for all that is compared.
What is luck of single networks on single samples is in both, so that intervals are rather too wide
than too narrow; ``tests/app/test_audit_intervals.py`` counts how often those of simulated audits
hold the truth. The luck of a training is in them as far as every network has a training of its own;
a supernet has one for all of its networks, and another seed is another supernet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

REPLICATES = 1000
CONFIDENCE = 0.95
# More groups than this are put together at random, which leaves errors of means what they are.
MOST_GROUPS = 4096
# Pairs of networks that are compared at once.
_MOST_PAIRS = 1 << 21


@dataclass(frozen=True)
class Scored:
    """Qualities of networks.

    Args:
        values: As evaluations state them, ``(n,)``.
        sums: Scores of each network summed by group of samples, ``(n, groups)``.
    """

    values: Vector
    sums: Matrix

    def take(self, rows: NDArray[np.intp]) -> Scored:
        """Those of some networks."""
        return Scored(self.values[rows], self.sums[rows])


@dataclass(frozen=True)
class Varied:
    """Numbers of networks as they are, and as they would be with less or with other luck.

    Args:
        whole: All networks, ``(1, n)``.
        fewer: Without one of them, ``(n, n - 1)``.
        drawn: All of them on samples drawn anew, ``(replicates, n)``.
    """

    whole: Matrix
    fewer: Matrix
    drawn: Matrix


@dataclass(frozen=True)
class Measured:
    """A statistic with what makes its interval.

    Args:
        value: Of all networks; NaN where it is undefined.
        fewer: Without one of them, ``(n,)``.
        drawn: On samples drawn anew, ``(replicates,)``.
    """

    value: float
    fewer: Vector
    drawn: Vector

    def less(self, other: Measured) -> Measured:
        """The difference to another statistic of the same networks on the same samples."""
        return Measured(
            self.value - other.value, self.fewer - other.fewer, self.drawn - other.drawn
        )

    def find_interval(
        self, bound: float = math.inf, confidence: float = CONFIDENCE
    ) -> tuple[float, float]:
        """Find the ends of its interval, as wide as Student's distribution asks of so few networks.

        Args:
            bound: Nothing is beyond it, to either side.
            confidence: How often such intervals hold the truth.

        Returns:
            Both ends; NaN twice where the statistic, or its error, is undefined.
        """
        from scipy.special import stdtrit

        fewer, drawn = (x[~np.isnan(x)] for x in (self.fewer, self.drawn))
        if math.isnan(self.value) or len(fewer) < 2 or len(drawn) < 2:
            return math.nan, math.nan
        count = len(self.fewer)
        networks = (len(fewer) - 1) * float(fewer.var())
        half = float(stdtrit(count - 1, (1 + confidence) / 2)) * math.sqrt(
            networks + float(drawn.var())
        )
        return max(-bound, self.value - half), min(bound, self.value + half)


@dataclass(frozen=True)
class Resampler:
    """Groups of samples drawn anew, the same for all that is compared.

    Args:
        sizes: Samples of each group, ``(groups,)``.
        weights: How often each group was drawn, ``(groups, replicates)``.
    """

    sizes: Vector
    weights: NDArray[np.int64]

    @classmethod
    def draw(cls, sizes: Vector, seed: int) -> Resampler:
        """Draw as many groups as there are, again and again.

        Args:
            sizes: Samples of each group, ``(groups,)``; a single group is the same in each draw.
            seed: Equal ones draw equally.
        """
        count = len(sizes)
        rng = np.random.default_rng([seed, 3])
        weights = rng.multinomial(count, np.full(count, 1 / count), size=REPLICATES).T
        return cls(sizes, weights)

    def vary(self, scored: Scored) -> Varied:
        """Qualities of networks under other luck."""
        drawn = (scored.sums @ self.weights) / (self.sizes @ self.weights)
        return Varied(scored.values[None], _leave_out(scored.values), drawn.T)

    def repeat(self, values: Vector) -> Varied:
        """What depends on no samples, such as costs, ``(n,)``."""
        count = self.weights.shape[1]
        return Varied(values[None], _leave_out(values), np.tile(values, (count, 1)))


def measure(
    statistic: Callable[[Matrix, Matrix], Vector], first: Varied, second: Varied
) -> Measured:
    """Measure a statistic of two numbers of each network.

    Args:
        statistic: Of each row of ``(rows, n)`` with the same row of another.
        first: The first numbers.
        second: The second ones of the same networks.
    """
    return Measured(
        float(statistic(first.whole, second.whole)[0]),
        statistic(first.fewer, second.fewer),
        statistic(first.drawn, second.drawn),
    )


def sum_by_group(scores: Sequence[Vector], groups: Tensor | None) -> tuple[Matrix, Vector]:
    """Sum scores of single samples by group.

    Args:
        scores: Of each network, ``(samples,)``.
        groups: Group of each sample, ``(samples,)``; ``None`` where all are independent.

    Returns:
        Sums ``(n, groups)``, and the samples of each group ``(groups,)``.
    """
    names = np.arange(len(scores[0])) if groups is None else groups.numpy()
    _, places = np.unique(names, return_inverse=True)
    count = int(places.max()) + 1
    if count > MOST_GROUPS:
        order = np.random.default_rng(0).permutation(count) % MOST_GROUPS
        places, count = order[places], MOST_GROUPS
    sums: Matrix = np.stack(
        [np.bincount(places, weights=row, minlength=count).astype(np.float64) for row in scores]
    )
    return sums, np.bincount(places, minlength=count).astype(np.float64)


def mean_gaps(first: Matrix, second: Matrix) -> Vector:
    """Mean of the first less the second, of each row."""
    found: Vector = (first - second).mean(axis=1)
    return found


def kendall_taus(first: Matrix, second: Matrix) -> Vector:
    """Kendall's tau-b of each row of ``(rows, n)`` with the same row of another; NaN where flat."""
    i, j = np.triu_indices(first.shape[1], 1)
    taus = np.full(len(first), math.nan)
    step = max(1, _MOST_PAIRS // max(1, len(i)))
    for begin in range(0, len(first), step):
        part = slice(begin, begin + step)
        a, b = (np.sign(x[part][:, i] - x[part][:, j]) for x in (first, second))
        untied = np.sqrt(np.abs(a).sum(axis=1) * np.abs(b).sum(axis=1))
        known = untied > 0
        taus[part][known] = (a * b).sum(axis=1)[known] / untied[known]
    return taus


def spearmans(first: Matrix, second: Matrix) -> Vector:
    """Spearman's correlation of each row of ``(rows, n)`` with the same row; NaN where flat."""
    from scipy.stats import rankdata

    a, b = (np.asarray(rankdata(x, axis=1), dtype=np.float64) for x in (first, second))
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    size[size == 0] = math.nan
    found: Vector = (a * b).sum(axis=1) / size
    return found


def _leave_out(values: Vector) -> Matrix:
    """All but one of some values ``(n,)``, ``(n, n - 1)``."""
    return np.array([np.delete(values, row) for row in range(len(values))])

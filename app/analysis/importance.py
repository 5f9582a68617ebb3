"""What each choice does to a quantity: its share of what differs, and the effect of each value.

A linear model of main effects: one number per value of each choice, so that effects add up. A
choice that is only there with another one (a kernel of a block, with the depth of its stage) is
measured against the mean of the networks that have it; that the block is there at all counts for
the depth. What choices do together, beyond the sum, is no one's share and is stated as the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.analysis.positions import Encoded
from supernet.space import SearchSpace, Value

# With fewer architectures than this a share of several choices is a coin toss.
LEAST_ROWS = 12
# More than this make the shares no truer, only the page slower.
MOST_ROWS = 5_000
_FOLDS = 5
_PENALTIES = 10.0 ** np.arange(-2, 4.1, 0.5)
# Half a 95 % interval of a normal distribution, in standard deviations.
_WIDE = 1.96

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ChoiceEffect:
    """What one choice does, all numbers in the unit of the values; arrays are ``(values,)``.

    Args:
        name: Of the choice.
        values: The legal ones.
        counts: Architectures with each value.
        means: Expected value with each, everything else being as it is on average among the
            architectures that have the choice; NaN where none has the value.
        low: Lower end of the 95 % interval of each.
        high: Upper end.
        share: Of the variance of architectures left out of the fit, what this choice explains;
            below 0 where chance made its effects.
    """

    name: str
    values: tuple[Value, ...]
    counts: NDArray[np.int64]
    means: Floats
    low: Floats
    high: Floats
    share: float

    @property
    def span(self) -> float:
        """Between the least and the largest expected value; 0 where only one is known."""
        known = self.means[~np.isnan(self.means)]
        return float(np.ptp(known)) if len(known) else 0.0


@dataclass(frozen=True)
class MainEffects:
    """What all choices do to a quantity.

    Args:
        choices: In the order of the space.
        explained: Share of the variance of architectures left out of the fit that the sum of
            all effects explains (R²); exactly the sum of the shares of the choices.
        noise: Share of the variance that is noise of the evaluations, where their standard
            errors are known.
        rows: Architectures used.
        of: Architectures there were.
    """

    choices: tuple[ChoiceEffect, ...]
    explained: float
    noise: float | None
    rows: int
    of: int

    def rank(self) -> tuple[ChoiceEffect, ...]:
        """The choices by falling share."""
        return tuple(sorted(self.choices, key=lambda effect: -effect.share))


def fit_main_effects(
    space: SearchSpace, encoded: Encoded, values: Floats, errors: Floats | None = None
) -> MainEffects | None:
    """Fit main effects, and judge them by architectures that were left out.

    Ridge regression on one column per value; five folds, each predicted by a fit to the others,
    choose the penalty and give the shares. Nothing is drawn: folds go by place.

    Args:
        space: The search space.
        encoded: Architectures.
        values: Their values ``(n,)``; those that are not finite are left out.
        errors: Standard errors of the values ``(n,)``, NaN for an unknown one.

    Returns:
        ``None`` with fewer than 12 usable architectures, or where all have one value.
    """
    usable = np.flatnonzero(encoded.known & np.isfinite(values))
    total = len(usable)
    if total > MOST_ROWS:
        usable = usable[np.arange(MOST_ROWS) * total // MOST_ROWS]
    targets = values[usable]
    if len(usable) < LEAST_ROWS or not np.ptp(targets):
        return None
    rows, active = encoded.rows[usable], encoded.active[usable]
    owners = np.repeat(np.arange(len(space)), space.cardinalities)
    places = np.concatenate([np.arange(count) for count in space.cardinalities])
    held = active[:, owners] & (rows[:, owners] == places)
    counts = held.sum(axis=0)
    present = active.sum(axis=0)[owners]
    rates = counts / np.maximum(present, 1)
    design = held - rates * active[:, owners]
    fitted = _cross_fit(design, targets)
    shares = np.zeros(len(space))
    np.add.at(shares, owners, fitted.gains)
    effects, errors_of = _estimate_effects(fitted, owners, rates)
    known = counts > 0
    # The level that the effects of a choice are about: that of the networks which have it.
    level = (active * targets[:, None]).sum(axis=0) / np.maximum(active.sum(axis=0), 1)
    means = np.where(known, level[owners] + effects, np.nan)
    half = np.where(known, _WIDE * errors_of, np.nan)
    choices = tuple(
        ChoiceEffect(
            choice.name,
            choice.values,
            counts[mine],
            means[mine],
            (means - half)[mine],
            (means + half)[mine],
            float(shares[i]),
        )
        for i, choice in enumerate(space.choices)
        for mine in [owners == i]
    )
    noise = None if errors is None else _share_of_noise(errors[usable], targets)
    return MainEffects(choices, float(fitted.gains.sum()), noise, len(usable), total)


@dataclass(frozen=True)
class _Fitted:
    """What each column gains, and the effects of all of them under a prior that says little.

    Args:
        gains: Of the variance of rows left out, what each column explains, ``(columns,)``.
        weights: Of each column, ``(columns,)``.
        covariance: Of the weights, ``(columns, columns)``.
    """

    gains: Floats
    weights: Floats
    covariance: Floats


def _cross_fit(design: Floats, targets: Floats) -> _Fitted:
    folds = [np.arange(first, len(targets), _FOLDS) for first in range(_FOLDS)]
    parts = [_Sums.of(design[fold], targets[fold]) for fold in folds]
    whole = _Sums.of(design, targets)
    solved = [_Solver(whole.without(part)) for part in parts]
    judged = [solver.centre_sums(part) for solver, part in zip(solved, parts, strict=True)]
    spread = sum(
        float(((targets[fold] - solver.level) ** 2).sum())
        for fold, solver in zip(folds, solved, strict=True)
    )
    best: tuple[float, Floats] | None = None
    for penalty in _PENALTIES:
        gains = np.zeros(design.shape[1])
        for solver, (gram, vector) in zip(solved, judged, strict=True):
            weights = solver.solve(penalty)
            # r² - (r - g)² = g (2 r - g), a sum over the columns that make up g.
            gains += weights * (2 * vector - gram @ weights)
        if best is None or gains.sum() > best[0]:
            best = (float(gains.sum()), gains)
    assert best is not None
    total, gains = best
    variance = max((spread - total) / len(targets), 1e-12 * spread)
    # The penalty that predicts best shrinks effects, and intervals around shrunk ones miss the
    # truth; a prior as wide as the values themselves leaves them where they are.
    final = _Solver(whole)
    prior = variance / (spread / len(targets))
    return _Fitted(gains / spread, final.solve(prior), variance * final.invert(prior))


@dataclass(frozen=True)
class _Sums:
    """Sums over rows, from which a fit follows."""

    count: int
    columns: Floats
    total: float
    products: Floats
    crossed: Floats

    @classmethod
    def of(cls, design: Floats, targets: Floats) -> _Sums:
        """Those of rows ``(n, columns)`` and their targets ``(n,)``."""
        total = float(targets.sum())
        products, crossed = design.T @ design, design.T @ targets
        return cls(len(targets), design.sum(axis=0), total, products, crossed)

    def without(self, part: _Sums) -> _Sums:
        """Those of the rows that are not in a part."""
        return _Sums(
            self.count - part.count,
            self.columns - part.columns,
            self.total - part.total,
            self.products - part.products,
            self.crossed - part.crossed,
        )


class _Solver:
    """Ridge regression for any penalty from sums over rows, with an intercept left free."""

    def __init__(self, sums: _Sums) -> None:
        self.level = sums.total / sums.count
        self.centre = sums.columns / sums.count
        self.gram, self._vector = self.centre_sums(sums)
        self._values, self._basis = np.linalg.eigh(self.gram)
        self._turned = self._basis.T @ self._vector

    def centre_sums(self, sums: _Sums) -> tuple[Floats, Floats]:
        """Products of the columns, and of columns and targets, about the means of this fit."""
        mixed = np.outer(self.centre, sums.columns)
        moved = sums.count * np.outer(self.centre, self.centre)
        gram = sums.products - mixed - mixed.T + moved
        excess = sums.total - sums.count * self.level
        return gram, sums.crossed - sums.columns * self.level - self.centre * excess

    def solve(self, penalty: float) -> Floats:
        """The weights ``(columns,)``."""
        shrunk: Floats = self._turned / (np.maximum(self._values, 0.0) + penalty)
        return self._basis @ shrunk

    def invert(self, penalty: float) -> Floats:
        """The inverse of products and penalty, ``(columns, columns)``."""
        turned: Floats = self._basis / (np.maximum(self._values, 0.0) + penalty)
        return turned @ self._basis.T


def _estimate_effects(
    fitted: _Fitted, owners: NDArray[np.intp], rates: Floats
) -> tuple[Floats, Floats]:
    """The effect of each value against the mean of its choice, and its standard error."""
    # An effect is its weight less the mean weight of its choice.
    contrast = np.eye(len(owners)) - (owners[:, None] == owners) * rates
    spread = ((contrast @ fitted.covariance) * contrast).sum(axis=1)
    return contrast @ fitted.weights, np.sqrt(np.maximum(spread, 0.0))


def _share_of_noise(errors: Floats, targets: Floats) -> float | None:
    known = np.isfinite(errors)
    if not known.any():
        return None
    return float(min((errors[known] ** 2).mean() / targets.var(), 1.0))

"""What noisy measurements say about each other: a joint posterior of the true values.

The best of many noisy values is a lucky one (Smith and Winkler 2006, "The Optimizer's Curse"). A
model that knows how alike architectures are tells luck from merit: the posterior of each true value
weighs its own measurement against those of all others, each by what it is worth, and is not
optimistic about the best however it was selected, as far as the model holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from predictors.features.coded import find_owners, has_names_alone, join_features
from predictors.features.covariance import (
    Layout,
    begin_parameters,
    invert,
    lay_out,
    make_covariance,
    tune,
)
from predictors.features.encoding import Extras, Standardised, standardise
from predictors.predictor import Rows, Values, prepare_training_rows
from supernet.errors import InputError
from supernet.space import SearchSpace

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# With fewer rows nothing can be said about how alike they are.
LEAST_ROWS = 8
TUNING_ROWS, TUNING_STEPS = 300, 25
# Values worse than the median by more than so many times what the best tenth is better by are of
# networks that fail; their spread says nothing about those that could be chosen. Where good
# networks differ less than others do, that holds for the whole worse half.
TAIL, CLOSE_TAIL = 3.0, 0.25


@dataclass(frozen=True)
class Posterior:
    """A joint normal distribution of the true values of measured architectures.

    Args:
        mean: Expected values, ``(n,)``.
        covariance: Their covariances, ``(n, n)``.
    """

    mean: Vector
    covariance: Matrix

    @property
    def deviation(self) -> Vector:
        """Standard deviation of each true value, ``(n,)``."""
        deviation: Vector = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        return deviation

    def draw(self, rows: NDArray[np.intp], count: int, rng: np.random.Generator) -> Matrix:
        """Draw what the true values of some rows may be.

        Args:
            rows: Which of the architectures, ``(k,)``.
            count: How many times.
            rng: Where chance comes from.

        Returns:
            Drawn values, ``(count, k)``.
        """
        covariance = self.covariance[np.ix_(rows, rows)]
        # An eigendecomposition takes covariances of any rank; rounding may leave some below 0.
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        drawn: Matrix = self.mean[rows] + rng.standard_normal((count, len(rows))) @ root.T
        return drawn


def infer_posterior(
    space: SearchSpace,
    positions: Rows,
    values: Values,
    errors: Values,
    *,
    maximize: bool,
    seed: int,
    statistics: Extras = None,
    together: Values | None = None,
) -> Posterior:
    """Infer what the true values are from what was measured.

    A Gaussian process (Rasmussen and Williams 2006, equations 2.25 and 2.26, for the measured
    architectures themselves) with a relevance for every choice, whose measurement errors are known
    and not tuned. What a network has of its own, beyond what its choices explain, is a variance of
    its own that is tuned: it is part of the true value, unlike the error. Where leave-one-out
    errors are larger than the process claims, its deviations are widened by as much.

    Args:
        space: The search space.
        positions: Measured architectures, ``(n, len(space))``.
        values: What was measured, ``(n,)``, in one unit.
        errors: Standard deviation of each measurement around the true value, ``(n,)``, in the unit
            of the values; 0 for exact ones.
        maximize: Whether larger values are better: what is worse than most by far is not allowed to
            decide how much others differ, nor is all of the worse half where the better one is more
            probable so.
        seed: Decides which rows relevances are tuned on where there are more than a few hundred.
        statistics: As for :class:`predictors.predictor.Fit`; used where they make the values more
            probable.
        together: Covariance ``(n, n)`` of errors besides those that are each measurement's own, in
            the squared unit of the values: of what some measurements have in common and others have
            not. What all have in common is no part of it, and none of the posterior. ``None`` for
            nothing.

    Returns:
        The posterior in the order of the rows.

    Raises:
        InputError: Fewer than 3 rows, or values or errors that are not finite, or negative errors,
            or ``together`` of another shape or not finite.
    """
    rows, targets = prepare_training_rows(space, positions, values)
    noise = np.asarray(errors, dtype=np.float64)
    if noise.shape != targets.shape or not (np.isfinite(noise).all() and (noise >= 0).all()):
        raise InputError(
            f"{len(targets)} measurements need as many errors that are finite and not negative"
        )
    common: Matrix = np.zeros((len(rows), len(rows)))
    common = common if together is None else np.asarray(together, dtype=np.float64)
    if common.shape != (len(rows), len(rows)):
        raise InputError(
            f"{len(rows)} measurements need errors together of shape {len(rows), len(rows)}, not "
            f"{common.shape}"
        )
    if not np.isfinite(common).all():
        raise InputError("errors together must be finite")
    if len(rows) < LEAST_ROWS or np.ptp(targets) == 0:
        return Posterior(targets, np.diag(noise**2) + common)
    sign = 1.0 if maximize else -1.0
    merit = targets * sign
    middle = float(np.median(merit))
    ahead = max(float(np.quantile(merit, 0.9)) - middle, float(np.median(noise)))

    def infer(lowest: float) -> _Inferred:
        kept = sign * np.maximum(merit, lowest)
        return _infer(space, rows, kept, noise, common, statistics, seed)

    whole = infer(-np.inf)
    # What many have in common moves them to the other side of a level together.
    moved = float(np.sqrt(np.diag(common).max()))
    tails = (TAIL, CLOSE_TAIL) if 2 * moved < ahead else (TAIL,)
    # Where all above a level are equal, nothing is left to fit, as where none is ahead.
    levels = [middle - tail * ahead for tail in tails if middle - tail * ahead < middle]
    levels = levels or [-np.inf]
    found = [infer(level) if (merit < level).any() else whole for level in levels]
    # What the others say of a network leaves its own luck out; the better half is what matters.
    # Beside networks that fail by far, others would look alike: their better half would be chance.
    foretold = sign * found[0].left_out
    better = foretold >= np.median(foretold)
    scores = [one.score(sign, merit, levels[-1], better) for one in found]
    chosen = int(np.argmax(scores))
    return _join(merit, levels[: chosen + 1], [whole, *found[: chosen + 1]])


@dataclass(frozen=True)
class _Inferred:
    """A posterior, and what all other measurements say of each (leave-one-out).

    Args:
        posterior: Of the true values.
        left_out: What is expected of each measurement by the others, ``(n,)``.
        spread: Standard deviation of each measurement around that, ``(n,)``.
    """

    posterior: Posterior
    left_out: Vector
    spread: Vector

    def score(self, sign: float, merit: Vector, least: float, rows: NDArray[np.bool_]) -> float:
        """How probable measurements are given the others: mean logarithm of their densities.

        Of those below ``least`` only that they are (Diks, Panchenko and van Dijk 2011,
        "Likelihood-based scoring rules for comparing density forecasts in tails", equation 16).

        Args:
            sign: 1 where larger values are better, else -1.
            merit: Measurements, larger is better, ``(n,)``.
            least: Values that matter are above it.
            rows: Those that count, ``(n,)``.
        """
        spread = np.maximum(self.spread, 1e-12)
        gap, cut = (merit - sign * self.left_out) / spread, (least - sign * self.left_out) / spread
        density = -0.5 * gap**2 - np.log(spread) - 0.5 * np.log(2 * np.pi)
        return float(np.where(merit >= least, density, log_ndtr(cut))[rows].mean())


def _join(merit: Vector, levels: Sequence[float], found: Sequence[_Inferred]) -> Posterior:
    """Take each network from the last of what was inferred whose level it is not below.

    What lies between two levels must not be judged by those below both, which may be far away.

    Args:
        merit: Measurements, larger is better, ``(n,)``.
        levels: Ascending ones.
        found: From all networks, and then from those above each level.
    """
    band = sum((merit >= level).astype(np.intp) for level in levels)
    rows = np.arange(len(merit))
    mean = np.stack([one.posterior.mean for one in found])[band, rows]
    covariance = np.zeros((len(merit), len(merit)))
    for number, one in enumerate(found):
        mine = np.ix_(rows[band == number], rows[band == number])
        covariance[mine] = one.posterior.covariance[mine]
    return Posterior(mean, covariance)


@dataclass(frozen=True)
class _Coded:
    """Centred features of the rows, and the relevances that suit them best.

    Args:
        features: ``(n, features)``.
        plan: What the parameters mean.
        parameters: The tuned ones.
        loss: Negative logarithm of evidence and prior.
    """

    features: Matrix
    plan: Layout
    parameters: Vector
    loss: float


def _infer(
    space: SearchSpace,
    rows: NDArray[np.int16],
    targets: Vector,
    noise: Vector,
    common: Matrix,
    statistics: Extras,
    seed: int,
) -> _Inferred:
    level, scale = float(targets.mean()), float(targets.std())
    standard, known = (targets - level) / scale, (noise / scale) ** 2
    rng = np.random.default_rng(seed)
    few = np.arange(len(rows))
    if len(rows) > TUNING_ROWS:
        few = np.sort(rng.choice(len(rows), TUNING_ROWS, replace=False))
    # What a network costs helps in some spaces and blurs in others: the evidence decides, as it
    # does whether values of a choice have an order.
    given = (None,) if statistics is None else (None, statistics)
    extras = [standardise(space, found, rows) for found in given]
    codes = [
        (free, o)
        for free in extras
        for o in ((False,) if has_names_alone(space) else (True, False))
    ]
    coded = min(
        (_code(space, rows, free, o, few, standard, known) for free, o in codes),
        key=lambda found: found.loss,
    )
    kernel = make_covariance(coded.plan, coded.parameters)
    prior = kernel(coded.features, coded.features)
    prior[np.diag_indices_from(prior)] += kernel.noise
    # What is in common moves measurements together and says little about relevances, so that these
    # are tuned without it.
    measured = prior + common / scale**2
    measured[np.diag_indices_from(measured)] += known
    inverse, _ = invert(measured)
    weights = inverse @ standard
    own = 1 / np.maximum(np.diag(inverse), 1e-12)
    left_out = weights * own
    widening = max(1.0, float((left_out**2 / own).mean()))
    gain = prior @ inverse
    covariance = prior - gain @ prior
    # Symmetric but for rounding, which an eigendecomposition does not forgive.
    covariance = (covariance + covariance.T) * (0.5 * widening * scale**2)
    return _Inferred(
        Posterior(gain @ standard * scale + level, covariance),
        (standard - left_out) * scale + level,
        np.sqrt(own * widening) * scale,
    )


def _code(
    space: SearchSpace,
    rows: NDArray[np.int16],
    free: Standardised,
    ordered: bool,
    few: NDArray[np.intp],
    standard: Vector,
    known: Vector,
) -> _Coded:
    features = join_features(space, ordered, free, rows).astype(np.float64)
    features -= features.mean(axis=0)
    linear = has_names_alone(space)
    plan = lay_out(space, find_owners(space, ordered), features, len(free), linear=linear)
    loss, parameters = tune(
        plan, begin_parameters(plan), features[few], standard[few], TUNING_STEPS, known[few]
    )
    return _Coded(features, plan, parameters, loss)

"""What networks are worth trained alone, by what they inherit and cost, and by a few that were.

What shared weights say of a network is biased by its kind: they favour some resolutions, depths or
sizes over others. A few networks trained alone from scratch tell how. The model is that of
co-kriging (Kennedy and O'Hagan 2000, "Predicting the output from a complex computer code when fast
approximations are available", equation 1): a multiple of the cheap evaluation and a difference,
which is a Gaussian process on the choices. Its mean is linear in the logarithm of the cost and in
how large the choices of each kind are on average, since a dozen trainings tell little more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from predictors.features.coded import code_positions, find_owners, has_names_alone
from predictors.posterior import Posterior
from supernet.errors import InputError
from supernet.space import SearchSpace

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Places = NDArray[np.intp]

# In units of the spread of inherited estimates: prior means and standard deviations of what one
# deviation of the estimates and of the logarithm of the cost are worth, and the deviation of the
# level. Before anything was trained alone, both are believed alike.
SLOPE, SLOPE_SD = 0.5, 0.5
LEVEL_SD = 3.0
# Deviations that are tried, averaged by their evidence: of the effect of a kind of choice, of the
# radial process, and of what a network and its training have of their own; in the middle the most
# probable ones, whose logarithms have deviations of 1.
KINDS, RADIAL, OWN = (0.1, 0.3, 0.6), (0.05, 0.1, 0.2, 0.4), (0.03, 0.1, 0.2, 0.4)
CENTRES = (0.3, 0.15, 0.15)
# Share of the variance of its own that is luck of a training: the next one has another.
LUCK = 0.5
# Evidence of less than this beside the best adds nothing that shows.
_LEAST_WEIGHT = 1e-4


@dataclass(frozen=True)
class Networks:
    """Networks with what is known of them before any was trained alone.

    Args:
        space: Their space.
        positions: ``(n, len(space))``.
        estimates: What their inherited weights say, ``(n,)``, on a scale on which effects add up,
            such as the logit of an accuracy.
        costs: Logarithms of a cost, ``(n,)``.
        maximize: Whether larger estimates are better.

    Raises:
        InputError: No networks, or arrays of other lengths or with numbers that are not finite.
    """

    space: SearchSpace
    positions: NDArray[np.integer]
    estimates: Vector
    costs: Vector
    maximize: bool

    def __post_init__(self) -> None:
        count = len(self.positions)
        shapes = {np.shape(self.estimates), np.shape(self.costs)}
        if not count or shapes != {(count,)}:
            raise InputError(
                f"{count} networks need as many estimates and costs, and at least one; there are "
                f"arrays of shape {', '.join(map(str, sorted(shapes)))}"
            )
        if not (np.isfinite(self.estimates).all() and np.isfinite(self.costs).all()):
            raise InputError("estimates and costs must be finite")

    @cached_property
    def level(self) -> float:
        """Mean of the estimates."""
        return float(self.estimates.mean())

    @cached_property
    def scale(self) -> float:
        """Spread of the estimates, which is the unit of the model; 1 where all are the same."""
        return _find_spread(self.estimates)

    @cached_property
    def linear(self) -> Matrix:
        """Standardised estimates, costs and mean size of each kind of choice, ``(n, 2 + k)``."""
        code, owners = self._code
        names = has_names_alone(self.space)
        kinds = [choice.kind for choice in self.space.choices]
        # Names have no order, so that each is a kind of its own.
        first = np.concatenate(([0], np.cumsum(self.space.cardinalities)[:-1]))
        labels = [
            (kinds[owner], int(column - first[owner]) if names else 0)
            for column, owner in enumerate(owners)
        ]
        groups = [
            code[:, [column for column, found in enumerate(labels) if found == label]].mean(axis=1)
            for label in dict.fromkeys(labels)
        ]
        return np.stack([_standardise(c) for c in (self.estimates, self.costs, *groups)], axis=1)

    @cached_property
    def radial(self) -> Matrix:
        """Centred code of the choices ``(n, columns)``, at a mean squared distance of 1."""
        code, _ = self._code
        centred = code - code.mean(axis=0)
        scaled: Matrix = centred / np.sqrt(max(2 * float(centred.var(axis=0).sum()), 1e-12))
        return scaled

    @cached_property
    def _code(self) -> tuple[Matrix, Places]:
        ordered = not has_names_alone(self.space)
        code = code_positions(self.space, ordered, np.asarray(self.positions))
        return code.astype(np.float64), find_owners(self.space, ordered)


@dataclass(frozen=True)
class Trainings:
    """Networks that were trained alone.

    Args:
        rows: Which, ``(k,)``; each once.
        values: What they are worth, ``(k,)``, on the scale of the estimates.
        errors: Standard error of each by the samples it was evaluated on, ``(k,)``.

    Raises:
        InputError: Arrays of other lengths, or with numbers that are not finite, or a row twice.
    """

    rows: Places
    values: Vector
    errors: Vector

    def __post_init__(self) -> None:
        if not (len(self.rows) == len(self.values) == len(self.errors) == len(set(self.rows))):
            raise InputError("trained networks need one value and one error each, and none twice")
        if not (np.isfinite(self.values).all() and np.isfinite(self.errors).all()):
            raise InputError("values and errors of trained networks must be finite")

    def drop(self, number: int) -> Trainings:
        """All but one of them."""
        rest = np.arange(len(self.rows)) != number
        return Trainings(self.rows[rest], self.values[rest], self.errors[rest])


@dataclass(frozen=True)
class Alone:
    """What networks are worth trained alone.

    Args:
        posterior: Of the value that each has on average over trainings.
        luck: Standard deviation of a single training around that.
    """

    posterior: Posterior
    luck: float


def infer_alone(networks: Networks, trained: Trainings, rows: Places | None = None) -> Alone:
    """Infer what networks are worth trained alone.

    Deviations of the model are averaged by their evidence and prior (Rasmussen and Williams 2006,
    section 5.2): of a dozen trainings a single best set would be believed too much.

    Args:
        networks: All of them.
        trained: Those that were trained alone; without any, the prior.
        rows: Which to infer, ``(m,)``; all by default.

    Returns:
        Values on the scale of the estimates, in the order of ``rows``.
    """
    asked = np.arange(len(networks.positions)) if rows is None else rows
    found = [
        _condition(networks, trained, asked, deviations)
        for deviations in product(KINDS, RADIAL, OWN)
    ]
    evidence = np.array([one.evidence for one in found])
    weights = np.exp(evidence - evidence.max())
    weights[weights < _LEAST_WEIGHT] = 0.0
    weights /= weights.sum()
    kept = [(one, weight) for one, weight in zip(found, weights, strict=True) if weight > 0]
    mean: Vector = sum((weight * one.mean for one, weight in kept), np.zeros(len(asked)))
    covariance: Matrix = np.zeros((len(asked), len(asked)))
    for one, weight in kept:
        off = one.mean - mean
        covariance += weight * (one.covariance() + np.outer(off, off))
    scale = networks.scale
    luck = float(np.sqrt(sum(weight * one.luck**2 for one, weight in kept)))
    posterior = Posterior(mean * scale + networks.level, covariance * scale**2)
    return Alone(posterior, luck * scale)


def predict_left_out(networks: Networks, trained: Trainings) -> Alone:
    """Infer of each trained network what all others say of it.

    Args:
        networks: All of them.
        trained: Those that were trained alone, at least one.

    Returns:
        Mean and variances ``(k,)`` in the order of ``trained``; covariances are not known, and 0.
        The luck is the mean one.
    """
    found = [
        infer_alone(networks, trained.drop(number), trained.rows[[number]])
        for number in range(len(trained.rows))
    ]
    mean = np.concatenate([one.posterior.mean for one in found])
    variance = np.concatenate([one.posterior.deviation for one in found]) ** 2
    luck = float(np.mean([one.luck for one in found]))
    return Alone(Posterior(mean, np.diag(variance)), luck)


def choose_trainings(networks: Networks, candidates: Places, count: int, error: float) -> Places:
    """Choose which networks to train alone, so that all candidates are then known best.

    One after another, each the one after which the variances of the candidates add up to least
    (Cohn, Ghahramani and Jordan 1996, "Active learning with statistical models", equation 10; under
    a Gaussian process it does not depend on what will be found). They thus lie spread over costs,
    inherited quality and choices.

    Args:
        networks: All of them.
        candidates: Rows to choose from, and to know best, ``(m,)``.
        count: How many, at most ``m``.
        error: Standard error to be expected of an evaluation, on the scale of the estimates.

    Returns:
        Ascending rows, ``(count,)``.

    Raises:
        InputError: There are not so many candidates.
    """
    if count > len(candidates):
        raise InputError(f"{count} networks cannot be chosen from {len(candidates)}")
    prior = _Prior(networks, *CENTRES)
    covariance = prior.relate(candidates, candidates)
    noise = (error / networks.scale) ** 2 + prior.luck**2
    chosen: list[int] = []
    for _ in range(count):
        total = np.maximum(np.diag(covariance), 0.0) + noise
        gain = (covariance**2).sum(axis=0) / total
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        chosen.append(best)
        covariance = covariance - np.outer(covariance[:, best], covariance[best]) / total[best]
    return np.sort(candidates[chosen])


class _Prior:
    """What is believed before any training, in units of the spread of the estimates.

    Args:
        networks: All of them.
        kinds: Deviation of the effect of a kind of choice.
        radial: Deviation of the radial process.
        own: Deviation of what each network and training has of its own.
    """

    def __init__(self, networks: Networks, kinds: float, radial: float, own: float) -> None:
        self.networks, self.radial = networks, radial
        self.own, self.luck = own * np.sqrt(1 - LUCK), own * np.sqrt(LUCK)
        sign = 1.0 if networks.maximize else -1.0
        self.means = np.zeros(networks.linear.shape[1])
        self.means[:2] = SLOPE, sign * SLOPE
        self.deviations = np.full(len(self.means), kinds)
        self.deviations[:2] = SLOPE_SD
        tried = zip((kinds, radial, own), CENTRES, strict=True)
        self.penalty = 0.5 * sum(np.log(value / centre) ** 2 for value, centre in tried)

    def mean(self, rows: Places) -> Vector:
        """Expected values ``(m,)``."""
        expected: Vector = self.networks.linear[rows] @ self.means
        return expected

    def relate(self, first: Places, second: Places) -> Matrix:
        """Covariances of the values of some rows with those of others, ``(m, k)``."""
        linear, code = self.networks.linear * self.deviations, self.networks.radial
        distances = (
            (code[first] ** 2).sum(axis=1)[:, None]
            + (code[second] ** 2).sum(axis=1)
            - 2 * code[first] @ code[second].T
        )
        radial = self.radial**2 * np.exp(-0.5 * np.maximum(distances, 0.0))
        own = self.own**2 * (first[:, None] == second)
        related: Matrix = LEVEL_SD**2 + linear[first] @ linear[second].T + radial + own
        return related


@dataclass(frozen=True)
class _Conditioned:
    """What one set of deviations says after the trainings.

    Args:
        prior: With these deviations.
        rows: Which networks it is asked of, ``(m,)``.
        mean: ``(m,)``.
        cross: Covariances with those trained, ``(m, k)``.
        gain: What each trained value moves each mean by, ``(m, k)``.
        evidence: Logarithm of evidence and prior.
        luck: Deviation of a single training.
    """

    prior: _Prior
    rows: Places
    mean: Vector
    cross: Matrix
    gain: Matrix
    evidence: float
    luck: float

    def covariance(self) -> Matrix:
        """Of the asked networks, ``(m, m)``."""
        found = self.prior.relate(self.rows, self.rows) - self.gain @ self.cross.T
        symmetric: Matrix = 0.5 * (found + found.T)
        return symmetric


def _condition(
    networks: Networks, trained: Trainings, rows: Places, deviations: Sequence[float]
) -> _Conditioned:
    """Condition a prior on what was trained (Rasmussen and Williams 2006, equations 2.25, 2.30)."""
    prior = _Prior(networks, *deviations)
    mine = trained.rows
    measured = prior.relate(mine, mine)
    noise = (trained.errors / networks.scale) ** 2 + prior.luck**2
    measured[np.diag_indices_from(measured)] += noise
    off = (trained.values - networks.level) / networks.scale - prior.mean(mine)
    cross = prior.relate(rows, mine)
    gain = np.linalg.solve(measured, cross.T).T
    determinant = float(np.linalg.slogdet(measured)[1])
    evidence = -0.5 * (float(off @ np.linalg.solve(measured, off)) + determinant) - prior.penalty
    mean = prior.mean(rows) + gain @ off
    return _Conditioned(prior, rows, mean, cross, gain, evidence, prior.luck)


def _standardise(values: Vector) -> Vector:
    standard: Vector = (values - values.mean()) / _find_spread(values)
    return standard


def _find_spread(values: Vector) -> float:
    # The deviation of equal numbers is not always 0, since their mean is rounded.
    return float(values.std()) if np.ptp(values) else 1.0

"""What answers with inherited weights say of answers after training alone.

Everything is over the same samples. Accuracies are shares; gaps and standard errors are in
points, that is in hundredths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from predictors.scores import kendall_tau
from search.arrays.pareto import hypervolume, nondominated, reference_point
from supernet.quality.sampling_error import compute_standard_error

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

REPLICATES = 1000
Z_TWO_SIDED_90 = 1.6448536269514722
PARTS = 4


@dataclass(frozen=True)
class Truth:
    """Networks trained alone, several times each.

    Args:
        macs: ``(n,)``.
        right: Right answers, ``(n, seeds, samples)``.
        groups: Base of each sample, ``(samples,)``, int64; samples of one base are not independent.
    """

    macs: Floats
    right: Bools
    groups: NDArray[np.int64]

    @cached_property
    def accuracy(self) -> Floats:
        """Mean accuracy over seeds ``(n,)``."""
        return _average(self.right, (1, 2))

    @cached_property
    def of_seeds(self) -> Floats:
        """Accuracy with each seed, ``(n, seeds)``."""
        return _average(self.right, (2,))

    @cached_property
    def _bases(self) -> tuple[Indices, Indices]:
        """Samples in the order of their bases, and where each base begins there."""
        order = np.argsort(self.groups, kind="stable")
        starts = np.flatnonzero(np.diff(self.groups[order], prepend=self.groups[order][:1] - 1))
        return order, starts

    @cached_property
    def sizes(self) -> Floats:
        """Samples of each base, ``(bases,)``."""
        order, starts = self._bases
        return np.diff(starts, append=len(order)).astype(np.float64)

    def count(self, right: Bools) -> Floats:
        """Count right answers ``(..., samples)`` by base, ``(..., bases)``."""
        order, starts = self._bases
        counts = np.add.reduceat(right[..., order], starts, axis=-1, dtype=np.int64)
        return counts.astype(np.float64)


@dataclass(frozen=True)
class Resampled:
    """Statistics on bases and seeds drawn anew, ``(replicates,)`` each.

    Args:
        tau: Of inherited accuracy with the mean truth, mean over seeds.
        gap: Inherited accuracy less the mean truth, points.
        macs: Tau of MACs with the mean truth.
    """

    tau: Floats
    gap: Floats
    macs: Floats


def measure_recipe(truth: Truth, inherited: Bools, replicates: int = REPLICATES) -> dict[str, Any]:
    """Compare supernets of one recipe with the truth.

    Every statistic is one of a single supernet with the mean truth, averaged over supernets, since
    a user has a single one.

    Args:
        truth: What the networks are worth alone.
        inherited: Right answers with inherited weights, ``(seeds, n, samples)``.
        replicates: How often bases and seeds are drawn anew.

    Returns:
        By name. ``tau_within_macs`` is the mean of the taus in quarters of the networks by MACs,
        ``worst_gap`` that of the network that loses most, ``hypervolume`` that of the front by
        inherited accuracy at inherited accuracies, ``hypervolume_chosen`` that of the same networks
        at their true accuracies; both as shares of that of the true front.
    """
    accuracies = _average(inherited, (2,))
    gaps = 100 * (accuracies - truth.accuracy)
    taus = [rank(truth, values) for values in accuracies]
    volumes = [compare_fronts(truth, values) for values in accuracies]
    drawn = resample(truth, inherited, replicates)
    tau = _average_known([found["tau"] for found in taus])
    by_macs = np.argsort(truth.macs, kind="stable")
    thirds = [gaps[:, rows] for rows in np.array_split(by_macs, 3)]
    return {
        "tau": tau,
        "tau_90": make_interval(tau, drawn.tau, bound=1.0),
        "tau_of_seeds": [found["tau"] for found in taus],
        "tau_above_macs": tau - kendall_tau(truth.macs, truth.accuracy),
        "tau_above_macs_90": make_interval(
            tau - kendall_tau(truth.macs, truth.accuracy), drawn.tau - drawn.macs
        ),
        "tau_top_quarter": _average_known([found["tau_top_quarter"] for found in taus]),
        "tau_within_macs": _average_known([found["tau_within_macs"] for found in taus]),
        "gap": float(gaps.mean()),
        "gap_90": make_interval(float(gaps.mean()), drawn.gap),
        "worst_gap": float(gaps.min(axis=1).mean()),
        "gap_smallest_third": float(thirds[0].mean()),
        "gap_middle_third": float(thirds[1].mean()),
        "gap_largest_third": float(thirds[2].mean()),
        "smallest": float(accuracies[:, by_macs[0]].mean()),
        "largest": float(accuracies[:, by_macs[-1]].mean()),
        "hypervolume": float(np.mean([found[0] for found in volumes])),
        "hypervolume_chosen": float(np.mean([found[1] for found in volumes])),
    }


def measure_macs(truth: Truth, replicates: int = REPLICATES) -> dict[str, Any]:
    """Rank by MACs alone, which costs nothing."""
    found = rank(truth, truth.macs)
    drawn = _rank_macs(truth, draw_truth(truth, replicates, np.random.default_rng(0)))
    return {**found, "tau_90": make_interval(found["tau"], drawn, bound=1.0)}


def measure_truth(truth: Truth) -> dict[str, Any]:
    """How well the truth repeats itself, which bounds what any ranking can reach.

    Of each tau, ``of_two_seeds`` is between single seeds; the top quarter is that of the one seed
    and the order that of the other, so that luck does not choose and rank at once. What means of
    seeds would give follows from it (:func:`lengthen`): ``of_two_means`` is the tau of two means of
    as many seeds as there are, ``ceiling`` that of exact expected accuracies with the mean truth,
    which no ranking is expected to exceed. All seeds answer the same samples, as supernets do.

    Standard errors are the standard deviation over seeds pooled over networks, that of the mean
    truth, and that of an accuracy over bases.
    """
    count = truth.right.shape[1]
    found: dict[str, Any] = {"seeds": count}
    pairs = [rank_by(truth, a, b) for a, b in permutations(truth.of_seeds.T, 2)]
    for name in ("tau", "tau_top_quarter", "tau_within_macs"):
        single = _average_known([pair[name] for pair in pairs])
        two, ceiling = lengthen(single, count)
        found[name] = {"of_two_seeds": single, "of_two_means": two, "ceiling": ceiling}
    points = 100 * truth.of_seeds
    top = take_top_quarter(truth.accuracy)
    errors = [
        compute_standard_error(_average(rows, (0,)), torch.from_numpy(truth.groups))
        for rows in truth.right
    ]
    return {
        **found,
        "standard_error_of_one_seed": _pool(points),
        "standard_error_of_one_seed_top_quarter": _pool(points[top]),
        "standard_error_of_mean": _pool(points) / math.sqrt(count),
        "standard_error_from_samples": 100 * float(np.mean(errors)),
        "smallest": float(truth.accuracy[truth.macs.argmin()]),
        "largest": float(truth.accuracy[truth.macs.argmax()]),
    }


def rank(truth: Truth, scores: Floats) -> dict[str, float]:
    """Tau-b of scores ``(n,)`` with the mean truth: of all, of its top quarter, within MACs."""
    return rank_by(truth, truth.accuracy, scores)


def rank_by(truth: Truth, true: Floats, scores: Floats) -> dict[str, float]:
    """The same with other true values ``(n,)``."""
    top = take_top_quarter(true)
    bands = np.array_split(np.argsort(truth.macs, kind="stable"), PARTS)
    return {
        "tau": kendall_tau(scores, true),
        "tau_top_quarter": kendall_tau(scores[top], true[top]),
        "tau_within_macs": _average_known([kendall_tau(scores[b], true[b]) for b in bands]),
    }


def take_top_quarter(true: Floats) -> Indices:
    """Indices of the best quarter of some values ``(n,)``, rounded up."""
    return np.argsort(-true, kind="stable")[: -(-len(true) // PARTS)]


def compare_fronts(truth: Truth, inherited: Floats) -> tuple[float, float]:
    """Hypervolume of the front of MACs and inherited accuracy ``(n,)``, over that of the true one.

    The reference lies a tenth of the range of the networks alone beyond their worst.

    Returns:
        The volume at inherited accuracies, and that of the same networks at their true ones.
    """
    alone = np.stack([truth.macs, 1 - truth.accuracy], axis=1)
    seen = np.stack([truth.macs, 1 - inherited], axis=1)
    reference = reference_point(alone)
    whole, chosen = hypervolume(alone, reference), nondominated(seen)
    return hypervolume(seen, reference) / whole, hypervolume(alone[chosen], reference) / whole


def lengthen(tau: float, count: int) -> tuple[float, float]:
    """Estimate taus of means of ``count`` seeds: with other such means, and with expected values.

    A tau of normal variables is ``2 / pi * asin(r)`` of their correlation ``r`` (Greiner's
    relation), and ``r`` of single seeds becomes ``k r / (1 + (k - 1) r)`` of means of ``k``
    (Spearman and Brown); with expected values it is the square root of that.

    Args:
        tau: Between single seeds; negative ones count as 0.
        count: Seeds behind each mean.
    """
    if math.isnan(tau):
        return math.nan, math.nan
    single = math.sin(math.pi / 2 * max(0.0, tau))
    mean = count * single / (1 + (count - 1) * single)
    return 2 / math.pi * math.asin(mean), 2 / math.pi * math.asin(math.sqrt(mean))


@dataclass(frozen=True)
class DrawnTruth:
    """Right answers on bases and seeds drawn anew.

    Args:
        weights: How often each base was drawn, ``(bases, replicates)``.
        samples: How many samples that makes, ``(replicates,)``.
        right: Right answers of each network, all drawn seeds together, ``(n, replicates)``; whole
            numbers, so that equal accuracies stay equal.
        seeds: How many seeds those are.
    """

    weights: NDArray[np.int64]
    samples: Floats
    right: Floats
    seeds: int


def draw_truth(truth: Truth, replicates: int, rng: np.random.Generator) -> DrawnTruth:
    """Draw bases anew, and for each network its seeds, since each trained by itself."""
    bases = len(truth.sizes)
    weights = rng.multinomial(bases, np.full(bases, 1 / bases), size=replicates).T
    right = truth.count(truth.right) @ weights
    networks, seeds = right.shape[:2]
    if seeds > 1:
        picks = rng.integers(0, seeds, (networks, seeds - 1, replicates))
        right = np.take_along_axis(right, picks, axis=1)
    return DrawnTruth(weights, truth.sizes @ weights, right.sum(axis=1), right.shape[1])


def resample(truth: Truth, inherited: Bools, replicates: int, seed: int = 0) -> Resampled:
    """Draw bases and seeds anew, the same bases for what is inherited and for what is true.

    Of ``k`` seeds ``k - 1`` are drawn, with replacement, which makes the variance of a mean right
    however few there are (Rao and Wu 1988, "Resampling inference with complex survey data"). Seeds
    of supernets are drawn for all of their networks at once. A single seed stays, and says nothing
    of its luck.

    Args:
        truth: What the networks are worth alone.
        inherited: ``(seeds, n, samples)``.
        replicates: How often to draw.
        seed: Equal ones draw equal bases and equal seeds of networks alone.
    """
    rng = np.random.default_rng(seed)
    drawn = draw_truth(truth, replicates, rng)
    seen = truth.count(inherited) @ drawn.weights
    taus = np.array([kendall_taus(rows.T, drawn.right.T) for rows in seen])
    true = drawn.right.mean(axis=0) / drawn.seeds
    gaps = 100 * (seen.mean(axis=1) - true) / drawn.samples
    if len(inherited) > 1:
        picks = rng.integers(0, len(inherited), (len(inherited) - 1, replicates))
        taus, gaps = (np.take_along_axis(found, picks, axis=0) for found in (taus, gaps))
    return Resampled(taus.mean(axis=0), gaps.mean(axis=0), _rank_macs(truth, drawn))


def _rank_macs(truth: Truth, drawn: DrawnTruth) -> Floats:
    return kendall_taus(np.broadcast_to(truth.macs, drawn.right.T.shape), drawn.right.T)


def kendall_taus(first: Floats, second: Floats) -> Floats:
    """Kendall's tau-b of each row of ``(rows, n)`` with the same row of another; NaN where flat."""
    i, j = np.triu_indices(first.shape[1], 1)
    a, b = (np.sign(x[:, i] - x[:, j]) for x in (first, second))
    untied = np.sqrt(np.abs(a).sum(axis=1) * np.abs(b).sum(axis=1))
    untied[untied == 0] = np.nan
    taus: Floats = (a * b).sum(axis=1) / untied
    return taus


def make_interval(value: float, drawn: Floats, bound: float = math.inf) -> tuple[float, float]:
    """Make the 90 % interval of a value, by the spread of what resampling gave.

    It lies around the value: drawing bases anew adds noise of its own, which makes taus smaller, so
    that their quantiles would lie too low. It makes their spread larger, too: on simulated answers
    of 48 networks, the intervals of taus were 1.4 times as wide as they had to be.
    """
    known = drawn[~np.isnan(drawn)]
    half = Z_TWO_SIDED_90 * float(known.std()) if len(known) > 1 else math.nan
    return max(-bound, value - half), min(bound, value + half)


def _average(right: Bools, axes: tuple[int, ...]) -> Floats:
    # Sums of whole numbers: values that are equal must tie.
    size = math.prod(right.shape[axis] for axis in axes)
    means: Floats = right.sum(axis=axes, dtype=np.int64) / size
    return means


def _average_known(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _pool(points: Floats) -> float:
    """Standard deviation over seeds ``(n, seeds)``, pooled over networks."""
    if points.shape[1] < 2:
        return math.nan
    return math.sqrt(float(points.var(axis=1, ddof=1).mean()))


def round_all(value: Any) -> Any:
    """Round all numbers within lists and objects; what is not a number becomes ``None``."""
    if isinstance(value, dict):
        return {name: round_all(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [round_all(inner) for inner in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value

"""Cascades of two networks: a small one answers, and where it is not sure a large one does.

Confidence is what the small network says is the probability of its answer; below a threshold the
large network is asked, too (Bolukbasi et al. 2017, "Adaptive neural networks for efficient
inference"; Wang et al. 2018, "IDK cascades"). A threshold is an operating point with a latency of
its own: most samples take the small network's, the others that of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class OperatingPoints:
    """Cascades and single networks, one to an entry of each array ``(k,)``.

    Args:
        small: Position of the network that answers first, mostly the smaller one.
        large: Position of the one that is asked where the first is not sure; the same for a
            single network.
        threshold: Confidence from which on the first answer stands; 0 for a single network.
        continued: Share of the samples that the large network is asked about.
        accuracy: Share of right answers.
        first: Latency of a sample that the small network answers.
        both: Latency of a sample that the large one is asked about, too.
    """

    small: NDArray[np.int64]
    large: NDArray[np.int64]
    threshold: NDArray[np.float64]
    continued: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    first: NDArray[np.float64]
    both: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.small)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Expected latency ``(k,)``."""
        return self.first + self.continued * (self.both - self.first)

    def find_percentile(self, percent: float) -> NDArray[np.float64]:
        """Latencies ``(k,)`` that this many percent of the samples do not exceed.

        Raises:
            InputError: ``percent`` is not above 0 and at most 100.
        """
        check_percentile(percent)
        # Shares are of whole samples, whose rounding must not turn "at most" into "more than".
        answered = 1 - self.continued >= percent / 100 - 1e-12
        return np.where(answered, self.first, self.both)

    def take(self, places: NDArray[np.integer]) -> OperatingPoints:
        """Those at some places."""
        return OperatingPoints(*(getattr(self, name)[places] for name in self.__dataclass_fields__))


def list_operating_points(
    right: NDArray[np.bool_],
    confidence: NDArray[np.float64],
    latencies: NDArray[np.float64],
    continuing: NDArray[np.float64] | None = None,
) -> OperatingPoints:
    """List every network and every cascade of two that some limit of latency could make the best.

    Of a pair all thresholds between the confidences of samples are looked at; those are left out
    that ask the large network more often and are right no more often, which are worse by any
    latency. None asks it about all samples: it answers those alone.

    Args:
        right: Whether networks answer samples rightly, ``(networks, samples)``.
        confidence: The probability each gives its answer, the same shape.
        latencies: Of the networks, ``(networks,)``, in any unit.
        continuing: What it takes to ask another network after one has answered, ``(networks,
            networks)`` from the one to the other; by default the latency of the other. Less where
            it goes on from what the one has computed.

    Raises:
        InputError: No samples, arrays that do not fit each other, a confidence outside of 0 to 1,
            or a latency that is none.
    """
    if continuing is None:
        continuing = np.broadcast_to(latencies, (len(latencies), len(latencies)))
    _check(right, confidence, latencies, continuing)
    networks, samples = right.shape
    singles = np.arange(networks)
    shares = right.mean(axis=1)
    parts = [
        (singles, singles, np.zeros(networks), np.zeros(networks), shares, latencies, latencies)
    ]
    for small in range(networks):
        order = np.argsort(confidence[small], kind="stable")
        sure = confidence[small][order]
        # Samples of one confidence stay together: a threshold cannot tell them apart.
        counts = np.flatnonzero(np.diff(sure, prepend=-1.0) > 0)[1:]
        if not len(counts):
            continue
        # Right answers of the small network among the samples that it keeps.
        kept = right[small].sum() - np.cumsum(right[small][order])
        for large in np.delete(singles, small):
            asked = np.cumsum(right[large][order])
            hits = asked[counts - 1] + kept[counts - 1]
            least = np.maximum.accumulate(np.concatenate(([right[small].sum()], hits)))[:-1]
            better = hits > least
            many = counts[better]
            whole = np.full(len(many), latencies[small])
            parts.append(
                (
                    np.full(len(many), small),
                    np.full(len(many), large),
                    _split(sure[many - 1], sure[many]),
                    many / samples,
                    hits[better] / samples,
                    whole,
                    whole + continuing[small, large],
                )
            )
    return OperatingPoints(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _split(below: NDArray[np.float64], above: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds between confidences: rounding by another runtime then moves no sample."""
    middle = (below + above) / 2
    return np.where(middle > below, middle, above)


def list_best(points: OperatingPoints) -> OperatingPoints:
    """Those that no other one beats in accuracy and mean latency, the fastest first."""
    order = np.lexsort((-points.accuracy, points.mean))
    accuracy = points.accuracy[order]
    best = np.maximum.accumulate(np.concatenate(([-1.0], accuracy)))[:-1]
    return points.take(order[accuracy > best])


def choose_within(
    points: OperatingPoints, budget: float, percentile: float | None = None
) -> int | None:
    """Choose the place of the most accurate one within a budget, and of equal ones the fastest.

    Args:
        points: To choose from.
        budget: Most latency.
        percentile: Of the samples; by default the mean counts.

    Returns:
        The place, or ``None`` where none is within the budget.
    """
    taken = points.mean if percentile is None else points.find_percentile(percentile)
    within = np.flatnonzero(taken <= budget)
    if not len(within):
        return None
    return int(within[np.lexsort((points.mean[within], -points.accuracy[within]))[0]])


def answer_together(
    right: NDArray[np.bool_], confidence: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.bool_], float]:
    """What a cascade answers on other samples.

    Args:
        right: Whether the small and the large network are right, ``(2, samples)``.
        confidence: Of the small one, ``(samples,)``.
        threshold: From which on its answer stands.

    Returns:
        Whether the cascade is right, ``(samples,)``, and the share that the large one was asked
        about.

    Raises:
        InputError: The threshold is not in 0 to 1.
    """
    check_threshold(threshold)
    asked = confidence < threshold
    return np.where(asked, right[1], right[0]), float(asked.mean())


def check_percentile(percent: float) -> None:
    """InputError unless it is above 0 and at most 100."""
    if not 0 < percent <= 100:
        raise InputError(
            f"percentile {percent:g} is impossible; it must be above 0 and at most 100"
        )


def check_threshold(threshold: float) -> None:
    """InputError unless a threshold is a probability."""
    if not 0 <= threshold <= 1:
        raise InputError(
            f"a threshold of {threshold:g} is impossible; confidence is a probability from 0 to 1"
        )


def _check(
    right: NDArray[np.bool_],
    confidence: NDArray[np.float64],
    latencies: NDArray[np.float64],
    continuing: NDArray[np.float64],
) -> None:
    if right.ndim != 2 or not right.size:
        raise InputError("cascades need the answers of at least one network to one sample")
    if confidence.shape != right.shape or latencies.shape != right.shape[:1]:
        raise InputError(
            f"answers {right.shape}, confidences {confidence.shape} and latencies "
            f"{latencies.shape} are not of the same networks and samples"
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise InputError("confidences must be probabilities from 0 to 1")
    if not (np.isfinite(latencies) & (latencies > 0)).all():
        raise InputError("latencies must be numbers above 0")
    if continuing.shape != (len(right), len(right)):
        raise InputError(
            f"latencies of going on {continuing.shape} are not those from each of {len(right)} "
            "networks to each"
        )
    if not (np.isfinite(continuing) & (continuing > 0)).all():
        raise InputError("latencies of going on must be numbers above 0")

"""What was evaluated of networks on one or more sets of samples, and how far it may be off.

Networks are evaluated on the same samples, so that most of the error of an evaluation is one that
all of them share: it cannot turn their order round, but it belongs to what is stated of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from app.evaluation.race_bounds import RaceRule
from app.records.evaluation import EvaluationRecord
from app.records.quantities import ACCURACY
from supernet.data import DataSource
from supernet.quality.sampling_error import (
    Z_TWO_SIDED_95,
    compute_standard_error,
    count_independent_answers,
    recover_count,
)

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Pairs of networks that tell how much of an error is shared; more say nothing new.
MOST_PAIRS = 300


@dataclass(frozen=True)
class Scored:
    """What one network scored on ``val`` and sets of further samples.

    Args:
        value: Mean over all samples.
        error: Its standard error as if it stood alone.
        sets: How many sets of samples it was evaluated on.
        samples: In all of them.
        answers: Whether scores are right and wrong answers.
        parts: Scores of each set; empty where they were not kept.
        groups: Groups of each set's samples in the same order, ``None`` where there are none.
    """

    value: float
    error: float
    sets: int
    samples: int
    answers: bool
    parts: tuple[Vector, ...] = ()
    groups: tuple[NDArray[np.int64] | None, ...] = ()

    @classmethod
    def from_scores(
        cls,
        parts: Sequence[Vector],
        groups: Sequence[NDArray[np.int64] | None],
        *,
        answers: bool,
    ) -> Scored:
        """Summarise the scores of each set of samples.

        Args:
            parts: Scores of each set, ``(samples,)`` each.
            groups: Groups of its samples.
            answers: Whether they are right and wrong answers.
        """
        scores, joined = np.concatenate(parts), _join_groups(groups)
        value = float(scores.mean())
        if answers:
            error = _share_error(value, count_independent_answers(scores, joined))
        else:
            error = compute_standard_error(scores, joined)
        return cls(value, error, len(parts), len(scores), answers, tuple(parts), tuple(groups))

    @classmethod
    def from_records(cls, records: Sequence[EvaluationRecord], data: DataSource) -> Scored:
        """Read what the log has of a network.

        Args:
            records: Of the network, that of ``val`` first; all with values.
            data: What it was evaluated on.
        """
        answers = records[0].objective == ACCURACY.name
        scores = [record.unpack_scores() for record in records]
        kept = [part for part in scores if part is not None]
        if len(kept) == len(records):
            groups = []
            for record in records:
                found = data.split(record.split).groups
                order = RaceRule().draw_order(record.samples)
                groups.append(None if found is None else found.numpy()[order])
            return cls.from_scores(kept, groups, answers=answers)
        weights = [max(record.samples, 1) for record in records]
        value = float(np.average([record.value_or_nan for record in records], weights=weights))
        # Of sets that belong together nothing says that they are independent.
        error = float(np.mean([_read_error(record, answers) for record in records]))
        return cls(value, error, len(records), sum(r.samples for r in records), answers)

    def take(self, count: int) -> Scored:
        """The same network on its first sets of samples alone; their scores must be known."""
        if count == self.sets:
            return self
        return Scored.from_scores(self.parts[:count], self.groups[:count], answers=self.answers)


def _join_groups(groups: Sequence[NDArray[np.int64] | None]) -> torch.Tensor | None:
    known = [group for group in groups if group is not None]
    return torch.from_numpy(np.concatenate(known)) if len(known) == len(groups) else None


@dataclass(frozen=True)
class Evidence:
    """What was evaluated of some networks.

    Args:
        values: Means over all samples, ``(n,)``, as they would be on the most sets of samples.
        errors: Standard error of each as if it stood alone, ``(n,)``, but for ``apart``.
        own: The part of each error that is not shared with other networks, ``(n,)``.
        samples: Behind each value, ``(n,)``.
        apart: Covariance ``(n, n)`` of what is not known of how much easier or harder the sets of
            each were than those of the networks on the most; ``None`` where all saw the same.
        told: Whether scores of samples told what is shared; else ``own`` is all of each error.
    """

    values: Vector
    errors: Vector
    own: Vector
    samples: NDArray[np.intp]
    apart: Matrix | None = None
    told: bool = True


def gather_evidence(found: Sequence[Scored], seed: int) -> Evidence:
    """Summarise evaluations of networks on ``val`` and on further samples.

    How much of an error two networks share follows from their differences on the same samples:
    what is their own adds up in the error of a difference, what they share vanishes from it. Where
    the scores of single samples were not kept, nothing is taken for shared, which is the upper
    bound of what may turn their order round.

    Args:
        found: What each network scored.
        seed: Decides which pairs are compared where there are many.
    """
    errors = np.array([one.error for one in found])
    shares: dict[int, float] = {}
    told, latest = False, 1.0
    for count in sorted({one.sets for one in found}):
        # Pairs need both all the samples; where few networks have them, fewer samples will do.
        alike = [one.take(count) for one in found if len(one.parts) >= count]
        share = _measure_own_share(alike, np.random.default_rng([seed, count]))
        shares[count] = latest = latest if share is None else share
        told = told or share is not None
    own = errors * np.sqrt([shares[one.sets] for one in found])
    samples = np.array([one.samples for one in found], dtype=np.intp)
    values = np.array([one.value for one in found])
    plain = Evidence(values, errors, own, samples, told=told)
    return _level_sets(found, plain) if told else plain


def _level_sets(found: Sequence[Scored], plain: Evidence) -> Evidence:
    """Make values on few sets of samples comparable with those on the most.

    A set is easier or harder for all networks alike, by a normal effect that is inferred from how
    values of the same network differ between sets. That only those were looked at again that were
    lucky is no harm, since what they scored first is among what is weighed.
    """
    most = max(len(one.parts) for one in found)
    sets = np.array([min(one.sets, most) for one in found])
    if (sets == most).all():
        return plain
    whole = np.array([len(one.parts) == most for one in found])
    variance = _measure_sets([one for one, all_ in zip(found, whole, strict=True) if all_])
    # What is their own adds to a difference between sets, too.
    variance -= float(np.mean(plain.own[whole] ** 2)) * most / int(whole.sum())
    if variance <= 0:
        return plain
    last = float(np.mean((plain.errors**2 - plain.own**2)[whole]))
    precision, weighed = np.eye(most) / variance, np.zeros(most)
    for one, own in zip(found, plain.own, strict=True):
        count = len(one.parts)
        if count > 1:
            scores = np.array([part.mean() for part in one.parts])
            certain = 1 / max(own**2 * count, 1e-12)
            precision[:count, :count] += certain * (np.eye(count) - 1 / count)
            weighed[:count] += certain * (scores - scores.mean())
    covariance = np.linalg.inv(precision)
    # Row k: the mean effect of the first k sets, less that of all.
    contrasts = (np.tril(np.ones((most, most))) / np.arange(1, most + 1)[:, None] - 1 / most)[
        sets - 1
    ]
    shared = np.maximum(plain.errors**2 - plain.own**2, 0.0)
    shared *= last / np.maximum(last + variance * (1 / sets - 1 / most), 1e-12)
    return replace(
        plain,
        values=plain.values - contrasts @ (covariance @ weighed),
        errors=np.sqrt(plain.own**2 + shared),
        apart=contrasts @ covariance @ contrasts.T,
    )


def _measure_sets(whole: Sequence[Scored]) -> float:
    """Variance between sets of samples of the mean of some networks, by their scores on each.

    Half that of the difference of two sets, in which what groups have in common cancels out.
    """
    means = [np.mean(parts, axis=0) for parts in zip(*(one.parts for one in whole), strict=True)]
    groups = whole[0].groups
    found = []
    for place in range(len(means) - 1):
        # A sum of deviations from both means: of samples that belong together only what differs.
        size = len(means[place]) + len(means[place + 1])
        one, other = (x - x.mean() for x in means[place : place + 2])
        deviations = np.concatenate((one * size / len(one), -other * size / len(other)))
        joined = _join_groups(groups[place : place + 2])
        found.append(compute_standard_error(deviations, joined) ** 2 / 2)
    return float(np.mean(found))


def _share_error(share: float, count: float) -> float:
    # A share of exactly 0 or 1 has an error, too: that of half an answer.
    inside = min(max(share, 0.5 / count), 1 - 0.5 / count)
    return math.sqrt(inside * (1 - inside) / count)


def _read_error(record: EvaluationRecord, answers: bool) -> float:
    """The standard error behind the interval of a record; 0 where it has none."""
    if record.low is None or record.high is None:
        return 0.0
    value = record.value_or_nan
    if not answers:
        # By the upper end alone: the lower one may be cut off at 0.
        return max(record.high - value, 0.0) / Z_TWO_SIDED_95
    count = recover_count(value, record.low, record.high)
    return 0.0 if math.isinf(count) else _share_error(value, count)


def _measure_own_share(scored: Sequence[Scored], rng: np.random.Generator) -> float | None:
    """Share of networks' error variances that is their own; ``None`` where no pair tells."""
    known = [one for one in scored if one.parts]
    if len(known) < 2:
        return None
    if len(known) * (len(known) - 1) // 2 <= MOST_PAIRS:
        pairs = list(combinations(range(len(known)), 2))
    else:
        # Of thousands of networks the pairs are too many to be listed.
        pairs = [tuple(rng.choice(len(known), 2, replace=False)) for _ in range(MOST_PAIRS)]
    differences = alone = 0.0
    for first, second in pairs:
        one, other = known[first], known[second]
        difference = np.concatenate(one.parts) - np.concatenate(other.parts)
        differences += compute_standard_error(difference, _join_groups(one.groups)) ** 2
        alone += one.error**2 + other.error**2
    return min(1.0, differences / alone) if alone > 0 else None

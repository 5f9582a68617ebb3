"""Races: fewer validation samples first, and bounds that stop the candidates that cannot win.

Racing (Maron and Moore 1993, "Hoeffding races") is what ``--early-stop`` asks for. A
candidate is scored on a few samples of the validation split, then on more, in one fixed order. It
is stopped when it is surely worse than a *rival*: an architecture that was evaluated on the whole
split and is no worse in every other objective. Its value is then bounded by one that the rival
dominates, so it could never have been on the front.

The value that counts is the one on the whole split, a finite population of which the first samples
in a random order are a draw without replacement. For right or wrong answers the bounds are exact
hypergeometric ones (Clopper and Pearson's construction), for all samples together, and for those
that the rival has right and those it has wrong: given how many of each were drawn, each part is a
draw without replacement itself, and where two networks mostly agree these bounds are narrower. For
losses they are normal ones on paired differences at ``z`` standard errors with the finite
population correction, which is approximate. Samples that come in groups change nothing of it: the
order is drawn over all samples, and what is bounded is the value on this very split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class RaceRule:
    """When candidates are stopped.

    Args:
        shares: Rising shares of the validation split after which a candidate may be stopped.
        error: Probability, at most, that a candidate is stopped although it is as good as its
            rival; for accuracies, and over all its stops together.
        z: Standard errors between a loss and its bound.
        least: Samples below which no bound is trusted.
        seed: Decides the order of the samples, the same for every candidate.
        lag: A candidate's rival is chosen among those at least so many places before it, so that
            up to ``lag`` can be in flight and the result does not depend on who finishes first.

    Raises:
        InputError: Shares that do not rise within 0..1, or numbers out of range.
    """

    shares: tuple[float, ...] = (0.125, 0.25, 0.5)
    error: float = 1e-6
    z: float = 4.0
    least: int = 16
    seed: int = 0
    lag: int = 8

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.shares, self.shares[1:], strict=False))
        if not self.shares or not rising or not 0 < self.shares[0] <= self.shares[-1] < 1:
            raise InputError(f"shares {self.shares} must rise and lie between 0 and 1")
        if not 0 < self.error < 0.5 or self.z <= 0 or self.least < 2 or self.lag < 1:
            raise InputError(
                f"a race needs error in (0, 0.5), z above 0, least of at least 2 and lag of at "
                f"least 1; got {self.error:g}, {self.z:g}, {self.least}, {self.lag}"
            )

    def draw_order(self, total: int) -> NDArray[np.intp]:
        """Draw the order ``(total,)`` in which samples of a split are looked at."""
        return np.random.default_rng([self.seed, total]).permutation(total)

    def list_stages(self, total: int) -> tuple[int, ...]:
        """List the samples seen after each stage; the last is the whole split."""
        counts = {round(share * total) for share in self.shares}
        return (*sorted(n for n in counts if self.least <= n < total), total)


@dataclass(frozen=True)
class Bound:
    """What the first samples say about the value on the whole split.

    Args:
        estimate: Unbiased, and brought inside the bounds.
        low: Lower bound.
        high: Upper bound.
        samples: How many were seen.
    """

    estimate: float
    low: float
    high: float
    samples: int


def find_stop(
    seen: Scores, total: int, rival: Scores | float, rule: RaceRule, *, maximize: bool
) -> Bound | None:
    """Find where a candidate stops against its rival, on the samples that were seen.

    Args:
        seen: Scores of the candidate on the first samples in the rule's order, ``(n,)``: 1 or 0
            for accuracies (``maximize``), losses otherwise.
        total: Samples in the split.
        rival: Scores of the rival on the whole split in the same order, ``(total,)``; or its value
            when they are not known, which bounds less closely.
        rule: When to look.
        maximize: Whether scores are better when higher.

    Returns:
        The bound at the first stage within ``seen`` where the candidate is surely worse; ``None``
        when it is not.

    Raises:
        InputError: The rival has another number of samples.
    """
    value = float(rival if isinstance(rival, float) else rival.mean())
    looks = rule.list_stages(total)[:-1]
    for count in looks:
        if count > len(seen):
            return None
        if maximize:
            found = bound_accuracy(seen[:count], total, rival, rule.error / len(looks))
            worse = found.high < value
        else:
            found = bound_loss(seen[:count], total, rival, rule.z)
            worse = found.low > value
        if worse:
            return found
    return None


def bound_accuracy(seen: Scores, total: int, rival: Scores | float, error: float) -> Bound:
    """Bound a share of right answers; each of the two bounds is wrong with probability ``error``.

    Args:
        seen: 1 or 0 for each of the first samples, ``(n,)``.
        total: Samples in the split.
        rival: The rival that :func:`find_stop` was given.
        error: Probability that the true value lies above ``high``, and likewise below ``low``.
    """
    everything = [np.ones(total, dtype=bool)]
    if isinstance(rival, float):
        return _bound_by_groups(seen, everything, error)
    _check_length(rival, total)
    groups = [group for group in (rival > 0.5, rival <= 0.5) if group.any()]
    apart = _bound_by_groups(seen, groups, error / 2)
    whole = _bound_by_groups(seen, everything, error / 2)
    # Both hold; which is narrower depends on how much the two networks agree.
    low, high = max(apart.low, whole.low), min(apart.high, whole.high)
    return Bound(float(np.clip(apart.estimate, low, high)), low, high, len(seen))


def _bound_by_groups(seen: Scores, groups: Sequence[NDArray[np.bool_]], error: float) -> Bound:
    """Add up the bounds of each group of samples; the groups make up the split."""
    count, total = len(seen), len(groups[0])
    estimate = low = high = 0.0
    for group in groups:
        members, drawn = int(group.sum()), int(group[:count].sum())
        right = int(seen[group[:count]].sum())
        high += bound_right_answers(right, drawn, members, error / len(groups))
        low += members - bound_right_answers(drawn - right, drawn, members, error / len(groups))
        estimate += members * (right / drawn if drawn else float(seen.mean()))
    low, high = low / total, high / total
    return Bound(float(np.clip(estimate / total, low, high)), low, high, count)


def bound_right_answers(right: int, drawn: int, members: int, error: float) -> int:
    """Bound from above how many of ``members`` are right when ``right`` of ``drawn`` were.

    The largest number for which as few right ones have a probability of at least ``error``, drawing
    without replacement: an exact one-sided confidence bound.
    """
    low, high = right, members - (drawn - right)
    while low < high:
        middle = (low + high + 1) // 2
        if _probability_of_at_most(right, drawn, members, middle) >= error:
            low = middle
        else:
            high = middle - 1
    return low


# scipy.stats.hypergeom.cdf, which the tests compare with, takes six times as long, and a search
# asks for tens of thousands of these.
def _probability_of_at_most(right: int, drawn: int, members: int, whole: int) -> float:
    """Probability of ``right`` or fewer right ones among ``drawn``, when ``whole`` are."""
    logs = _log_factorials(members)
    x = np.arange(max(0, drawn - (members - whole)), min(right, whole) + 1)
    wrong = members - whole
    ways = logs[whole] - logs[x] - logs[whole - x]
    ways += logs[wrong] - logs[drawn - x] - logs[wrong - drawn + x]
    return float(np.exp(ways - (logs[members] - logs[drawn] - logs[members - drawn])).sum())


@lru_cache(maxsize=64)
def _log_factorials(count: int) -> Scores:
    return np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))


def bound_loss(seen: Scores, total: int, rival: Scores | float, z: float) -> Bound:
    """Bound a mean loss: normal, ``z`` standard errors wide, paired with the rival's.

    Args:
        seen: Losses on the first samples, ``(n,)``.
        total: Samples in the split.
        rival: The rival that :func:`find_stop` was given.
        z: Standard errors.
    """
    count = len(seen)
    if isinstance(rival, float):
        base, differences = 0.0, seen
    else:
        _check_length(rival, total)
        base, differences = float(rival.mean()), seen - rival[:count]
    # Without replacement, what is left of the variance is the part that was not seen.
    error = float(differences.std(ddof=1)) * np.sqrt((1 - count / total) / count)
    # No loss is below 0; a rival whose losses lie far apart may say so.
    estimate = max(0.0, base + float(differences.mean()))
    half = z * float(error)
    return Bound(estimate, max(0.0, estimate - half), estimate + half, count)


def find_best_rival(
    others: NDArray[np.floating],
    quality: NDArray[np.floating],
    candidate: NDArray[np.floating],
) -> int | None:
    """Find the evaluated architecture that a candidate has to be no worse than.

    Args:
        others: Their other objectives ``(n, m - 1)``, to be minimised.
        quality: Their values of the raced objective ``(n,)``, to be minimised.
        candidate: The candidate's other objectives ``(m - 1,)``.

    Returns:
        The best of those that are no worse in all other objectives, the earliest of equals;
        ``None`` when there is none.
    """
    able = np.flatnonzero((np.asarray(others) <= candidate).all(axis=1))
    return int(able[np.argmin(np.asarray(quality)[able])]) if len(able) else None


def is_dominated(point: NDArray[np.floating], points: NDArray[np.floating]) -> bool:
    """Whether some of ``points`` ``(n, m)`` dominates ``point`` ``(m,)``; less is better."""
    return bool(((points <= point).all(axis=1) & (points < point).any(axis=1)).any())


def compute_saved_share(samples: Sequence[int], total: int) -> float:
    """Compute the share of all validation samples that did not have to be looked at."""
    return 1 - sum(samples) / (total * len(samples)) if samples else 0.0


def _check_length(rival: Scores, total: int) -> None:
    if len(rival) != total:
        raise InputError(f"the rival has {len(rival)} scores; the split has {total} samples")

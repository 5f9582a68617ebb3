"""Which recipe an audit prefers: one whose gain is larger than its uncertainty, or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from app.auditing.evidence import Evidence, describe_gap, describe_statistic
from app.auditing.resampling import (
    CONFIDENCE,
    Measured,
    Resampler,
    Scored,
    kendall_taus,
    mean_gaps,
    measure,
)
from app.records.audit import (
    AuditRecord,
    RecipeComparisonRecord,
    RecipeRecord,
    Statistic,
    find_worst,
)
from app.records.audit_pieces import TrainedPiece

# Each recipe is compared by its gap and by its tau.
_COMPARED = 2
Judgement = Literal["better", "worse", "mixed", "alike"]


def compare_recipes(
    found: AuditRecord,
    trained: Sequence[TrainedPiece],
    evidence: Evidence,
    higher_is_better: bool,
) -> AuditRecord:
    """Add to an audit what the supernets of other recipes are worth.

    The more recipes are tried, the likelier one seems better by luck: intervals of gains are of
    the confidence at which all hold at once in 95 % of audits (Bonferroni).

    Args:
        found: The audit without them.
        trained: Recipes that diverged, or under which every network is evaluated.
        evidence: Qualities under these.
        higher_is_better: ``False`` for losses.
    """
    # Of two recipes of one name, one is of an earlier release.
    latest = list({piece.recipe: piece for piece in trained}.values())
    compared = sum(not piece.diverged for piece in latest)
    confidence = 1 - (1 - CONFIDENCE) / (_COMPARED * max(1, compared))
    judge = _Judge(evidence, found.settings.seed, higher_is_better, confidence)
    records = []
    for piece in latest:
        record = RecipeRecord(
            name=piece.recipe,
            key=piece.name,
            changes=piece.changes,
            steps=piece.steps,
            passes=piece.passes,
            cpu_seconds=piece.cpu_seconds,
            diverged=piece.diverged,
        )
        if not piece.diverged:
            comparison = judge.compare(evidence.recipes[piece.name])
            record = record.replace(comparison=comparison)
        records.append(record)
    preferred = judge.prefer(records)
    return found.replace(recipes=tuple(records), preferred=preferred, confidence=confidence)


class _Judge:
    """Compares supernets by what the networks of an audit are worth with their weights."""

    def __init__(
        self, evidence: Evidence, seed: int, higher_is_better: bool, confidence: float
    ) -> None:
        self.evidence, self.confidence = evidence, confidence
        self.higher_is_better = higher_is_better
        self.sign = 1.0 if higher_is_better else -1.0
        self.resampler: Resampler = evidence.draw(seed)
        self.alone = self.resampler.vary(evidence.alone)
        self.macs = self.resampler.repeat(self.sign * evidence.macs)

    def compare(self, recipe: Scored) -> RecipeComparisonRecord:
        """Compare a supernet with that of the run."""
        ours = self.resampler.vary(recipe)
        tau = measure(kendall_taus, ours, self.alone)
        of_macs = measure(kendall_taus, self.macs, self.alone)
        tau_gain, quality_gain = self._find_gains(recipe, self.evidence.inherited)
        gaps = recipe.values - self.evidence.alone.values
        limit = 1.0 if self.higher_is_better else math.inf
        return RecipeComparisonRecord(
            kendall_tau=describe_statistic(tau, 1.0),
            kendall_tau_above_macs=describe_statistic(tau.less(of_macs), 2.0),
            gap=describe_gap(measure(mean_gaps, ours, self.alone), limit),
            worst_gap=find_worst(gaps.tolist(), self.higher_is_better),
            smallest=float(recipe.values[0]),
            largest=float(recipe.values[-1]),
            tau_gain=tau_gain,
            quality_gain=quality_gain,
            judgement=judge_gains(tau_gain, quality_gain),
        )

    def prefer(self, records: Sequence[RecipeRecord]) -> tuple[str, ...]:
        """Names of what is better than the run's own and as good as the best of these."""
        better = {
            record.name: (self.evidence.recipes[record.key], record.comparison.quality_gain)
            for record in records
            if record.comparison is not None and record.comparison.judgement == "better"
        }
        if not better:
            return ()
        best = max(better, key=lambda name: better[name][1].value or -math.inf)
        others = [
            name
            for name in better
            if name != best
            and judge_gains(*self._find_gains(better[name][0], better[best][0])) != "worse"
        ]
        return (best, *others)

    def _find_gains(self, first: Scored, second: Scored) -> tuple[Statistic, Statistic]:
        """What the first has above the second: tau, and quality where more is better."""
        ours, theirs = self.resampler.vary(first), self.resampler.vary(second)
        tau: Measured = measure(kendall_taus, ours, self.alone).less(
            measure(kendall_taus, theirs, self.alone)
        )
        quality = measure(mean_gaps, ours, theirs)
        return (
            describe_statistic(tau, 2.0, confidence=self.confidence),
            describe_statistic(quality, np.inf, sign=self.sign, confidence=self.confidence),
        )


def judge_gains(tau: Statistic, quality: Statistic) -> Judgement:
    """Judge by gains that are larger than their uncertainty; others count as none."""
    signs = {
        1 if gain.low > 0 else -1
        for gain in (tau, quality)
        if gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0)
    }
    if not signs:
        return "alike"
    return "mixed" if len(signs) > 1 else "better" if signs == {1} else "worse"

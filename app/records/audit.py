"""``settings.json`` and ``audit.json``: what an audit compared, and what it found."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from app.records.class_balance import LargestClass
from app.records.typed_json.record import Choices, Count, Digest, FileRecord, Json, Record, Seed
from app.records.typed_json.record_files import read_record
from supernet.errors import InputError

FILE = "audit.json"
# Fewer say nothing about a ranking: from 8 on, a tau of 0.65 is beyond chance (Kendall 1938, "A new
# measure of rank correlation", the exact distribution; 5 % on both sides).
FEWEST_JUDGED = 8


class AuditSettings(FileRecord):
    """What decides the result of an audit; the content of ``settings.json``.

    Args:
        networks: How many train alone.
        seed: Seed of the choice of networks, their initial weights and batches.
        split: Compared on.
        bin: Qualities closer than this tie in the sparse Kendall tau.
        probes: Random chains, and probes of each choice.
        steps: Steps of the stand-alone training.
        recipe: Where that differs from the training of the supernet.
        calibration_samples: As for :func:`supernet.quality.evaluate.evaluate`.
        space: Digest of the space.
        checkpoint: Digest of the weights.
    """

    networks: Count
    seed: Seed
    split: str
    bin: float
    probes: Count
    steps: Count
    recipe: dict[str, Json]
    calibration_samples: Count
    space: str
    checkpoint: str


class QualityRecord(Record):
    """A quality with its 95 % interval."""

    value: float
    low: float
    high: float


class NetworkRecord(Record):
    """One network that trained alone.

    Args:
        digest: Digest of the architecture.
        architecture: Its choices.
        macs: Multiply-adds.
        parameters: Of them.
        inherited: Quality with the weights of the supernet.
        alone: Quality after its own training.
        gap: The former less the latter.
        steps: Steps of its training.
        seconds: That it took.
    """

    digest: Digest
    architecture: Choices
    macs: Count
    parameters: Count
    inherited: QualityRecord
    alone: QualityRecord
    gap: float
    steps: Count
    seconds: float


class Statistic(Record):
    """A statistic over the networks with its 95 % interval; ``None`` is undefined."""

    value: float | None
    low: float | None
    high: float | None

    @model_validator(mode="after")
    def _check_interval(self) -> Statistic:
        if (self.low is None) != (self.high is None):
            raise InputError("an interval needs both ends, or neither")
        return self


class SparseStatistic(Statistic):
    """A statistic of qualities that tie within a bin."""

    bin: float


class SizeRecord(Record):
    """Networks of similar size.

    Args:
        macs: Multiply-adds of the smallest and the largest.
        networks: How many.
        gap: Mean gap with its 95 % interval.
        kendall_tau: Between both qualities; ``None`` when undefined.
    """

    macs: tuple[float, float]
    networks: Count
    gap: QualityRecord
    kendall_tau: float | None


class SpreadRecord(Record):
    """How far qualities lie apart.

    Args:
        inherited: The best less the worst with inherited weights.
        alone: Likewise when trained alone.
        half_interval: Mean half-width of the 95 % intervals of the latter.
    """

    inherited: float
    alone: float
    half_interval: float


class ComparisonRecord(Record):
    """Both qualities compared.

    Args:
        kendall_tau: Kendall's tau-b.
        sparse_kendall_tau: The same with near qualities tied.
        spearman: Spearman's correlation.
        kendall_tau_of_macs: How well the size alone ranks.
        gap: Mean gap with its 95 % interval.
        by_size: The gap among networks of similar size, the smallest first.
        spread: How far qualities lie apart.
        kendall_tau_above_macs: Tau of inherited qualities less that of the size, on the same draws;
            ``None`` in audits of earlier releases.
        groups: Groups of samples, or single ones, that intervals count the luck of; ``None`` where
            scores of samples are not kept, so that they count that of the networks alone.
    """

    kendall_tau: Statistic
    sparse_kendall_tau: SparseStatistic
    spearman: Statistic
    kendall_tau_of_macs: Statistic
    gap: QualityRecord
    by_size: tuple[SizeRecord, ...]
    spread: SpreadRecord
    kendall_tau_above_macs: Statistic | None = None
    groups: Count | None = None


class ViolationRecord(Record):
    """A network that is worse than one inside it.

    Args:
        smaller: Choices of the network inside.
        larger: Choices of the network around it.
        drop: Quality of the smaller less that of the larger.
        error: Standard error of the drop.
    """

    smaller: Choices
    larger: Choices
    drop: float
    error: float


class MonotonicityRecord(Record):
    """How often a network that contains another is worse.

    Args:
        pairs: Compared.
        violations: Of them.
        share: Violations by pairs; ``None`` without any pair.
        worst: The violation of largest drop, if there is one.
    """

    pairs: Count
    violations: Count
    share: float | None
    worst: ViolationRecord | None


class ChoiceEffectRecord(Record):
    """What a choice changes.

    Args:
        name: Name of the choice.
        probes: How many pairs were compared.
        change: Mean change of the quality towards larger values.
        absolute_change: Mean of its size.
        output_change: Mean probability that moves to another class.
        without_effect: Whether all outputs were identical.
    """

    name: str
    probes: Count
    change: float
    absolute_change: float
    output_change: float
    without_effect: bool


class CurveRecord(Record):
    """Quality against the batches behind normalisation statistics.

    Args:
        digest: Digest of the architecture.
        batch_size: Samples in a batch.
        batches: Numbers of batches.
        values: Quality with each.
        settled: The number from which on the quality does not change; ``None`` for never.
    """

    digest: Digest
    batch_size: Count
    batches: tuple[Count, ...]
    values: tuple[float, ...]
    settled: Count | None


class TrainingRecord(Record):
    """How long the supernet of a run trained.

    Args:
        steps: Optimiser steps.
        passes: Forward and backward passes of single networks over a batch.
        optimizer: The recipe's.
    """

    steps: Count
    passes: Count
    optimizer: str | None = None


class RecipeComparisonRecord(Record):
    """What the supernet of another recipe is worth beside that of the run.

    Args:
        kendall_tau: Kendall's tau-b between its qualities and those alone.
        kendall_tau_above_macs: That less the tau of the size.
        gap: Mean gap with its 95 % interval.
        worst_gap: Of the network that loses most.
        smallest: Inherited quality of the network of fewest multiply-adds.
        largest: Of that of most.
        tau_gain: Its tau less that of the run; the interval is of the record's ``confidence``.
        quality_gain: Mean inherited quality, better than that of the run where it is positive, also
            of a loss; with such an interval.
        judgement: ``"better"`` or ``"worse"`` than the run's own where one of these differs from 0
            by more than its interval, ``"mixed"`` where one is gained and the other lost,
            ``"alike"`` where nothing can be told apart.
    """

    kendall_tau: Statistic
    kendall_tau_above_macs: Statistic
    gap: QualityRecord
    worst_gap: float
    smallest: float
    largest: float
    tau_gain: Statistic
    quality_gain: Statistic
    judgement: Literal["better", "worse", "mixed", "alike"]


class RecipeRecord(Record):
    """A recipe that a supernet was trained by, at as many passes as that of the run.

    Args:
        name: As it was asked for.
        key: Of its settings.
        changes: Where they differ from those of the run.
        steps: Optimiser steps.
        passes: Forward and backward passes of single networks over a batch.
        cpu_seconds: Processor time of the training; of one that was killed, that of all its steps
            by those that were taken after; ``None`` where there were none.
        diverged: What happened where the training diverged; else empty.
        comparison: ``None`` where it diverged.
    """

    name: str
    key: Digest
    changes: dict[str, Json]
    steps: Count
    passes: Count
    cpu_seconds: float | None
    diverged: str = ""
    comparison: RecipeComparisonRecord | None = None


class AuditRecord(FileRecord, ComparisonRecord):
    """The content of ``audit.json``.

    Args:
        settings: What was compared.
        objective: ``"accuracy"`` or ``"loss"``.
        unit: Unit of the qualities.
        split: Compared on.
        samples: Number of samples in it.
        networks: Cheapest first.
        monotonicity: Of inherited weights; ``None`` where they were not examined.
        choices: What each choice changes.
        calibration: Curves of networks that need calibration.
        seconds: That the audit took.
        at: When it ended, ISO 8601 in UTC.
        largest_class: The most frequent class of the split, of accuracies.
        training: How long the supernet trained; ``None`` where nobody knows.
        recipes: Others that were tried at equal passes.
        preferred: Names of those that are better than the run's own and that cannot be told from
            the best of them, which comes first.
        confidence: Of the interval of each gain, so chosen that all of them hold at once in 95 % of
            audits; the more recipes, the higher. ``None`` without any.
    """

    settings: AuditSettings
    objective: str
    unit: str
    split: str
    samples: Count
    networks: tuple[NetworkRecord, ...]
    monotonicity: MonotonicityRecord | None
    choices: tuple[ChoiceEffectRecord, ...]
    calibration: tuple[CurveRecord, ...]
    seconds: float
    at: str = ""
    largest_class: LargestClass | None = None
    training: TrainingRecord | None = None
    recipes: tuple[RecipeRecord, ...] = ()
    preferred: tuple[str, ...] = ()
    confidence: float | None = None

    @model_validator(mode="after")
    def _check_networks(self) -> AuditRecord:
        if not self.networks:
            raise InputError("an audit is of some networks")
        return self

    @property
    def higher_is_better(self) -> bool:
        """Whether qualities are accuracies, and no losses."""
        return self.objective == "accuracy"

    @property
    def worst_gap(self) -> float:
        """Gap of the network that loses most with inherited weights."""
        return find_worst((network.gap for network in self.networks), self.higher_is_better)

    @property
    def best_gap(self) -> float:
        """Gap of the network that loses least, or gains most."""
        return find_worst((network.gap for network in self.networks), not self.higher_is_better)


def find_worst(gaps: Iterable[float], higher_is_better: bool) -> float:
    """The gap of the network that loses most."""
    return min(gaps) if higher_is_better else max(gaps)


def read_audit(folder: Path) -> AuditRecord:
    """What an audit found.

    Raises:
        FileNotFoundError: It has not finished.
        InputError: Its file is damaged.
    """
    return read_record(folder / FILE, AuditRecord, "remove it and run the audit again")

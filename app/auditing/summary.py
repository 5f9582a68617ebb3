"""From the finished pieces of an audit to its result: correlations, gaps and what was found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from app.auditing.evidence import Evidence, collect_evidence, describe_gap, describe_statistic
from app.auditing.recipe_comparison import compare_recipes
from app.auditing.recipes import is_complete
from app.auditing.resampling import Matrix, Vector, kendall_taus, mean_gaps, measure, spearmans
from app.records.audit import (
    AuditRecord,
    AuditSettings,
    ChoiceEffectRecord,
    ComparisonRecord,
    CurveRecord,
    MonotonicityRecord,
    NetworkRecord,
    QualityRecord,
    SizeRecord,
    SparseStatistic,
    SpreadRecord,
    TrainingRecord,
)
from app.records.audit_pieces import CurvePiece, EvaluatedPiece, NestedPiece, Pieces, ProbePiece
from app.records.typed_json.record import drop_infinite
from app.runs.class_balance import describe_largest_class
from app.runs.directory import now
from app.runs.trained import Trained
from predictors.scores import kendall_tau

PARTS = 3
# Networks of similar size that a mean is taken of, at least.
FEWEST_IN_PART = 4


def summarise(
    pieces: Pieces, plan: AuditSettings, trained: Trained, training: TrainingRecord | None
) -> AuditRecord:
    """The content of ``audit.json``.

    Args:
        pieces: Every finished piece.
        plan: The settings of the audit.
        trained: The run.
        training: How long its supernet trained, where that is known.
    """
    networks = collect_networks(pieces, trained)
    first = pieces.inherited[f"inherited/{networks[0].digest}"]
    higher_is_better = first.objective == "accuracy"
    groups = trained.data.split(plan.split).groups
    digests = [network.digest for network in networks]
    keys = [
        piece.name
        for piece in pieces.trained.values()
        if not piece.diverged and is_complete(pieces, piece.name, digests)
    ]
    evidence = collect_evidence(networks, pieces, groups, keys)
    compared = compare_qualities(
        networks, plan.bin, plan.seed, higher_is_better=higher_is_better, evidence=evidence
    )
    found = AuditRecord(
        settings=plan,
        objective=first.objective,
        unit=first.unit,
        split=plan.split,
        samples=first.samples,
        networks=networks,
        **dict(compared),
        monotonicity=count_violations(tuple(pieces.nested.values())),
        choices=average_effects(tuple(pieces.probes.values())),
        calibration=collect_curves(pieces.curves.values()),
        seconds=round(sum(piece.seconds for piece in pieces), 1),
        at=now(),
        largest_class=describe_largest_class(trained.data, plan.split),
    )
    if training is not None:
        found = found.replace(training=training)
    tried = [p for p in pieces.trained.values() if p.diverged or p.name in keys]
    return compare_recipes(found, tried, evidence, higher_is_better) if tried else found


def collect_networks(pieces: Pieces, trained: Trained) -> tuple[NetworkRecord, ...]:
    """Every network that trained alone, cheapest first, with both qualities."""
    space = trained.supernet.space
    # A record of a network that is none of this audit is left from an edit.
    known = pieces.inherited
    pairs = [
        (known[f"inherited/{p.name}"], p)
        for p in pieces.alone.values()
        if f"inherited/{p.name}" in known
    ]
    positions = space.encode([space.architecture(first.architecture) for first, _ in pairs])
    macs = trained.cost_model.macs(positions)
    parameters = trained.cost_model.parameters(positions)
    networks = [
        NetworkRecord(
            digest=alone.name,
            architecture=inherited.architecture,
            macs=int(macs[i]),
            parameters=int(parameters[i]),
            inherited=_interval(inherited),
            alone=_interval(alone),
            gap=inherited.value - alone.value,
            steps=alone.steps,
            seconds=alone.seconds,
        )
        for i, (inherited, alone) in enumerate(pairs)
    ]
    return tuple(sorted(networks, key=lambda network: (network.macs, network.digest)))


def compare_qualities(
    networks: Sequence[NetworkRecord],
    width: float,
    seed: int,
    *,
    higher_is_better: bool,
    evidence: Evidence | None = None,
) -> ComparisonRecord:
    """Rank correlations and gaps with 95 % intervals.

    Args:
        networks: Cheapest first.
        width: Bin of the sparse Kendall tau.
        seed: Seed of what is drawn.
        higher_is_better: ``False`` for losses; a size that ranks well has a positive tau either
            way.
        evidence: Their scores; by default values of no samples, whose luck is not counted then.
    """
    evidence = evidence or collect_evidence(networks, Pieces(), None, ())
    resampler = evidence.draw(seed)
    inherited, alone = resampler.vary(evidence.inherited), resampler.vary(evidence.alone)
    macs = resampler.repeat((1.0 if higher_is_better else -1.0) * evidence.macs)
    halves = [(network.alone.high - network.alone.low) / 2 for network in networks]
    count = max(1, min(PARTS, len(networks) // FEWEST_IN_PART))
    parts = np.array_split(np.arange(len(networks)), count)
    limit = 1.0 if higher_is_better else math.inf
    tau, tau_of_macs = measure(kendall_taus, inherited, alone), measure(kendall_taus, macs, alone)

    def round_second(first: Matrix, second: Matrix) -> Vector:
        return kendall_taus(first, np.round(second / width) if width else second)

    def compute_gap(rows: NDArray[np.intp]) -> QualityRecord:
        both = (resampler.vary(x.take(rows)) for x in (evidence.inherited, evidence.alone))
        return describe_gap(measure(mean_gaps, *both), limit)

    sparse = describe_statistic(measure(round_second, inherited, alone), 1.0)
    return ComparisonRecord(
        kendall_tau=describe_statistic(tau, 1.0),
        sparse_kendall_tau=SparseStatistic(**dict(sparse), bin=width),
        spearman=describe_statistic(measure(spearmans, inherited, alone), 1.0),
        kendall_tau_of_macs=describe_statistic(tau_of_macs, 1.0),
        kendall_tau_above_macs=describe_statistic(tau.less(tau_of_macs), 2.0),
        gap=describe_gap(measure(mean_gaps, inherited, alone), limit),
        by_size=tuple(
            SizeRecord(
                macs=(float(evidence.macs[part[0]]), float(evidence.macs[part[-1]])),
                networks=len(part),
                gap=compute_gap(part),
                kendall_tau=drop_infinite(
                    kendall_tau(evidence.inherited.values[part], evidence.alone.values[part])
                ),
            )
            for part in parts
        ),
        spread=SpreadRecord(
            inherited=float(np.ptp(evidence.inherited.values)),
            alone=float(np.ptp(evidence.alone.values)),
            half_interval=float(np.mean(halves)),
        ),
        groups=evidence.groups,
    )


def count_violations(nested: Sequence[NestedPiece]) -> MonotonicityRecord | None:
    """How often a network that contains another is worse; ``None`` when nothing was examined."""
    if not nested:
        return None
    found = [violation for piece in nested for violation in piece.violations]
    pairs = sum(piece.pairs for piece in nested)
    return MonotonicityRecord(
        pairs=pairs,
        violations=len(found),
        share=len(found) / pairs if pairs else None,
        worst=max(found, key=lambda violation: violation.drop, default=None),
    )


def average_effects(probes: Sequence[ProbePiece]) -> tuple[ChoiceEffectRecord, ...]:
    """What each choice changes, in the order of the space, and those that change nothing."""
    effects = []
    for name in dict.fromkeys(probe.choice for probe in probes):
        mine = [probe for probe in probes if probe.choice == name]
        effects.append(
            ChoiceEffectRecord(
                name=name,
                probes=len(mine),
                change=float(np.mean([probe.change for probe in mine])),
                absolute_change=float(np.mean([abs(probe.change) for probe in mine])),
                output_change=float(np.mean([probe.output_change for probe in mine])),
                without_effect=all(probe.identical for probe in mine),
            )
        )
    return tuple(effects)


def collect_curves(curves: Iterable[CurvePiece]) -> tuple[CurveRecord, ...]:
    """Curves of quality against batches, for the networks that need calibration."""
    return tuple(
        CurveRecord(
            digest=curve.name,
            batch_size=curve.batch_size,
            batches=curve.batches,
            values=curve.values,
            settled=curve.settled,
        )
        for curve in curves
        if curve.batches
    )


def _interval(piece: EvaluatedPiece) -> QualityRecord:
    return QualityRecord(value=piece.value, low=piece.low, high=piece.high)

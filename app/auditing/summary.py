"""From the finished pieces of an audit to its result: correlations, gaps and what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

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
    Statistic,
)
from app.records.audit_pieces import CurvePiece, EvaluatedPiece, NestedPiece, Pieces, ProbePiece
from app.records.typed_json.record import drop_infinite
from app.runs.class_balance import describe_largest_class
from app.runs.directory import now
from app.runs.trained import Trained
from predictors.scores import bootstrap_interval, kendall_tau, sparse_kendall_tau, spearman

Vector = NDArray[np.float64]
PARTS = 3


def summarise(pieces: Pieces, plan: AuditSettings, trained: Trained) -> AuditRecord:
    """The content of ``audit.json``.

    Args:
        pieces: Every finished piece.
        plan: The settings of the audit.
        trained: The run.
    """
    networks = collect_networks(pieces, trained)
    first = pieces.inherited[f"inherited/{networks[0].digest}"]
    higher_is_better = first.objective == "accuracy"
    compared = compare_qualities(networks, plan.bin, plan.seed, higher_is_better=higher_is_better)
    return AuditRecord(
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
    networks: Sequence[NetworkRecord], width: float, seed: int, *, higher_is_better: bool
) -> ComparisonRecord:
    """Rank correlations and gaps with 95 % bootstrap intervals over the networks.

    Args:
        networks: Cheapest first.
        width: Bin of the sparse Kendall tau.
        seed: Seed of the bootstrap.
        higher_is_better: ``False`` for losses; a size that ranks well has a positive tau either
            way.
    """
    inherited = np.array([network.inherited.value for network in networks], dtype=np.float64)
    alone = np.array([network.alone.value for network in networks], dtype=np.float64)
    macs = np.array([network.macs for network in networks], dtype=np.float64)
    sign = 1.0 if higher_is_better else -1.0
    halves = [(network.alone.high - network.alone.low) / 2 for network in networks]
    parts = np.array_split(np.arange(len(networks)), min(PARTS, len(networks) // 2))

    def sparse(first: Vector, second: Vector) -> float:
        return sparse_kendall_tau(first, second, width)

    def compute_gap(rows: NDArray[np.intp] | slice) -> QualityRecord:
        found = _bootstrap(_mean_gap, inherited[rows], alone[rows], seed)
        return QualityRecord(value=found[0], low=found[1], high=found[2])

    value, low, high = map(drop_infinite, _bootstrap(sparse, inherited, alone, seed))
    return ComparisonRecord(
        kendall_tau=_correlate(kendall_tau, inherited, alone, seed),
        sparse_kendall_tau=SparseStatistic(value=value, low=low, high=high, bin=width),
        spearman=_correlate(spearman, inherited, alone, seed),
        kendall_tau_of_macs=_correlate(kendall_tau, macs, sign * alone, seed),
        gap=compute_gap(slice(None)),
        by_size=tuple(
            SizeRecord(
                macs=(float(macs[part[0]]), float(macs[part[-1]])),
                networks=len(part),
                gap=compute_gap(part),
                kendall_tau=drop_infinite(kendall_tau(inherited[part], alone[part])),
            )
            for part in parts
        ),
        spread=SpreadRecord(
            inherited=float(np.ptp(inherited)),
            alone=float(np.ptp(alone)),
            half_interval=float(np.mean(halves)),
        ),
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


def _mean_gap(first: Vector, second: Vector) -> float:
    return float((first - second).mean())


def _correlate(
    statistic: Callable[[Vector, Vector], float], first: Vector, second: Vector, seed: int
) -> Statistic:
    value, low, high = map(drop_infinite, _bootstrap(statistic, first, second, seed))
    return Statistic(value=value, low=low, high=high)


def _bootstrap(
    statistic: Callable[[Vector, Vector], float], first: Vector, second: Vector, seed: int
) -> tuple[float, float, float]:
    """A statistic and the ends of its interval; every statistic meets the same draws."""
    rng = np.random.default_rng([seed, 3])
    low, high = bootstrap_interval(statistic, first, second, rng)
    return statistic(first, second), low, high

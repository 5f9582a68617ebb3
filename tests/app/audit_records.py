"""Audits made of qualities alone, without a run."""

from __future__ import annotations

from collections.abc import Sequence

from app.auditing.summary import compare_qualities
from app.records.audit import (
    AuditRecord,
    AuditSettings,
    NetworkRecord,
    QualityRecord,
    TrainingRecord,
)


def make_networks(inherited: Sequence[float], alone: Sequence[float]) -> list[NetworkRecord]:
    """Networks of rising MACs with these qualities."""
    return [
        NetworkRecord(
            digest=f"{i:012x}",
            architecture={},
            macs=100 * (i + 1),
            parameters=10,
            inherited=_surround(a),
            alone=_surround(b),
            gap=a - b,
            steps=1,
            seconds=1.0,
        )
        for i, (a, b) in enumerate(zip(inherited, alone, strict=True))
    ]


def make_audit(
    inherited: Sequence[float],
    alone: Sequence[float],
    *,
    objective: str = "accuracy",
    training: TrainingRecord | None = None,
) -> AuditRecord:
    """An audit that found these qualities; scores of samples are not known."""
    networks = make_networks(inherited, alone)
    accuracies = objective == "accuracy"
    compared = compare_qualities(networks, 0.001, 0, higher_is_better=accuracies)
    settings = AuditSettings(
        networks=len(networks), seed=0, split="val", bin=0.001, probes=0, steps=1, recipe={},
        calibration_samples=64, space="", checkpoint="",
    )  # fmt: skip
    return AuditRecord(
        settings=settings,
        objective=objective,
        unit="fraction" if accuracies else "nats/token",
        split="val",
        samples=100,
        networks=tuple(networks),
        **dict(compared),
        monotonicity=None,
        choices=(),
        calibration=(),
        seconds=1.0,
        training=training,
    )


def _surround(value: float) -> QualityRecord:
    return QualityRecord(value=value, low=value - 0.01, high=value + 0.01)

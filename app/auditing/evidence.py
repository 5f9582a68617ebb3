"""The qualities that an audit compares, network by network, with their scores by group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from app.auditing.resampling import Measured, Resampler, Scored, Vector, sum_by_group
from app.records.audit import NetworkRecord, QualityRecord, Statistic
from app.records.audit_pieces import EvaluatedPiece, Pieces
from app.records.typed_json.record import drop_infinite


@dataclass(frozen=True)
class Evidence:
    """Qualities of the networks of an audit, cheapest first.

    Args:
        macs: Multiply-adds, ``(n,)``.
        alone: Qualities alone.
        inherited: Qualities with weights of the run.
        recipes: Qualities with weights of other recipes, by key.
        sizes: Samples of each group, ``(groups,)``.
        groups: How many groups; ``None`` where scores are not known, and all samples count as one.
    """

    macs: Vector
    alone: Scored
    inherited: Scored
    recipes: Mapping[str, Scored]
    sizes: Vector
    groups: int | None

    def draw(self, seed: int) -> Resampler:
        """Draw groups of samples anew; equal seeds draw equally."""
        return Resampler.draw(self.sizes, seed)


def collect_evidence(
    networks: Sequence[NetworkRecord], pieces: Pieces, groups: Tensor | None, keys: Sequence[str]
) -> Evidence:
    """Collect what is known of networks.

    Args:
        networks: Cheapest first.
        pieces: With scores of samples; where those of any network are missing, as in audits of
            earlier releases, none are used.
        groups: Group of each sample, ``(samples,)``; ``None`` where all are independent.
        keys: Of the recipes, under which every network is evaluated.
    """
    digests = [network.digest for network in networks]
    found: dict[str, list[EvaluatedPiece | None]] = {
        "alone": [pieces.alone.get(f"alone/{digest}") for digest in digests],
        "inherited": [pieces.inherited.get(f"inherited/{digest}") for digest in digests],
    }
    values = {
        "alone": np.array([network.alone.value for network in networks], dtype=np.float64),
        "inherited": np.array([network.inherited.value for network in networks], dtype=np.float64),
    }
    for key in keys:
        shared = [pieces.shared[f"shared/{key}/{digest}"] for digest in digests]
        found[key] = list(shared)
        values[key] = np.array([piece.value for piece in shared], dtype=np.float64)
    rows = [_unpack(piece) for part in found.values() for piece in part]
    scores = [row for row in rows if row is not None]
    lengths = {len(row) for row in scores}
    usual = len(lengths) == 1 and (groups is None or lengths == {len(groups)})
    if len(scores) == len(rows) and usual:
        sums, sizes = sum_by_group(scores, groups)
        count: int | None = len(np.unique(groups.numpy())) if groups is not None else len(scores[0])
    else:
        sums = np.concatenate([values[name] for name in found])[:, None]
        sizes, count = np.ones(1), None
    n = len(networks)
    scored = {name: Scored(values[name], sums[n * i : n * (i + 1)]) for i, name in enumerate(found)}
    return Evidence(
        macs=np.array([network.macs for network in networks], dtype=np.float64),
        alone=scored.pop("alone"),
        inherited=scored.pop("inherited"),
        recipes=scored,
        sizes=sizes,
        groups=count,
    )


def describe_statistic(
    found: Measured, bound: float, *, sign: float = 1.0, confidence: float = 0.95
) -> Statistic:
    """A statistic as a record holds it; ``None`` stands for what is undefined.

    Args:
        found: The statistic.
        bound: Nothing is beyond it, to either side.
        sign: -1 turns it round.
        confidence: Of its interval.
    """
    low, high = sorted(sign * end for end in found.find_interval(bound, confidence))
    return Statistic(
        value=drop_infinite(sign * found.value), low=drop_infinite(low), high=drop_infinite(high)
    )


def describe_gap(found: Measured, bound: float) -> QualityRecord:
    """A mean gap, which is always defined, as a record holds it."""
    low, high = found.find_interval(bound)
    if math.isnan(low):
        low = high = found.value
    return QualityRecord(value=found.value, low=low, high=high)


def _unpack(piece: EvaluatedPiece | None) -> Vector | None:
    if piece is None or piece.scores is None:
        return None
    return piece.scores.unpack(piece.samples)

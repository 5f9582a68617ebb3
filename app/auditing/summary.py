"""From the finished pieces of an audit to its result: correlations, gaps and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.records.plain import plain
from app.runs.directory import now
from app.runs.trained import Trained
from predictors.scores import bootstrap_interval, kendall_tau, sparse_kendall_tau, spearman

Records = Mapping[str, Mapping[str, Any]]
Vector = NDArray[np.float64]
PARTS = 3


def report(records: Records, plan: Mapping[str, Any], trained: Trained) -> dict[str, Any]:
    """The content of ``audit.json``.

    Args:
        records: Every finished piece by its key.
        plan: The settings of the audit.
        trained: The run.
    """
    rows = network_rows(records, trained)
    first = records[f"inherited/{rows[0]['digest']}"]
    found = {
        "version": plan["version"],
        "settings": dict(plan),
        "objective": first["objective"],
        "unit": first["unit"],
        "split": plan["split"],
        "samples": first["samples"],
        "networks": rows,
        **comparison(rows, plan["bin"], plan["seed"], first["objective"] == "accuracy"),
        "monotonicity": monotonicity([*_of(records, "chain"), *_of(records, "corner")]),
        "choices": choice_effects(_of(records, "probe")),
        "calibration": calibration(records),
        "seconds": round(sum(float(r["seconds"]) for r in records.values()), 1),
        "at": now(),
    }
    result: dict[str, Any] = plain(found)
    return result


def network_rows(records: Records, trained: Trained) -> list[dict[str, Any]]:
    """Every network that trained alone, cheapest first, with both qualities."""
    space = trained.supernet.space
    digests = [key.partition("/")[2] for key in records if key.startswith("alone/")]
    architectures = [space.architecture(records[f"inherited/{d}"]["architecture"]) for d in digests]
    positions = space.encode(architectures)
    macs = trained.cost_model.macs(positions)
    parameters = trained.cost_model.parameters(positions)
    names = ("value", "low", "high")
    rows = []
    for i, digest in enumerate(digests):
        inherited, alone = records[f"inherited/{digest}"], records[f"alone/{digest}"]
        rows.append(
            {
                "digest": digest,
                "architecture": inherited["architecture"],
                "macs": int(macs[i]),
                "parameters": int(parameters[i]),
                "inherited": {name: inherited[name] for name in names},
                "alone": {name: alone[name] for name in names},
                "gap": inherited["value"] - alone["value"],
                "steps": alone["steps"],
                "seconds": alone["seconds"],
            }
        )
    return sorted(rows, key=lambda row: (row["macs"], row["digest"]))


def comparison(
    rows: Sequence[Mapping[str, Any]], width: float, seed: int, higher_is_better: bool
) -> dict[str, Any]:
    """Rank correlations and gaps with 95 % bootstrap intervals over the networks.

    Args:
        rows: From :func:`network_rows`, cheapest first.
        width: Bin of the sparse Kendall tau.
        seed: Of the bootstrap.
        higher_is_better: ``False`` for losses; a size that ranks well has a positive tau either
            way.
    """
    inherited = np.array([row["inherited"]["value"] for row in rows], dtype=np.float64)
    alone = np.array([row["alone"]["value"] for row in rows], dtype=np.float64)
    macs = np.array([row["macs"] for row in rows], dtype=np.float64)
    sign = 1.0 if higher_is_better else -1.0

    def estimate(
        statistic: Callable[[Vector, Vector], float], first: Vector, second: Vector
    ) -> dict[str, float]:
        rng = np.random.default_rng([seed, 3])
        low, high = bootstrap_interval(statistic, first, second, rng)
        return {"value": statistic(first, second), "low": low, "high": high}

    def sparse(first: Vector, second: Vector) -> float:
        return sparse_kendall_tau(first, second, width)

    def mean_gap(first: Vector, second: Vector) -> float:
        return float((first - second).mean())

    halves = [(row["alone"]["high"] - row["alone"]["low"]) / 2 for row in rows]
    parts = np.array_split(np.arange(len(rows)), min(PARTS, len(rows) // 2))
    return {
        "kendall_tau": estimate(kendall_tau, inherited, alone),
        "sparse_kendall_tau": {**estimate(sparse, inherited, alone), "bin": width},
        "spearman": estimate(spearman, inherited, alone),
        "kendall_tau_of_macs": estimate(kendall_tau, macs, sign * alone),
        "gap": estimate(mean_gap, inherited, alone),
        "by_size": [
            {
                "macs": [float(macs[part[0]]), float(macs[part[-1]])],
                "networks": len(part),
                "gap": estimate(mean_gap, inherited[part], alone[part]),
                "kendall_tau": kendall_tau(inherited[part], alone[part]),
            }
            for part in parts
        ],
        "spread": {
            "inherited": float(np.ptp(inherited)),
            "alone": float(np.ptp(alone)),
            "half_interval": float(np.mean(halves)),
        },
    }


def monotonicity(nested: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How often a network that contains another is worse; ``None`` when nothing was examined."""
    if not nested:
        return None
    found = [violation for record in nested for violation in record["violations"]]
    pairs = sum(int(record["pairs"]) for record in nested)
    return {
        "pairs": pairs,
        "violations": len(found),
        "share": len(found) / pairs if pairs else None,
        "worst": max(found, key=lambda v: float(v["drop"]), default=None),
    }


def choice_effects(probes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each choice changes, in the order of the space, and those that change nothing."""
    rows = []
    for name in dict.fromkeys(probe["choice"] for probe in probes):
        mine = [probe for probe in probes if probe["choice"] == name]
        rows.append(
            {
                "name": name,
                "probes": len(mine),
                "change": float(np.mean([probe["change"] for probe in mine])),
                "absolute_change": float(np.mean([abs(probe["change"]) for probe in mine])),
                "output_change": float(np.mean([probe["output_change"] for probe in mine])),
                "without_effect": all(probe["identical"] for probe in mine),
            }
        )
    return rows


def calibration(records: Records) -> list[dict[str, Any]]:
    """Curves of quality against batches, for the networks that need calibration."""
    return [
        {
            "digest": key.partition("/")[2],
            **{name: r[name] for name in ("batch_size", "batches", "values", "settled")},
        }
        for key, r in records.items()
        if key.startswith("curve/") and r["batches"]
    ]


def _of(records: Records, kind: str) -> list[Mapping[str, Any]]:
    return [record for key, record in records.items() if key.startswith(f"{kind}/")]

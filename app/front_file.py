"""``front.json``, ``front.csv`` and ``hypervolume.csv``: what a search found, on disk."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.evaluations import EvaluationLog
from app.latency import DeviceTable
from app.verify import Verified
from predictors import Predictor, held_out_prediction
from search import SearchProblem, SearchResult
from search.pareto import hypervolume
from supernet import files
from supernet.space import Architecture

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Findings:
    """Everything a front file is written from.

    Args:
        problem: What was searched for.
        result: What the search found.
        verified: Findings about the front, by digest.
        log: The evaluations behind the result.
        table: The latency table, if the run has one for the device.
    """

    problem: SearchProblem
    result: SearchResult
    verified: Mapping[str, Verified]
    log: EvaluationLog
    table: DeviceTable | None


def front_record(findings: Findings, header: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``front.json``.

    Args:
        findings: Of a finished and verified search.
        header: Name, device, strategy, seed and digests.
    """
    problem, result = findings.problem, findings.result
    points = _points(findings)
    reference = dict(zip((o.name for o in problem.objectives), result.reference, strict=True))
    table = findings.table
    return {
        "version": FORMAT_VERSION,
        **header,
        "latency_method": None if table is None else table.method,
        "evaluations": len(result.history),
        "objectives": [
            {"name": o.name, "unit": o.unit, "direction": o.direction} for o in problem.objectives
        ],
        "constraints": [
            {"objective": c.objective, "at_most": c.at_most} for c in problem.constraints
        ],
        "latency_ratio": _latency_ratio(points),
        "points": points,
        "hypervolume": {
            "predicted": _volume(points, problem, result.reference, "predicted"),
            "searched": _finite(result.trace[-1]) if len(result.trace) else None,
            "verified": _volume(points, problem, result.reference, "value"),
            "reference": {name: _finite(value) for name, value in reference.items()},
        },
        "report": {name: _report(model) for name, model in result.models.items()},
    }


def write_front(folder: Path, record: Mapping[str, Any], trace: NDArray[np.float64]) -> None:
    """Write the tables first and ``front.json`` last: it marks the search as complete.

    Raises:
        OSError: A write failed; older files are intact.
    """
    rows = [(i + 1, f"{value:.9g}") for i, value in enumerate(trace) if np.isfinite(value)]
    files.write_text(folder / "hypervolume.csv", _csv(("evaluations", "hypervolume"), rows))
    files.write_text(folder / "front.csv", _front_csv(record))
    files.write_json(folder / "front.json", record)


def _points(findings: Findings) -> list[dict[str, Any]]:
    """The front first, cheapest last objective first, then everything else that was evaluated."""
    problem, history = findings.problem, findings.result.history
    front = list(findings.result.front.rows)
    member = set(map(int, front))
    rest = [i for i in np.flatnonzero(~history.failed) if int(i) not in member]
    rows = np.array([*front, *rest], dtype=np.intp)
    positions = history.positions[rows]
    architectures = problem.space.decode(positions)
    predictions = {
        name: _held_out(model, positions) for name, model in findings.result.models.items()
    }
    costs = findings.log.trained.cost_model
    counts = {"parameters": costs.parameters(positions), "macs": costs.macs(positions),
              "size_bytes": costs.size_bytes(positions)}  # fmt: skip
    latency = None if findings.table is None else findings.table.latency_ms(positions)
    points = []
    for i, architecture in enumerate(architectures):
        found = findings.verified.get(architecture.digest)
        entries = {}
        for column, objective in enumerate(problem.objectives):
            value = float(history.values[rows[i], column])
            if objective.expensive:
                guess = predictions.get(objective.name)
                guessed = None if guess is None else tuple(_finite(part[i]) for part in guess)
                entries[objective.name] = _evaluated(findings.log, architecture, guessed, found)
            elif objective.name != "latency_ms":
                entries[objective.name] = _known(value, objective.source)
        if latency is not None:
            # Known and measured even when it was not searched for: picking needs it.
            entries["latency_ms"] = _latency(float(latency[i]), found)
        points.append(
            {
                "digest": architecture.digest,
                "architecture": architecture.to_dict(),
                "on_front": i < len(front),
                "verified": found is not None,
                "within_limits": _within(problem, entries),
                "objectives": entries,
                **{name: int(column[i]) for name, column in counts.items()},
                "breakdown": _breakdown(findings.table, architecture) if found else [],
            }
        )
    return points


def _latency_ratio(points: Sequence[Mapping[str, Any]]) -> float | None:
    """Median of measured over predicted latency: how far the device moved since its table."""
    entries = (point["objectives"].get("latency_ms", {}) for point in points)
    ratios = [e["value"] / e["predicted"] for e in entries if e.get("source") == "measured"]
    return float(np.median(ratios)) if ratios else None


def _evaluated(
    log: EvaluationLog,
    architecture: Architecture,
    guess: tuple[float | None, ...] | None,
    found: Verified | None,
) -> dict[str, Any]:
    record = log.evaluate(architecture, "val")
    predicted, low, high = guess or (None, None, None)
    return {
        "predicted": predicted,
        "predicted_low": low,
        "predicted_high": high,
        "value": record["value"],
        "source": "evaluated",
        "low": record["low"],
        "high": record["high"],
        "test": None if found is None else found.test["value"],
        "test_low": None if found is None else found.test["low"],
        "test_high": None if found is None else found.test["high"],
    }


def _latency(predicted: float, found: Verified | None) -> dict[str, Any]:
    if found is None or found.latency is None:
        return _known(predicted, "table")
    return {"predicted": predicted, **found.latency, "source": "measured"}


def _known(value: float, source: str) -> dict[str, Any]:
    return {"predicted": value, "value": value, "source": source, "low": None, "high": None}


def _within(problem: SearchProblem, entries: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the limits hold for the values that are known best, measured ones included."""
    limits = ((entries[c.objective]["value"], c) for c in problem.constraints)
    return all(float(c.violation(np.array([value]))[0]) <= 0 for value, c in limits)


def _breakdown(table: DeviceTable | None, architecture: Architecture) -> list[dict[str, Any]]:
    return [] if table is None else table.breakdown(architecture)


def _held_out(model: Any, positions: NDArray[np.int16]) -> tuple[NDArray[np.float64], ...]:
    predictor: Predictor = model
    return held_out_prediction(predictor, positions)


def _report(model: Any) -> dict[str, Any]:
    predictor: Predictor = model
    return predictor.report.to_json()


def _volume(
    points: Sequence[Mapping[str, Any]],
    problem: SearchProblem,
    reference: NDArray[np.float64],
    key: str,
) -> float | None:
    """Hypervolume of the front by its predicted or its real values."""
    names = [objective.name for objective in problem.objectives]
    rows = [
        [point["objectives"][name][key] for name in names] for point in points if point["on_front"]
    ]
    if not rows or any(value is None for row in rows for value in row):
        return None
    bound = problem.minimised(reference[None])[0]
    return _finite(hypervolume(problem.minimised(np.array(rows, dtype=np.float64)), bound))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _front_csv(record: Mapping[str, Any]) -> str:
    names = list(record["points"][0]["objectives"]) if record["points"] else []
    keys = ("predicted", "value", "low", "high", "test")
    header = ["digest", "on_front", "verified", "parameters", "macs", "size_bytes"]
    columns = [f"{name}_{key}" for name in names for key in keys]
    rows = []
    for point in record["points"]:
        values = [point["objectives"].get(name, {}).get(key) for name in names for key in keys]
        rows.append([point[name] for name in header] + values)
    return _csv((*header, *columns), rows)


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()

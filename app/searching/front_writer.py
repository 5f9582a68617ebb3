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

from app.evaluation.log import EvaluationLog
from app.records.quantities import counted_quantities, find_quantity
from app.searching.objectives import Sources, count_all, latency_name, over_devices, plain_number
from app.searching.verify import Verified
from predictors import Predictor, ReportCard, held_out_prediction
from search import SearchProblem, SearchResult, indistinguishable
from search.arrays.pareto import hypervolume
from supernet import files
from supernet.space import Architecture

FORMAT_VERSION = 1
BASELINE = "random_search"


@dataclass(frozen=True)
class Findings:
    """Everything a front file is written from.

    Args:
        problem: What was searched for.
        result: What the search found.
        verified: Findings about the front, by digest.
        sources: The evaluations and latency tables behind the result.
        cards: How well each predictor did, by quantity.
    """

    problem: SearchProblem
    result: SearchResult
    verified: Mapping[str, Verified]
    sources: Sources
    cards: Mapping[str, ReportCard]


def front_record(findings: Findings, header: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``front.json``.

    Args:
        findings: Of a finished and verified search.
        header: Name, devices, strategy, seed and digests.
    """
    problem, result = findings.problem, findings.result
    points = _points(findings)
    reference = dict(zip((o.name for o in problem.objectives), result.reference, strict=True))
    tables = findings.sources.tables
    ratios = _latency_ratios(points, tuple(tables))
    return {
        "version": FORMAT_VERSION,
        **header,
        "latency_method": next((table.method for table in tables.values()), None),
        "evaluations": len(result.history),
        "failed": int(result.history.failed.sum()),
        "stopped": result.stopped,
        "objectives": [
            {"name": o.name, "unit": o.unit, "direction": o.direction} for o in problem.objectives
        ],
        "constraints": [
            {"objective": c.objective, "at_most": c.at_most, "at_least": c.at_least}
            for c in problem.constraints
        ],
        "latency_ratio": next(iter(ratios.values()), None),
        "latency_ratios": ratios,
        "points": points,
        "hypervolume": {
            "predicted": _volume(points, problem, result.reference, "predicted"),
            "searched": _finite(result.trace[-1]) if len(result.trace) else None,
            "verified": _volume(points, problem, result.reference, "value"),
            "reference": {name: _finite(value) for name, value in reference.items()},
        },
        "report": {name: card.to_json() for name, card in findings.cards.items()},
    }


def write_front(
    folder: Path,
    record: Mapping[str, Any],
    trace: NDArray[np.float64],
    baseline: NDArray[np.float64] | None = None,
) -> None:
    """Write the tables first and ``front.json`` last: it marks the search as complete.

    Args:
        folder: Of the search.
        record: The content of ``front.json``.
        trace: Hypervolume after each evaluation, ``(n,)``.
        baseline: The same of random search, ``(k,)``; a further column where there is one.

    Raises:
        OSError: A write failed; older files are intact.
    """
    files.write_text(folder / "hypervolume.csv", hypervolume_csv(trace, baseline))
    files.write_text(folder / "front.csv", front_csv(record))
    files.write_json(folder / "front.json", record)


def hypervolume_csv(trace: NDArray[np.float64], baseline: NDArray[np.float64] | None = None) -> str:
    """Traces as a table: evaluations, hypervolume and, where there is one, the baseline's."""
    header = ["evaluations", "hypervolume"]
    columns = [trace]
    if baseline is not None:
        header.append(BASELINE)
        columns.append(baseline)
    rows = []
    for i in range(max(map(len, columns))):
        cells = [f"{c[i]:.9g}" if i < len(c) and np.isfinite(c[i]) else "" for c in columns]
        if any(cells):
            rows.append((i + 1, *cells))
    return table_csv(header, rows)


def _points(findings: Findings) -> list[dict[str, Any]]:
    """The front first, cheapest last objective first, then everything else that was evaluated."""
    problem, history = findings.problem, findings.result.history
    front = list(findings.result.front.rows)
    member = set(map(int, front))
    close = set(map(int, indistinguishable(problem, history)))
    rest = [i for i in np.flatnonzero(~history.failed) if int(i) not in member]
    rows = np.array([*front, *rest], dtype=np.intp)
    positions = history.positions[rows]
    architectures = problem.space.decode(positions)
    entries = _entries(findings, rows, architectures)
    counts = count_all(findings.sources.trained, positions)
    table = next(iter(findings.sources.tables.values()), None)
    points = []
    for i, architecture in enumerate(architectures):
        found = findings.verified.get(architecture.digest)
        points.append(
            {
                "digest": architecture.digest,
                "architecture": architecture.to_dict(),
                "on_front": i < len(front),
                "indistinguishable": int(rows[i]) in close,
                "verified": found is not None,
                "within_limits": _within(problem, entries[i]),
                "objectives": entries[i],
                **{name: plain_number(column[i]) for name, column in counts.items()},
                "breakdown": [] if found is None or table is None
                else table.breakdown(architecture),
            }
        )  # fmt: skip
    return points


def _entries(
    findings: Findings, rows: NDArray[np.intp], architectures: Sequence[Architecture]
) -> list[dict[str, dict[str, Any]]]:
    """What is known about every quantity of every point."""
    problem, history, sources = findings.problem, findings.result.history, findings.sources
    positions = history.positions[rows]
    predictions = {
        name: _held_out(model, positions) for name, model in findings.result.models.items()
    }
    devices = tuple(sources.tables)
    latencies = {name: table.latency_ms(positions) for name, table in sources.tables.items()}
    result = []
    for i, architecture in enumerate(architectures):
        found = findings.verified.get(architecture.digest)
        # Latencies are known and measured even when they were not searched for: picking needs it.
        measured = {
            latency_name(device, devices): _latency(float(column[i]), device, found)
            for device, column in latencies.items()
        }
        entries = {}
        for column, quantity in enumerate(problem.quantities):
            value = float(history.values[rows[i], column])
            if quantity.expensive:
                guess = predictions.get(quantity.name)
                guessed = None if guess is None else tuple(_finite(part[i]) for part in guess)
                entries[quantity.name] = _evaluated(
                    sources.log, architecture, value, guessed, found
                )
            elif find_quantity(quantity.name).over_devices:
                entries[quantity.name] = _robust(quantity.name, value, measured, sources)
            elif quantity.name not in measured:
                entries[quantity.name] = _known(value, quantity.source)
        result.append({**entries, **measured})
    return result


def _robust(
    name: str, predicted: float, measured: Mapping[str, Mapping[str, Any]], sources: Sources
) -> dict[str, Any]:
    """The worst or mean latency from what was measured, tables standing in where nothing was."""
    devices = tuple(sources.tables)
    entries = [(d, measured[latency_name(d, devices)]) for d in devices]
    shares = [entry["value"] / sources.latency_of_largest(d) for d, entry in entries]
    # One unmeasured device makes the whole a figure of a table.
    source = "measured" if all(e["source"] == "measured" for _, e in entries) else "table"
    return {**_known(predicted, source), "value": over_devices(name, shares)}


def _latency_ratios(
    points: Sequence[Mapping[str, Any]], devices: tuple[str, ...]
) -> dict[str, float]:
    """Median of measured over predicted latency: how far each device moved since its table."""
    found = {}
    for device in devices:
        name = latency_name(device, devices)
        entries = (point["objectives"].get(name, {}) for point in points)
        ratios = [e["value"] / e["predicted"] for e in entries if e.get("source") == "measured"]
        if ratios:
            found[device] = float(np.median(ratios))
    return found


def _evaluated(
    log: EvaluationLog,
    architecture: Architecture,
    value: float,
    guess: tuple[float | None, ...] | None,
    found: Verified | None,
) -> dict[str, Any]:
    record = log.find(architecture, "val", stopped=True) or log.evaluate(architecture, "val")
    stopped = bool(record.get("stopped"))
    predicted, low, high = guess or (None, None, None)
    return {
        "predicted": predicted,
        "predicted_low": low,
        "predicted_high": high,
        # Of a candidate that was stopped early the search knows an estimate within its bound.
        "value": value if stopped else record["value"],
        "source": "stopped early" if stopped else "evaluated",
        "low": None if stopped else record["low"],
        "high": None if stopped else record["high"],
        "test": None if found is None else found.test["value"],
        "test_low": None if found is None else found.test["low"],
        "test_high": None if found is None else found.test["high"],
    }


def _latency(predicted: float, device: str, found: Verified | None) -> dict[str, Any]:
    if found is None or device not in found.latencies:
        return _known(predicted, "table")
    return {"predicted": predicted, **found.latencies[device], "source": "measured"}


def _known(value: float, source: str) -> dict[str, Any]:
    return {"predicted": value, "value": value, "source": source, "low": None, "high": None}


def _within(problem: SearchProblem, entries: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the limits hold for the values that are known best, measured ones included."""
    limits = ((entries[c.objective]["value"], c) for c in problem.constraints)
    return all(float(c.violation(np.array([value]))[0]) <= 0 for value, c in limits)


def _held_out(model: Any, positions: NDArray[np.int16]) -> tuple[NDArray[np.float64], ...]:
    predictor: Predictor = model
    return held_out_prediction(predictor, positions)


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


def front_csv(record: Mapping[str, Any]) -> str:
    """Every point as a line, with what was predicted and found about each objective."""
    names = list(record["points"][0]["objectives"]) if record["points"] else []
    keys = ("predicted", "value", "low", "high", "test")
    header = ["digest", "on_front", "indistinguishable", "verified"]
    header += [quantity.name for quantity in counted_quantities()]
    columns = [f"{name}_{key}" for name in names for key in keys]
    rows = []
    for point in record["points"]:
        values = [point["objectives"].get(name, {}).get(key) for name in names for key in keys]
        rows.append([point.get(name) for name in header] + values)
    return table_csv((*header, *columns), rows)


def table_csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as comma-separated text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()

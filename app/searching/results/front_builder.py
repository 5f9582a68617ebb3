"""From the result of a search, verified, to the front that is stored and shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from app.evaluation.log import EvaluationLog
from app.records.quantities import Quantity, find_stored_quantity, name_latency
from app.records.searches.front import (
    CardRecord,
    ConstraintRecord,
    Estimate,
    Front,
    FrontHeader,
    HypervolumeRecord,
    ObjectiveRecord,
    Point,
    value_or,
)
from app.records.searches.front_extras import FinalistsRecord
from app.records.typed_json.plain import to_json_number
from app.records.typed_json.record import drop_infinite
from app.searching.objectives import Sources, combine_devices, count_all
from app.searching.results.alone_quality import AloneQuality
from app.searching.results.final_quality import FinalQuality
from app.searching.results.free_values import list_failures
from app.searching.results.settled import Settled
from app.searching.results.verify import Verified
from predictors import Predictor, ReportCard, predict_held_out
from search import SearchProblem
from search.arrays.pareto import hypervolume
from supernet.space import Architecture

MEASURED = "measured"


@dataclass(frozen=True)
class Findings:
    """Everything a front file is written from.

    Args:
        problem: What was searched for.
        settled: What the search found when all evidence was in.
        verified: Findings about the front, by digest.
        sources: The evaluations and latency tables behind the result.
        cards: How well each predictor did, by quantity.
    """

    problem: SearchProblem
    settled: Settled
    verified: Mapping[str, Verified]
    sources: Sources
    cards: Mapping[str, ReportCard]


def build_front(findings: Findings, header: FrontHeader) -> Front:
    """What a finished and verified search found, as ``front.json`` holds it.

    Args:
        findings: What the search found.
        header: Which search it is.
    """
    problem, result = findings.problem, findings.settled.result
    confirmed = findings.settled.confirmed
    points = _build_points(findings)
    alone = findings.settled.alone
    reference = dict(zip((o.name for o in problem.objectives), result.reference, strict=True))
    tables = findings.sources.tables
    ratios = _latency_ratios(points, tuple(tables))
    return Front(
        **dict(header),
        latency_method=next((table.method for table in tables.values()), None),
        evaluations=len(result.history),
        failed=int(result.history.failed.sum()),
        failures=list_failures(problem, findings.sources, result.history),
        finalists=None
        if confirmed is None
        else FinalistsRecord(evaluations=confirmed.evaluations, networks=confirmed.networks),
        calibration=None if alone is None else alone.calibration,
        stopped=result.stopped,
        searched_for=tuple(
            ObjectiveRecord(name=o.name, unit=o.unit, direction=o.direction)
            for o in problem.objectives
        ),
        constraints=tuple(
            ConstraintRecord(objective=c.objective, at_most=c.at_most, at_least=c.at_least)
            for c in problem.constraints
        ),
        latency_ratio=next(iter(ratios.values()), None),
        latency_ratios=ratios,
        points=points,
        hypervolume=HypervolumeRecord(
            predicted=_measure_volume(points, problem, result.reference, _predicted),
            searched=drop_infinite(result.trace[-1]) if len(result.trace) else None,
            verified=_measure_volume(points, problem, result.reference, _found),
            reference={name: drop_infinite(value) for name, value in reference.items()},
        ),
        cards={name: _build_card(card) for name, card in findings.cards.items()},
    )


def _build_points(findings: Findings) -> tuple[Point, ...]:
    """The front first, cheapest last objective first, then everything else that was evaluated."""
    problem, result = findings.problem, findings.settled.result
    history = result.history
    front = list(result.front.rows)
    member = set(map(int, front))
    close = set(map(int, findings.settled.close))
    rest = [i for i in np.flatnonzero(~history.failed) if int(i) not in member]
    rows = np.array([*front, *rest], dtype=np.intp)
    positions = history.positions[rows]
    architectures = problem.space.decode(positions)
    estimates = _build_estimates(findings, rows, architectures)
    counts = count_all(findings.sources.trained, positions)
    table = next(iter(findings.sources.tables.values()), None)
    points = []
    for i, architecture in enumerate(architectures):
        verified = architecture.digest in findings.verified
        point = Point(
            digest=architecture.digest,
            choices=architecture.to_dict(),
            on_front=i < len(front),
            indistinguishable=int(rows[i]) in close,
            verified=verified,
            within_limits=_is_within(problem, estimates[i]),
            estimates=estimates[i],
            unit_latencies=table.breakdown(architecture) if verified and table is not None else (),
        )
        known = {name: to_json_number(column[i]) for name, column in counts.items()}
        points.append(point.replace(**known))
    return tuple(points)


def _build_estimates(
    findings: Findings, rows: NDArray[np.intp], architectures: Sequence[Architecture]
) -> list[dict[str, Estimate]]:
    """What is known about every quantity of every point."""
    problem, sources = findings.problem, findings.sources
    history = findings.settled.result.history
    positions = history.positions[rows]
    guesses = {
        name: _predict_held_out(name, model, positions)
        for name, model in findings.settled.result.models.items()
    }
    posteriors = {
        name: _list_posteriors(quality, find_stored_quantity(name))
        for name, quality in findings.settled.qualities.items()
    }
    alone = _list_alone(findings.settled.alone)
    devices = tuple(sources.tables)
    latencies = {name: table.latency_ms(positions) for name, table in sources.tables.items()}
    result = []
    for i, architecture in enumerate(architectures):
        verified = findings.verified.get(architecture.digest)
        # Latencies are known and measured even when they were not searched for: picking needs it.
        measured = {
            name_latency(device, devices): _estimate_latency(float(column[i]), device, verified)
            for device, column in latencies.items()
        }
        estimates = {}
        for column, quantity in enumerate(problem.quantities):
            value = float(history.values[rows[i], column])
            if quantity.expensive:
                guess = guesses.get(quantity.name)
                guessed = None if guess is None else [drop_infinite(part[i]) for part in guess]
                estimates[quantity.name] = _estimate_quality(
                    sources.log, architecture, value, guessed, verified
                ).replace(
                    **posteriors.get(quantity.name, {}).get(int(rows[i]), {}),
                    **alone.get(quantity.name, {}).get(int(rows[i]), {}),
                )
            elif find_stored_quantity(quantity.name).over_devices:
                estimates[quantity.name] = _summarise_devices(
                    quantity.name, value, measured, sources
                )
            elif quantity.name not in measured:
                estimates[quantity.name] = _known(value, quantity.source)
        result.append({**estimates, **measured})
    return result


def _list_posteriors(quality: FinalQuality, bounds: Quantity) -> dict[int, dict[str, float | int]]:
    """What estimates say of a posterior, by row of the history; none beyond what can be."""
    columns = {
        "posterior": np.clip(quality.posterior.mean, bounds.least, bounds.most),
        "posterior_low": quality.low,
        "posterior_high": quality.high,
        "posterior_error": quality.posterior.deviation,
        "samples": quality.samples,
    }
    return _list_by_row(quality, columns)


def _list_alone(found: AloneQuality | None) -> dict[str, dict[int, dict[str, float | int]]]:
    """The same of networks trained alone, by name of the quality."""
    if found is None:
        return {}
    columns = {
        "alone": found.quality.posterior.mean,
        "alone_low": found.low,
        "alone_high": found.high,
        "alone_error": found.quality.posterior.deviation,
    }
    return {found.quality.name: _list_by_row(found.quality, columns)}


def _list_by_row(
    quality: FinalQuality, columns: Mapping[str, NDArray[Any]]
) -> dict[int, dict[str, float | int]]:
    plain = {name: column.tolist() for name, column in columns.items()}
    return {
        int(row): {name: column[i] for name, column in plain.items()}
        for i, row in enumerate(quality.rows)
    }


def _summarise_devices(
    name: str, predicted: float, measured: Mapping[str, Estimate], sources: Sources
) -> Estimate:
    """The worst or mean latency from what was measured, tables standing in where nothing was."""
    devices = tuple(sources.tables)
    pairs = [(device, measured[name_latency(device, devices)]) for device in devices]
    shares = [
        value_or(math.nan, estimate.value) / sources.latency_of_largest(device)
        for device, estimate in pairs
    ]
    # One unmeasured device makes the whole a figure of a table.
    whole = all(estimate.source == MEASURED for _, estimate in pairs)
    source = MEASURED if whole else "table"
    return _known(predicted, source).replace(value=combine_devices(name, shares))


def _latency_ratios(points: Sequence[Point], devices: tuple[str, ...]) -> dict[str, float]:
    """Median of measured over predicted latency: how far each device moved since its table."""
    found = {}
    for device in devices:
        name = name_latency(device, devices)
        ratios = [
            estimate.value / estimate.predicted
            for estimate in (point.estimate(name) for point in points)
            if estimate.source == MEASURED and estimate.value and estimate.predicted
        ]
        if ratios:
            found[device] = float(np.median(ratios))
    return found


def _estimate_quality(
    log: EvaluationLog,
    architecture: Architecture,
    value: float,
    guess: Sequence[float | None] | None,
    verified: Verified | None,
) -> Estimate:
    record = log.find(architecture, "val", stopped=True) or log.evaluate(architecture, "val")
    stopped = record.stopped
    predicted, low, high = guess or (None, None, None)
    test = None if verified is None else verified.test
    return Estimate(
        predicted=predicted,
        predicted_low=low,
        predicted_high=high,
        # Of a candidate that was stopped early the search knows an estimate within its bound.
        value=value if stopped else record.value,
        source="stopped early" if stopped else "evaluated",
        low=None if stopped else record.low,
        high=None if stopped else record.high,
        test=None if test is None else test.value,
        test_low=None if test is None else test.low,
        test_high=None if test is None else test.high,
        test_balanced=None if test is None else test.balanced,
    )


def _estimate_latency(predicted: float, device: str, verified: Verified | None) -> Estimate:
    if verified is None or device not in verified.latencies:
        return _known(predicted, "table")
    found = verified.latencies[device]
    return Estimate(
        predicted=predicted,
        value=found.latency_ms,
        low=found.low_ms,
        high=found.high_ms,
        source=MEASURED,
    )


def _known(value: float, source: str) -> Estimate:
    return Estimate(predicted=value, value=value, source=source, low=None, high=None)


def _is_within(problem: SearchProblem, estimates: Mapping[str, Estimate]) -> bool:
    """Whether the limits hold for the values that are known best, measured ones included."""
    values = ((value_or(math.nan, estimates[c.objective].best), c) for c in problem.constraints)
    return all(float(c.violation(np.array([value]))[0]) <= 0 for value, c in values)


def _predict_held_out(
    name: str, model: object, positions: NDArray[np.int16]
) -> tuple[NDArray[np.float64], ...]:
    """Mean, low and high ends, none of them beyond what the quantity can be."""
    bounds = find_stored_quantity(name)
    found = predict_held_out(cast(Predictor, model), positions)
    return tuple(np.clip(part, bounds.least, bounds.most) for part in found)


def _build_card(card: ReportCard) -> CardRecord:
    return CardRecord.model_validate(card.to_json())


def _measure_volume(
    points: Sequence[Point],
    problem: SearchProblem,
    reference: NDArray[np.float64],
    read: Callable[[Estimate], float | None],
) -> float | None:
    """Hypervolume of the front by its predicted or its real values."""
    names = [objective.name for objective in problem.objectives]
    rows = [[read(point.estimate(name)) for name in names] for point in points if point.on_front]
    if not rows or any(value is None for row in rows for value in row):
        return None
    bound = problem.minimised(reference[None])[0]
    return drop_infinite(hypervolume(problem.minimised(np.array(rows, dtype=np.float64)), bound))


def _predicted(estimate: Estimate) -> float | None:
    return estimate.predicted


def _found(estimate: Estimate) -> float | None:
    return estimate.best

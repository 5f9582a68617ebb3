"""Building a latency table: measure units and networks together, fit_calibration, validate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hardware.campaign import (
    NETWORK_EFFORT,
    Campaign,
    Subject,
    Visits,
    measure_networks,
    read_replaced,
    run_campaign,
)
from hardware.compiled_table import CompiledTable
from hardware.device import Device
from hardware.mixed_precision import mix_precisions
from hardware.network_calibration import (
    collect_unit_features,
    drop_borders,
    fit_calibration,
    kendall_tau,
)
from hardware.table import LatencyTable, list_precisions
from hardware.timing import Effort, Measurement, Progress, summarise_all, write_time
from hardware.validation import judge_predictions
from supernet.costs.cost_model import BORDER, CostModel
from supernet.errors import InputError
from supernet.files import digest_file
from supernet.graph.language import Graph
from supernet.space import Architecture

ANCHORS = 3
NETWORKS_PER_PRECISION = 12
"""How many more networks are calibrated on for each precision after the first."""

LOG = "measurements.jsonl"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is measured.

    Args:
        passes: Fresh sessions of every unit and network.
        visits: Visits to every network in a pass.
        calibration: Networks the calibration is fitted on, smallest and largest included.
        validation: Other networks, on which the table is judged.
        unit_ms: Time of one visit to a unit.
        seconds: Passes after the second are skipped if they would end later than this.
    """

    passes: int = 4
    visits: int = 6
    calibration: int = 20
    validation: int = 24
    unit_ms: float = 4.0
    seconds: float = 150.0

    def __post_init__(self) -> None:
        if self.passes < 2:
            raise InputError(f"passes = {self.passes}: two are needed to tell noise from signal")
        if self.calibration < 4 or self.validation < 4:
            raise InputError("calibration and validation need 4 networks each, or more")


def choose_budget(units: int, precisions: int = 1) -> Budget:
    """Choose a budget that builds tables of 60 to 3000 units in minutes: fewer passes for more.

    Args:
        units: Number of distinct units.
        precisions: Number of precisions; networks differ in more ways with each, and the
            calibration has to have met them.
    """
    calibration = Budget().calibration + NETWORKS_PER_PRECISION * (precisions - 1)
    if units <= 150:
        return Budget(passes=8, unit_ms=6.0, seconds=50.0, calibration=calibration)
    if units <= 800:
        return Budget(calibration=calibration)
    return Budget(passes=3, unit_ms=2.0, calibration=calibration)


def profile(
    cost_model: CostModel,
    network_graph: Callable[[Architecture], Graph],
    device: Device,
    *,
    folder: Path,
    seed: int = 0,
    budget: Budget | None = None,
    progress: Progress | None = None,
    resume: bool = True,
    replace: bool = False,
) -> LatencyTable:
    """Build, validate and save the latency table of a space on a device.

    Units are measured alone, networks whole, all in one campaign in random order, so that
    drift of the machine hits both alike. Networks split into those the calibration is fitted
    on and those that judge it. Measurements are logged as they are made; a killed run continues
    where it stopped when called again with the same arguments.

    Args:
        cost_model: The units of the space, in all the precisions it offers, and the borders between
            precisions.
        network_graph: Writes the whole network of an architecture.
        device: Where to measure.
        folder: The device's folder in a run directory.
        seed: Draws networks, order and weights.
        budget: How much to measure; by default :func:`choose_budget` decides.
        progress: Called with visits done and planned.
        resume: Continue an interrupted run of the same campaign.
        replace: Measure anew though the folder may have the table of this campaign; a replacement
            that was interrupted continues.

    Returns:
        The table, as it is saved in the folder.

    Raises:
        InputError: The space is too small to validate a table, or the device cannot be used.
    """
    started = time.monotonic()
    precisions = list_precisions(cost_model.distinct)
    budget = budget or choose_budget(len(cost_model.distinct), len(precisions))
    networks = _draw_networks(cost_model, budget, seed)
    keys = [f"network-{a.digest}" for a in networks]
    subjects = [Subject(u.digest, u.graph) for u in cost_model.distinct]
    subjects += [
        Subject(k, network_graph(a), budget.visits) for k, a in zip(keys, networks, strict=True)
    ]
    effort = Effort(budget_ms=budget.unit_ms)
    campaign = Campaign(
        tuple(subjects), budget.passes, seed, effort, NETWORK_EFFORT, budget.seconds
    )
    log = Path(folder) / LOG
    replaces = _digest_report(Path(folder)) if replace else None
    visits = run_campaign(
        campaign, device, log=log, resume=resume, replaces=replaces, progress=progress
    )
    table = _make_table(cost_model, networks, keys, visits, device, budget)
    report = {**table.report, "seconds": time.monotonic() - started}
    table = LatencyTable(**{**table.__dict__, "report": report})
    table.save(folder)
    return table


def is_replaced(folder: Path) -> bool:
    """Whether the log of a device's folder is of a replacement that has put its table there."""
    before = read_replaced(Path(folder) / LOG)
    return before is not None and before != _digest_report(Path(folder))


def _digest_report(folder: Path) -> str | None:
    """What tells one table of a folder from the next."""
    path = folder / "report.json"
    return digest_file(path) if path.exists() else None


@dataclass(frozen=True, slots=True)
class Drift:
    """How a device differs from when its table was made.

    Args:
        ratio: Median over anchors of latency now over latency then.
        anchors: ``{"digest", "then_ms", "now_ms"}`` of each anchor network.
        message: One sentence.
    """

    ratio: float
    anchors: tuple[Mapping[str, Any], ...]
    message: str


def check_anchors(
    table: LatencyTable,
    cost_model: CostModel,
    network_graph: Callable[[Architecture], Graph],
    device: Device,
    *,
    rounds: int = 4,
) -> Drift:
    """Measure the table's anchor networks again and say how far the device has drifted.

    Args:
        table: The table.
        cost_model: Of the same space.
        network_graph: Writes the whole network of an architecture.
        device: The device of the table.
        rounds: Freshly loaded sessions of each anchor.

    Returns:
        Ratios of latencies now and then, and a sentence about them.

    Raises:
        InputError: The table is of another space or device.
    """
    table.compile(cost_model, device)
    if cost_model.space.digest != table.space:
        raise InputError(
            f"the anchors of the latency table are networks of space {table.space} and this is "
            f"space {cost_model.space.digest}; check them in the space they are of"
        )
    networks = [cost_model.space.architecture_from_json(a["architecture"]) for a in table.anchors]
    found = measure_networks(
        [network_graph(a) for a in networks],
        device,
        rounds=rounds,
        quiet=table.quiet,
    )
    rows = tuple(
        {"digest": a["digest"], "then_ms": a["latency_ms"], "now_ms": m.latency_ms}
        for a, m in zip(table.anchors, found, strict=True)
    )
    ratio = float(np.median([r["now_ms"] / r["then_ms"] for r in rows]))
    word = "slower" if ratio > 1 else "faster"
    advice = "" if abs(ratio - 1) <= 0.05 else "; profile the device again"
    message = f"The device is {abs(ratio - 1):.1%} {word} than when the table was made{advice}."
    return Drift(ratio, rows, message)


def _draw_networks(cost_model: CostModel, budget: Budget, seed: int) -> list[Architecture]:
    """Draw distinct networks: smallest, largest, then random; those of the calibration first.

    Of several precisions, networks of each alone follow, and then mixtures.
    """
    space = cost_model.space
    wanted = budget.calibration + budget.validation
    chosen = {a.digest: a for a in (space.smallest, space.largest)}
    rng = np.random.default_rng((seed, 1))
    drawn = space.decode(space.sample(rng, 20 * wanted))
    precisions = list_precisions(cost_model.distinct)
    if len(precisions) > 1:
        drawn = mix_precisions(space, drawn, precisions, rng)
    for architecture in drawn:
        if len(chosen) < wanted:
            chosen.setdefault(architecture.digest, architecture)
    if len(chosen) < budget.calibration + 4:
        raise InputError(
            f"the space has {len(chosen)} architectures, too few to validate a table on others "
            f"than the {budget.calibration} it is calibrated on; measure them all instead"
        )
    return list(chosen.values())


def _make_table(
    cost_model: CostModel,
    networks: Sequence[Architecture],
    keys: Sequence[str],
    visits: Visits,
    device: Device,
    budget: Budget,
) -> LatencyTable:
    """Turn measurements into a table with its report."""
    clock = device.clock
    passes = visits.count_passes()
    every = _split_by_kind(visits.select_passes(range(passes)), keys)
    found, quiet = summarise_all(*every, clock)
    halves = [
        summarise_all(
            *_split_by_kind(visits.select_passes(range(h, passes, 2)), keys), clock, known=quiet
        )[0]
        for h in (0, 1)
    ]
    positions = cost_model.space.encode(list(networks))
    isolated = np.array([found[u.digest].latency_ms for u in cost_model.distinct])
    measured = np.array([found[k].latency_ms for k in keys])
    known, unseen = slice(0, budget.calibration), slice(budget.calibration, None)
    features = collect_unit_features(cost_model, isolated)
    counts = _count_units(cost_model, positions)
    fitted = fit_calibration(features, counts[known], measured[known])
    compiled = CompiledTable.build(cost_model, fitted.unit_ms(features), fitted.fixed_ms)
    predicted = compiled.predict(positions)
    parts = [np.array([half[k].latency_ms for k in keys[unseen]]) for half in halves]
    report = judge_predictions(predicted[unseen], measured[unseen], (parts[0], parts[1]))
    report |= {
        "units": len(isolated),
        "visits": visits.count_visits(),
        "passes": passes,
        "budget": asdict(budget),
        "quiet_share": float(np.mean([m.quiet for m in found.values()])),
        "points": [
            _compare_network(a, float(p), found[k], i < budget.calibration)
            for i, (a, p, k) in enumerate(zip(networks, predicted, keys, strict=True))
        ],
    }
    if any(unit.precision == BORDER for unit in cost_model.distinct):
        _add_borders(report, cost_model, features, counts, measured)
    anchors = np.argsort(measured[known])[[0, budget.calibration // 2, -1]][:ANCHORS]
    rows = {
        u.digest: _describe(found[u.digest]) | {"macs": u.macs, "parameters": u.parameters}
        for u in cost_model.distinct
    }
    return LatencyTable(
        device=device,
        fingerprint=device.fingerprint(),
        space=cost_model.space.digest,
        precisions=list_precisions(cost_model.distinct),
        rows=rows,
        calibration=fitted,
        report=report,
        anchors=tuple(
            {
                "digest": networks[i].digest,
                "architecture": networks[i].to_json(),
                "latency_ms": float(measured[i]),
            }
            for i in anchors
        ),
        quiet=quiet,
        created=write_time(),
    )


def _add_borders(
    report: dict[str, Any],
    cost_model: CostModel,
    features: np.ndarray,
    counts: np.ndarray,
    measured: np.ndarray,
) -> None:
    """Add how often each network crosses a border, and how good the table were without borders."""
    crossings = counts @ [unit.precision == BORDER for unit in cost_model.distinct]
    for point, number in zip(report["points"], crossings, strict=True):
        point["borders"] = int(number)
    known = np.array([point["calibration"] for point in report["points"]])
    units = drop_borders(features)
    fitted = fit_calibration(units, counts[known], measured[known])
    predicted = counts @ fitted.unit_ms(units) + fitted.fixed_ms
    report["without_borders"] = {
        "mape": float(np.abs(predicted / measured - 1)[~known].mean()),
        "kendall_tau": kendall_tau(predicted[~known], measured[~known]),
    }


def _count_units(cost_model: CostModel, positions: np.ndarray) -> np.ndarray:
    """Count how often each network contains each distinct unit, ``(networks, units)``."""
    counts = np.zeros((len(positions), len(cost_model.distinct) + 1))
    np.add.at(counts, (np.arange(len(positions))[:, None], cost_model.index(positions)), 1.0)
    return counts[:, :-1]


def _split_by_kind(
    visits: Mapping[str, list[np.ndarray]], networks: Sequence[str]
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]]]:
    """Split visits into those to units and those to networks."""
    names = set(networks)
    return (
        {key: rows for key, rows in visits.items() if key not in names},
        {key: rows for key, rows in visits.items() if key in names},
    )


def _describe(m: Measurement) -> dict[str, Any]:
    return {
        "latency_ms": m.latency_ms,
        "median_ms": m.median_ms,
        "low_ms": m.low_ms,
        "high_ms": m.high_ms,
        "spread": m.spread,
        "repeats": m.repeats,
        "visits": m.visits,
    }


def _compare_network(
    architecture: Architecture, predicted: float, m: Measurement, used: bool
) -> dict[str, Any]:
    return {
        "digest": architecture.digest,
        "predicted_ms": predicted,
        "measured_ms": m.latency_ms,
        "low_ms": m.low_ms,
        "high_ms": m.high_ms,
        "calibration": used,
    }

"""A run of any size with made-up figures, written by the project's own writers.

Latencies add up over the blocks of a network, accuracies saturate with its capacity, and both have
noise; nothing is trained or measured. Files have the layout, checksums and digests of real ones.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.records.columns.evaluation_columns import keep_evaluation_columns
from app.records.device import TableReport
from app.records.evaluation import CalibrationRecord, EvaluationRecord
from app.records.quantities import ACCURACY, LATENCY, WORST_LATENCY, name_latency
from app.records.run import RunRecord
from app.records.searches.front import (
    CardRecord,
    Estimate,
    Front,
    HypervolumeRecord,
    ObjectiveRecord,
    Point,
)
from app.records.searches.front_files import write_front
from app.records.searches.search import FILE as SEARCH_FILE
from app.records.searches.search import SearchRecord, SearchSettings
from app.records.typed_json.record import to_json
from app.records.typed_json.record_files import write_record
from hardware.device import Device
from hardware.network_calibration import Calibration
from hardware.table import LatencyTable
from hardware.timing import Quiet
from hardware.validation import judge_predictions
from search.arrays.pareto import nondominated
from supernet import checksums, files
from supernet.families import ofa_mobilenetv3
from supernet.space import Architecture, SearchSpace

DEVICES = ("cpu", "phone", "tablet", "laptop", "server", "camera", "watch", "board")
_CHECKPOINT, _WHEN = "c0ffee00c0ffee00", "2026-01-01T10:{:02d}:{:02d}+00:00"
_SAMPLES = 10_000
_FAILED, _STOPPED = 0.004, 0.05
_FIXED_MS = 0.4
_PREDICTION_ERROR = 0.004


@dataclass(frozen=True)
class World:
    """Made-up truth about every architecture of a space.

    Args:
        space: The choices.
        devices: Names of the devices.
        rng: Of figures and noise.
    """

    space: SearchSpace
    devices: tuple[str, ...]
    rng: np.random.Generator

    @cached_property
    def blocks(self) -> tuple[tuple[str, int, int], ...]:
        """Name of every block, and the places of its kernel and its expansion."""
        kernels = [c.name for c in self.space.choices if c.kind == "kernel"]
        names = [name.removesuffix(".kernel") for name in kernels]
        at = self.space.index
        return tuple((n, at(f"{n}.kernel"), at(f"{n}.expand")) for n in names)

    @cached_property
    def costs(self) -> list[list[NDArray[np.float64]]]:
        """Milliseconds by device and block, ``(kernels, expansions)`` each."""
        tables = []
        for _device in self.devices:
            scale, share = self.rng.uniform(0.3, 3), self.rng.uniform(0.2, 0.8)
            grown = self.rng.uniform(0.8, 1.25, len(self.blocks))
            made = []
            for number, (_, kernel, expand) in enumerate(self.blocks):
                sizes = np.array(self.space.choices[kernel].values, dtype=np.float64)
                widths = np.array(self.space.choices[expand].values, dtype=np.float64)
                work = (1 - share) + share * (sizes / 3) ** 2
                made.append(0.05 * scale * grown[number] * work[:, None] * widths[None, :])
            tables.append(made)
        return tables

    def sample(self, count: int) -> NDArray[np.int16]:
        """Different canonical architectures from small to large, ``(count, len(space))``."""
        kept = np.empty((0, len(self.space)), dtype=np.int16)
        most = np.array([len(c.values) - 1 for c in self.space.choices])
        while len(kept) < count:
            lean = self.rng.beta(0.8, 0.8, (count, 1))
            drawn = self.rng.binomial(most, lean).astype(np.int16)
            both = np.concatenate([kept, self.space.canonical(drawn)])
            _, first = np.unique(both, axis=0, return_index=True)
            kept = both[np.sort(first)]
        return kept[:count]

    def unit_latencies(self, rows: NDArray[np.int16]) -> NDArray[np.float64]:
        """Milliseconds of each block, 0 where it is skipped, ``(devices, blocks, n)``."""
        active = self.space.active(rows)
        return np.array(
            [
                [
                    np.where(active[:, kernel], table[rows[:, kernel], rows[:, expand]], 0.0)
                    for (_, kernel, expand), table in zip(self.blocks, tables, strict=True)
                ]
                for tables in self.costs
            ]
        )

    def latencies(self, rows: NDArray[np.int16]) -> NDArray[np.float64]:
        """Milliseconds of whole networks, ``(devices, n)``."""
        return 1.03 * self.unit_latencies(rows).sum(axis=1) + _FIXED_MS

    def accuracies(self, rows: NDArray[np.int16]) -> NDArray[np.float64]:
        """What the networks would reach on samples without end, ``(n,)``."""
        active = self.space.active(rows)
        weights = np.random.default_rng(1).uniform(0.5, 1.5, len(self.blocks))
        capacity = np.zeros(len(rows))
        for weight, (_, kernel, expand) in zip(weights, self.blocks, strict=True):
            gained = 1 + 0.25 * rows[:, kernel] + 0.8 * rows[:, expand]
            capacity += weight * np.where(active[:, kernel], gained, 0.0)
        return 0.80 - 0.26 * np.exp(-capacity / 11)


@dataclass(frozen=True)
class Figures:
    """What is known of the sampled architectures; all arrays start with ``(n,)``."""

    rows: NDArray[np.int16]
    architectures: list[Architecture]
    units: NDArray[np.float64]
    latency: NDArray[np.float64]
    measured: NDArray[np.float64]
    predicted: NDArray[np.float64]
    posterior: NDArray[np.float64]
    value: NDArray[np.float64]
    test: NDArray[np.float64]
    error: NDArray[np.float64]
    failed: NDArray[np.bool_]
    stopped: NDArray[np.bool_]


def write_large_run(
    folder: Path, count: int, devices: tuple[str, ...] = DEVICES, seed: int = 0
) -> None:
    """Write a run directory: one search on all devices, and a smaller one on each of them.

    Args:
        folder: Where; what lies there is replaced file by file.
        count: Evaluated architectures.
        devices: Names of the profiled devices.
        seed: Of all figures.
    """
    config = ofa_mobilenetv3.PRESETS["imagenet"]
    whole = ofa_mobilenetv3.make_space(config)
    space = SearchSpace(tuple(c for c in whole.choices if c.kind != "resolution"))
    world = World(space, devices, np.random.default_rng(seed))
    figures = _make_figures(world, count)
    _write_frame(folder, space, asdict(config), seed)
    for number in range(len(devices)):
        _write_device(folder / "devices" / devices[number], world, number)
    front = _write_search(folder / "searches/default", world, figures, devices, count)
    for number, device in enumerate(devices):
        part = max(20, count // 25)
        name = folder / "searches" / f"on-{device}"
        _write_search(name, world, figures, (device,), part, number)
    _write_evaluations(folder / "evaluations.jsonl", figures, front)


def _make_figures(world: World, count: int) -> Figures:
    rng = world.rng
    rows = world.sample(count)
    units = world.unit_latencies(rows)
    latency = world.latencies(rows)
    true = world.accuracies(rows)
    error = np.sqrt(true * (1 - true) / _SAMPLES)
    predicted = true + _PREDICTION_ERROR * rng.standard_normal(count)
    value = true + error * rng.standard_normal(count)
    # Both are weighted by what is known of their errors.
    weight = 1 / (1 + (error / _PREDICTION_ERROR) ** 2)
    return Figures(
        rows=rows,
        architectures=world.space.decode(rows),
        units=units,
        latency=latency,
        measured=latency * (1 + 0.015 * rng.standard_normal(latency.shape)),
        predicted=predicted,
        posterior=weight * value + (1 - weight) * predicted,
        value=value,
        test=true - 0.01 + error * rng.standard_normal(count),
        error=error,
        failed=rng.random(count) < _FAILED,
        stopped=rng.random(count) < _STOPPED,
    )


def _write_frame(folder: Path, space: SearchSpace, family_config: Any, seed: int) -> None:
    shape = {"task": "image-classification", "input": [3, 224, 224], "classes": 10,
             "labels": list("0123456789"), "mean": [0.5] * 3, "std": [0.3] * 3}  # fmt: skip
    stages = {
        name: {"status": "complete", "updated": _WHEN.format(number, 0), **facts}
        for number, (name, facts) in enumerate(
            (("train", {"checkpoint": _CHECKPOINT, "steps": 1000, "seconds": 3600.0}),
             ("profile", {"trustworthy": True}), ("search", {"name": "default"}))
        )
    }  # fmt: skip
    content = {
        "format": 1, "family": "ofa_mobilenetv3", "preset": "imagenet",
        "family_config": family_config, "data": {"spec": "digits", "fingerprint": "made up",
        "shape": shape}, "recipe": {"steps": 1000}, "seed": seed, "space": space.digest,
        "created": _WHEN.format(0, 0), "versions": {}, "stages": stages,
    }  # fmt: skip
    write_record(folder / "run.json", RunRecord.model_validate_json(json.dumps(content)))
    files.write_json(folder / "space.json", space.to_json())
    log = folder / "metrics.jsonl"
    log.unlink(missing_ok=True)
    for step in range(25, 1001, 25):
        loss = 0.9 + 1.6 * float(np.exp(-step / 200))
        files.append_record(log, {"step": step, "loss": loss, "learning_rate": 0.1})


def _write_device(folder: Path, world: World, number: int) -> None:
    rng, name = world.rng, world.devices[number]
    rows = {}
    for (block, kernel, expand), table in zip(world.blocks, world.costs[number], strict=True):
        for k, size in enumerate(world.space.choices[kernel].values):
            for e, width in enumerate(world.space.choices[expand].values):
                latency = float(table[k, e])
                rows[f"{block} k{size} e{width}"] = {
                    "latency_ms": latency, "median_ms": latency, "low_ms": 0.98 * latency,
                    "high_ms": 1.02 * latency, "spread": 0.01, "repeats": 30, "visits": 6,
                    "macs": int(1e7 * latency), "parameters": int(1e5 * latency),
                }  # fmt: skip
    sample = world.sample(32)
    predicted = world.latencies(sample)[number]
    measured, *halves = (predicted * (1 + 0.015 * rng.standard_normal(32)) for _ in range(3))
    points = [
        {"digest": a.digest, "predicted_ms": float(p), "measured_ms": float(m),
         "low_ms": 0.98 * float(m), "high_ms": 1.02 * float(m), "calibration": i < 16}
        for i, (a, p, m) in enumerate(
            zip(world.space.decode(sample), predicted, measured, strict=True))
    ]  # fmt: skip
    judged = judge_predictions(predicted[16:], measured[16:], (halves[0][16:], halves[1][16:]))
    device = Device(name)
    fingerprint = {"cpu": f"Processor of the {name}", "allowed_processors": 4, "cores": 4}
    table = LatencyTable(
        device=device,
        fingerprint=fingerprint,
        space=world.space.digest,
        precisions=("fp32",),
        rows=rows,
        calibration=Calibration((1.03, 0.0, 0.0, 0.0), _FIXED_MS, 0.012, 16),
        report={**judged, "units": len(rows), "passes": 2, "points": points, "seconds": 60.0},
        anchors=(),
        quiet=Quiet(20_000.0, 0.8, 1.1),
        created=_WHEN.format(1, number),
    )
    table.save(folder)
    TableReport.model_validate_json((folder / "report.json").read_bytes())


def _write_search(
    folder: Path,
    world: World,
    figures: Figures,
    devices: tuple[str, ...],
    count: int,
    number: int = 0,
) -> Front:
    """Write a search over the first ``count`` evaluations; returns its front."""
    several = len(devices) > 1
    of = range(len(world.devices)) if several else (number,)
    largest = world.latencies(world.space.encode([world.space.largest]))
    worst = np.max([figures.latency[d] / largest[d, 0] for d in of], axis=0)
    cost = WORST_LATENCY if several else LATENCY
    objectives = np.stack(
        [-figures.posterior, worst if several else figures.latency[number]], axis=1
    )
    known = np.flatnonzero(~figures.failed[:count])
    usable = known[~figures.stopped[known]]
    members = usable[nondominated(objectives[usable])]
    members = members[np.argsort(objectives[members, 1])]
    close = figures.posterior + 1.6 * _PREDICTION_ERROR / 2 >= _best_at(objectives, members)
    on_front = np.zeros(len(figures.value), dtype=np.bool_)
    on_front[members] = True
    rest = known[~on_front[known]]
    points = []
    for i in (*members, *rest):
        verified = bool(on_front[i])
        estimates = {ACCURACY.name: _estimate_accuracy(figures, i, verified)}
        if several:
            share = float(worst[i])
            found = share * 1.01 if verified else share
            source = "measured" if verified else "table"
            estimates[cost.name] = Estimate(predicted=share, value=found, source=source)
        for place, device in zip(of, devices, strict=True):
            estimate = _estimate_latency(figures, place, i, verified)
            estimates[name_latency(device, devices)] = estimate
        points.append(_make_point(world, figures, of[0], i, estimates, verified, bool(close[i])))
    strategy = "predictor_guided"
    front = Front(
        search=folder.name, device=devices[0], devices=devices, space_digest=world.space.digest,
        checkpoint=_CHECKPOINT, strategy=strategy, evaluations=count,
        failed=count - len(known), stopped="evaluations", points=tuple(points),
        latency_method="made up", latency_ratio=1.0,
        latency_ratios=dict.fromkeys(devices, 1.0),
        searched_for=(
            ObjectiveRecord(name=ACCURACY.name, unit="fraction", direction="maximize"),
            ObjectiveRecord(name=cost.name, unit=cost.unit, direction="minimize"),
        ),
        hypervolume=HypervolumeRecord(predicted=0.041, verified=0.0405, searched=0.0406,
                                      reference={ACCURACY.name: 0.5, cost.name: 100.0}),
        cards={ACCURACY.name: CardRecord(
            model="gaussian_process", samples=count, tau=0.86, spearman=0.95, rmse=0.004,
            level=0.9, coverage=0.91, half_width=0.007, widening=1.2,
            curve=((50, 0.6), (200, 0.75), (1000, 0.86)))},
    )  # fmt: skip
    trace = (0.0406 * (1 - np.exp(-np.arange(1, count + 1) / (count / 8)))).tolist()
    write_front(folder, front, trace)
    settings = SearchSettings(
        device=",".join(devices), latency_ms=None, objectives=(ACCURACY.name, cost.name),
        strategy=strategy, seed=0, evaluations=count,
    )  # fmt: skip
    plan = SearchRecord(
        config=settings, space=world.space.digest, checkpoint=_CHECKPOINT, table=None,
        status="complete", updated=_WHEN.format(3, 0), front=front.digest,
    )  # fmt: skip
    write_record(folder / SEARCH_FILE, plan)
    return front


def _best_at(objectives: NDArray[np.float64], members: NDArray[np.intp]) -> NDArray[np.float64]:
    """The best quality of the front at the cost of each row, ``(n,)``."""
    costs, best = objectives[members, 1], np.maximum.accumulate(-objectives[members, 0])
    place = np.searchsorted(costs, objectives[:, 1], side="right") - 1
    return np.where(place >= 0, best[np.maximum(place, 0)], 0.0)


def _estimate_accuracy(figures: Figures, i: int, verified: bool) -> Estimate:
    stopped = bool(figures.stopped[i])
    guess, value, error = (float(a[i]) for a in (figures.predicted, figures.value, figures.error))
    known = float(figures.posterior[i])
    spread = 1 / float(np.hypot(1 / error, 1 / _PREDICTION_ERROR))
    facts: dict[str, Any] = {
        "posterior": known, "posterior_error": spread, "samples": _SAMPLES,
        "posterior_low": known - 1.96 * spread, "posterior_high": known + 1.96 * spread,
    }  # fmt: skip
    if verified:
        test = float(figures.test[i])
        facts |= {"test": test, "test_low": test - 1.96 * error, "test_high": test + 1.96 * error}
    return Estimate(
        predicted=guess, predicted_low=guess - 0.008, predicted_high=guess + 0.008, value=value,
        source="stopped early" if stopped else "evaluated",
        low=None if stopped else value - 1.96 * error,
        high=None if stopped else value + 1.96 * error, **facts,
    )  # fmt: skip


def _estimate_latency(figures: Figures, device: int, i: int, verified: bool) -> Estimate:
    predicted = float(figures.latency[device, i])
    if not verified:
        return Estimate(predicted=predicted, value=predicted, source="table")
    found = float(figures.measured[device, i])
    return Estimate(
        predicted=predicted, value=found, low=0.99 * found, high=1.01 * found, source="measured"
    )


def _make_point(
    world: World,
    figures: Figures,
    device: int,
    i: int,
    estimates: dict[str, Estimate],
    verified: bool,
    close: bool,
) -> Point:
    architecture = figures.architectures[i]
    latency = float(figures.latency[0, i])
    parts = [
        {"unit": f"blocks.{number}", "latency_ms": float(found)}
        for number, found in enumerate(figures.units[device, :, i]) if found
    ] if verified else []  # fmt: skip
    parameters = 2_000_000 + int(4e5 * latency)
    point = Point.model_validate(
        {
            "digest": architecture.digest, "choices": architecture.to_dict(), "on_front": verified,
            "indistinguishable": close and not verified, "verified": verified,
            "within_limits": True, "estimates": estimates, "unit_latencies": tuple(parts),
        }
    )  # fmt: skip
    counts = {"parameters": parameters, "macs": int(4e7 * latency), "size_bytes": 4 * parameters}
    return point.replace(**counts)


def _write_evaluations(path: Path, figures: Figures, front: Front) -> None:
    lines = []
    verified = {point.digest for point in front.points if point.verified}
    for i, architecture in enumerate(figures.architectures):
        split_values = [("val", figures.value)]
        if architecture.digest in verified:
            split_values.append(("test", figures.test))
        for split, values in split_values:
            value, error = float(values[i]), float(figures.error[i])
            facts: dict[str, Any] = {"value": value, "low": value - 1.96 * error,
                                     "high": value + 1.96 * error, "balanced": value}  # fmt: skip
            if figures.failed[i]:
                facts = {"value": None, "failure": "the loss is not finite"}
            elif figures.stopped[i]:
                facts |= {"stopped": True, "fidelity": 0.25}
            record = EvaluationRecord(
                architecture=architecture.to_dict(), digest=architecture.digest,
                objective=ACCURACY.name, unit="fraction", split=split, checkpoint=_CHECKPOINT,
                calibration=CalibrationRecord(samples=1024, used=1024), samples=_SAMPLES,
                seconds=0.1, at=_WHEN.format(i // 3600 % 60, i // 60 % 60), source="evaluated",
                **facts,
            )  # fmt: skip
            # A line as `append_record` writes it, without waiting for the disk after each.
            lines.append(json.dumps(checksums.seal(to_json(record)), allow_nan=False))
    files.write_text(path, "\n".join(lines) + "\n")
    keep_evaluation_columns(path)

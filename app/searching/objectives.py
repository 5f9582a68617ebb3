"""Objectives by name: what a search optimises, where the numbers come from, which way is better."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from app.evaluation.log import EvaluationLog, number
from app.records.front import ALIASES, LATENCY
from app.runs.latency_table import DeviceTable
from app.runs.trained import Trained
from app.searching.additive_costs import cost_terms, latency_terms
from predictors import Statistics
from search import Constraint, Objective, SearchProblem
from search.devices import mean_of, worst_of
from search.limits import Amount, Limit, check_compatible, of_largest, parse_bound, resolve_limit
from supernet.quality.evaluate import Z_TWO_SIDED_95
from supernet.space import nearest

QUALITIES = ("accuracy", "loss")
ROBUST = {"worst_latency": worst_of, "mean_latency": mean_of}
NAMES = ("accuracy", "loss", "latency", "size", "macs", "parameters", *ROBUST)


@dataclass(frozen=True)
class Sources:
    """Where the numbers of a search come from.

    Args:
        trained: The network: analytic costs.
        log: Evaluations of its subnetworks.
        tables: Latency tables by device, in the order asked for.
    """

    trained: Trained
    log: EvaluationLog
    tables: Mapping[str, DeviceTable]

    def latency_of_largest(self, device: str) -> float:
        """Predicted latency of the largest architecture on a device, in milliseconds."""
        space = self.trained.supernet.space
        return float(self.tables[device].latency_ms(space.encode([space.largest]))[0])


def free_statistics(sources: Sources) -> Statistics:
    """What every architecture costs, for nothing: features that tell a predictor its size.

    Logarithms of multiply-adds, parameters and the latency on each profiled device; sizes span
    orders of magnitude, and qualities follow their ratios.

    Args:
        sources: Cost model and latency tables.

    Returns:
        Rows ``(n, len(space))`` in, ``(n, k)`` out.
    """
    costs = sources.trained.cost_model
    columns = [costs.macs, costs.parameters, *(t.latency_ms for t in sources.tables.values())]

    def statistics(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        return np.log(np.stack([np.asarray(f(rows), np.float64) for f in columns], axis=1))

    return statistics


def latency_name(device: str, devices: Sequence[str]) -> str:
    """The name of the latency on a device: plain with one device, ``latency_ms@DEVICE`` else."""
    return LATENCY if len(devices) == 1 else f"{LATENCY}@{device}"


def named_devices(names: Sequence[str]) -> tuple[str, ...]:
    """Devices that objectives or limits name, as in ``latency@pixel``, each once."""
    found = (name.partition("@")[2] for name in names if "@" in name)
    return tuple(dict.fromkeys(device for device in found if device))


def resolve(
    names: Sequence[str], quality: str, devices: Sequence[str] = ("cpu",)
) -> tuple[str, ...]:
    """Canonical objective names, at least two, each once.

    Args:
        names: As a user writes them; empty for the quality and the latency of every device.
        quality: What this task is judged by.
        devices: Those of the search; ``latency`` is the latency on each of them.

    Raises:
        ValueError: Unknown name, a name twice, fewer than two, or a quality of another task.
    """
    found = [
        full for name in (names or (quality, LATENCY)) for full in canonical(name, quality, devices)
    ]
    for name in found:
        if found.count(name) > 1:
            raise ValueError(f"objective {name!r} is listed twice")
    if len(found) < 2:
        raise ValueError(f"a search needs at least two objectives; {found[0]!r} is only one")
    return tuple(found)


def canonical(name: str, quality: str, devices: Sequence[str]) -> tuple[str, ...]:
    """The quantities that a name stands for; several where ``latency`` has several devices.

    Raises:
        ValueError: Unknown name, a quality of another task, a device for something that has none,
            or one device where several are needed.
    """
    plain, at, device = name.partition("@")
    if plain not in NAMES and plain not in ALIASES.values():
        raise ValueError(
            f"unknown objective {name!r}{nearest(plain, NAMES)}; objectives are {', '.join(NAMES)}"
        )
    plain = ALIASES.get(plain, plain)
    if plain in QUALITIES and plain != quality:
        raise ValueError(f"objective {plain!r} does not fit the task; use {quality!r}")
    if at and (plain != LATENCY or not device):
        raise ValueError(
            f"objective {name!r} is impossible; only latency has a device: latency@cpu"
        )
    if plain in ROBUST and len(devices) < 2:
        raise ValueError(
            f"objective {plain!r} needs two or more devices; name them, such as --device cpu,phone"
        )
    if plain != LATENCY:
        return (plain,)
    return tuple(latency_name(d, devices) for d in ([device] if device else devices))


def latency_limit(budget: float | str) -> Limit:
    """The limit that ``--latency-ms`` stands for.

    Raises:
        ValueError: It is no latency above 0 and no share of the largest.
    """
    text = f"{budget:g}" if isinstance(budget, float) else str(budget).strip()
    try:
        amount = Amount(float(text))
    except ValueError:
        amount = parse_bound(text, "the latency budget")
    if not (math.isfinite(amount.value) and amount.value > 0):
        raise ValueError(f"a latency budget of {text} ms cannot work; it must be above 0")
    return Limit("latency", True, amount, f"latency<={text}")


def build_problem(names: Sequence[str], limits: Sequence[Limit], sources: Sources) -> SearchProblem:
    """The search problem of resolved objective names and limits.

    Raises:
        ValueError: Latency is asked for without a table, or a limit is impossible, unknown, or
            excluded by another one.
    """
    devices = tuple(sources.tables)
    wanted = [
        (limit, full)
        for limit in limits
        for full in canonical(limit.quantity, sources.trained.quality, devices or ("",))
    ]
    extra = dict.fromkeys(full for _, full in wanted if full not in names)
    objectives = tuple(objective(name, sources) for name in names)
    limited = tuple(objective(name, sources) for name in extra)
    space = sources.trained.supernet.space
    free = SearchProblem(space, objectives, (), limited)
    constraints = tuple(_constraints(wanted, free))
    check_compatible(constraints)
    return SearchProblem(space, objectives, constraints, limited)


def _constraints(
    wanted: Sequence[tuple[Limit, str]], problem: SearchProblem
) -> Iterator[Constraint]:
    for limit, full in wanted:
        quantity = problem.quantities[problem.column(full)]
        yield resolve_limit(limit, quantity, partial(of_largest, problem, quantity))


def objective(name: str, sources: Sources) -> Objective:
    """One objective by its canonical name.

    Raises:
        ValueError: It is a latency, and the device has no table.
    """
    if name in QUALITIES:
        return _quality(name, sources)
    plain, _, device = name.partition("@")
    if plain == LATENCY:
        table = sources.tables.get(device or next(iter(sources.tables), ""))
        if table is None:
            raise ValueError("latency needs a profiled device; run the profile command first")
        terms = latency_terms(table.compiled)
        return Objective(name, "ms", "minimize", table.latency_ms, "table", additive=terms)
    if name in ROBUST:
        devices = tuple(sources.tables)
        parts = [objective(latency_name(d, devices), sources) for d in devices]
        scales = [sources.latency_of_largest(d) for d in devices]
        return ROBUST[name](name, "fraction", parts, scales)
    costs = sources.trained.cost_model
    count = {"size_bytes": costs.size_bytes, "macs": costs.macs, "parameters": costs.parameters}
    unit = {"size_bytes": "bytes", "macs": "macs", "parameters": "weights"}
    terms = cost_terms(costs)[name]
    return Objective(name, unit[name], "minimize", count[name], "analytic", additive=terms)


def _quality(name: str, sources: Sources) -> Objective:
    space = sources.trained.supernet.space
    log = sources.log

    def evaluate(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        return np.array([number(log.evaluate(a, "val")) for a in space.decode(rows)])

    def binomial(values: NDArray[np.float64]) -> NDArray[np.float64]:
        samples = len(sources.trained.data.val)
        # A share of exactly 0 or 1 has an error, too: that of half a sample.
        share = np.clip(values, 0.5 / samples, 1 - 0.5 / samples)
        return np.sqrt(share * (1 - share) / samples)

    def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
        found = {
            r["value"]: (r["high"] - r["low"]) / (2 * Z_TWO_SIDED_95)
            for r in log.records("val")
            if r["value"] is not None
        }
        return np.array([found.get(float(value), 0.0) for value in values])

    if name == "accuracy":
        return Objective(name, "fraction", "maximize", evaluate, "evaluated", noise=binomial)
    return Objective(name, "nats/token", "minimize", evaluate, "evaluated", noise=spread)

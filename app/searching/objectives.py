"""How the value of every quantity is obtained: the one place that knows.

A new analytic quantity is an entry of :data:`app.records.quantities.QUANTITIES` and a function in
:data:`ANALYTIC`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.evaluation.log import EvaluationLog
from app.records.quantities import (
    ACCURACY,
    LATENCY,
    LOSS,
    MACS,
    MEAN_LATENCY,
    PARAMETERS,
    SIZE,
    WORST_LATENCY,
    Quantity,
    counted_quantities,
    find_quantity,
)
from app.runs.latency_table import DeviceTable
from app.runs.trained import Trained
from app.searching.additive_costs import cost_terms, latency_terms
from predictors import Statistics
from search import Constraint, Objective, SearchProblem
from search.arrays.additive import AdditiveTerms
from search.devices import mean_of, worst_of
from search.limits import Amount, Limit, check_compatible, of_largest, parse_bound, resolve_limit
from search.problem import Evaluate
from supernet.costs.cost_model import CostModel, CostUnit, UnitVariants
from supernet.quality.evaluate import Z95
from supernet.supernet import Supernet


class Network(Protocol):
    """What analytic quantities are computed from: a trained run, or a family's own network."""

    @property
    def supernet(self) -> Supernet:
        """The network and its space."""

    @property
    def cost_model(self) -> CostModel:
        """Every variant of every unit of the network."""


@dataclass(frozen=True)
class Analytic:
    """A quantity that the architecture alone decides.

    Args:
        evaluate: Rows ``(n, len(space))`` in, values ``(n,)`` in the stored unit out.
        additive: Gives the same quantity as a sum over units, where it is one; with it, exact
            selection can bound and optimise the quantity.
    """

    evaluate: Evaluate
    additive: Callable[[], AdditiveTerms] | None = None


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
    return LATENCY.name if len(devices) == 1 else LATENCY.on_device(device).name


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
        full
        for name in (names or (quality, LATENCY.name))
        for full in canonical(name, quality, devices)
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
    quantity = find_quantity(name)
    if quantity.is_quality and quantity.name != quality:
        raise ValueError(f"objective {name!r} does not fit the task; use {quality!r}")
    if quantity.over_devices and len(devices) < 2:
        raise ValueError(
            f"objective {name!r} needs two or more devices; name them, such as --device cpu,phone"
        )
    if not quantity.per_device:
        return (quantity.name,)
    wanted = [quantity.device] if quantity.device else devices
    return tuple(latency_name(device, devices) for device in wanted)


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
    return Limit(LATENCY.name, True, amount, f"{LATENCY.short_name}<={text}")


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
        limited = problem.quantities[problem.column(full)]
        yield resolve_limit(limit, find_quantity(full), partial(of_largest, problem, limited))


def objective(name: str, sources: Sources) -> Objective:
    """One objective by its canonical name.

    Raises:
        ValueError: It is a latency, and the device has no table.
    """
    quantity = find_quantity(name)
    if quantity.is_quality:
        return _evaluated(quantity, sources)
    if quantity.per_device:
        return _looked_up(quantity, sources)
    if quantity.over_devices:
        return _over_devices(quantity, sources)
    found = ANALYTIC[quantity.name](sources.trained)
    additive = None if found.additive is None else found.additive()
    return Objective(
        quantity.name, quantity.unit, quantity.direction, found.evaluate, "analytic",
        additive=additive,
    )  # fmt: skip


def count_all(network: Network, rows: NDArray[np.int16]) -> dict[str, NDArray[np.float64]]:
    """Every quantity that the architecture alone decides.

    Args:
        network: Whose space the rows are of.
        rows: ``(n, len(space))``.

    Returns:
        Values ``(n,)`` by name, in the order of the table of quantities.
    """
    return {q.name: ANALYTIC[q.name](network).evaluate(rows) for q in counted_quantities()}


def plain_number(value: float) -> int | float | None:
    """A count as files hold it: whole where it is, ``None`` where it is no number."""
    if not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def over_devices(name: str, shares: Sequence[float]) -> float:
    """A quantity over several devices from the latencies on each.

    Args:
        name: Of the quantity.
        shares: Latency on each device, relative to that of the largest architecture there.
    """
    _, combine = _OVER_DEVICES[name]
    return combine(shares)


def sum_over_units(network: Network, cost: Callable[[CostUnit], float]) -> Analytic:
    """A quantity that adds up over the units of an architecture.

    Args:
        network: Whose units.
        cost: Of one unit, in the stored unit of the quantity.
    """
    costs = network.cost_model
    each = np.array([cost(unit) for unit in costs.distinct])

    def of_variants(unit: UnitVariants) -> list[float]:
        return [0.0 if variant is None else cost(variant) for variant in unit.variants]

    return Analytic(partial(costs.total, values=each), partial(cost_terms, costs, of_variants))


# -- one function for each analytic quantity -------------------------------------------------------


def _parameters(network: Network) -> Analytic:
    return sum_over_units(network, lambda unit: unit.parameters)


def _macs(network: Network) -> Analytic:
    return sum_over_units(network, lambda unit: unit.macs)


def _size(network: Network) -> Analytic:
    costs = network.cost_model
    # Statistics and the precision of each weight belong to the variant, not to its graph.
    return Analytic(costs.size_bytes, partial(cost_terms, costs, lambda unit: unit.size_bytes))


ANALYTIC: dict[str, Callable[[Network], Analytic]] = {
    PARAMETERS.name: _parameters,
    MACS.name: _macs,
    SIZE.name: _size,
}


# -- latencies, from tables ------------------------------------------------------------------------


def _looked_up(quantity: Quantity, sources: Sources) -> Objective:
    table = sources.tables.get(quantity.device or next(iter(sources.tables), ""))
    if table is None:
        raise ValueError("latency needs a profiled device; run the profile command first")
    terms = latency_terms(table.compiled)
    return Objective(
        quantity.name, quantity.unit, quantity.direction, table.latency_ms, "table", additive=terms
    )


def _over_devices(quantity: Quantity, sources: Sources) -> Objective:
    devices = tuple(sources.tables)
    parts = [objective(latency_name(device, devices), sources) for device in devices]
    scales = [sources.latency_of_largest(device) for device in devices]
    build, _ = _OVER_DEVICES[quantity.name]
    return build(quantity.name, quantity.unit, parts, scales)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# How objectives are combined, and how single values are.
_OVER_DEVICES: dict[str, tuple[Callable[..., Objective], Callable[[Sequence[float]], float]]] = {
    WORST_LATENCY.name: (worst_of, max),
    MEAN_LATENCY.name: (mean_of, _mean),
}


# -- qualities, by evaluation ----------------------------------------------------------------------


def _evaluated(quantity: Quantity, sources: Sources) -> Objective:
    space, log = sources.trained.supernet.space, sources.log

    def evaluate(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        return np.array([log.evaluate(a, "val").value_or_nan for a in space.decode(rows)])

    noise = partial(_NOISE[quantity.name], sources)
    return Objective(
        quantity.name, quantity.unit, quantity.direction, evaluate, "evaluated", noise=noise
    )


def _binomial(sources: Sources, values: NDArray[np.float64]) -> NDArray[np.float64]:
    samples = len(sources.trained.data.val)
    # A share of exactly 0 or 1 has an error, too: that of half a sample.
    share = np.clip(values, 0.5 / samples, 1 - 0.5 / samples)
    return np.sqrt(share * (1 - share) / samples)


def _spread(sources: Sources, values: NDArray[np.float64]) -> NDArray[np.float64]:
    found = {
        record.value: (record.high - record.low) / (2 * Z95)
        for record in sources.log.records("val")
        if record.value is not None and record.low is not None and record.high is not None
    }
    return np.array([found.get(float(value), 0.0) for value in values])


_NOISE = {ACCURACY.name: _binomial, LOSS.name: _spread}

"""How the value of every quantity is obtained: the one place that knows.

A new analytic quantity is an entry of :data:`app.records.quantities.QUANTITIES` and a function in
:data:`ANALYTIC`; or it is a module of a user's own, named by its dotted path, which has both as
``QUANTITY`` and ``obtain``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.evaluation.log import EvaluationLog
from app.records.quantities import (
    ACCURACY,
    BIT_OPERATIONS,
    LOSS,
    MACS,
    MEAN_LATENCY,
    PARAMETERS,
    PEAK_MEMORY,
    SIZE,
    WORST_LATENCY,
    Quantity,
    find_quantity,
    list_counted,
    name_latency,
)
from app.runs import plugins
from app.runs.latency_table import DeviceTable
from app.runs.trained import Trained
from app.searching.additive_costs import build_cost_terms, build_latency_terms
from predictors import Statistics
from search import Objective
from search.arrays.additive import AdditiveTerms
from search.devices import mean_of, worst_of
from search.problem import Evaluate
from supernet.costs.cost_model import CostModel, CostUnit, UnitVariants
from supernet.costs.tensor_sizes import count_bit_operations, measure_live_bytes
from supernet.errors import InputError
from supernet.quality.sampling_error import Z_TWO_SIDED_95, recover_count
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
class BuiltNetwork:
    """A family's network as it is built: all that analytic quantities need."""

    supernet: Supernet
    cost_model: CostModel


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


def build_statistics(sources: Sources) -> Statistics:
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


def load_quantity(name: str) -> Quantity:
    """The quantity that a name means, or that a module of a user's own describes.

    Args:
        name: A name or an alias, with ``@DEVICE`` for one of several devices; or a dotted path,
            under which the quantity is kept in files.

    Raises:
        InputError: Unknown name, a device for something that has none, no such module, or one
            that describes no analytic quantity.
    """
    if not _is_path(name):
        return find_quantity(name)
    found = _load_own(name).QUANTITY
    if not (isinstance(found, Quantity) and found.counted):
        raise InputError(
            f"objective {name!r}: QUANTITY of the module must be a Quantity that is neither "
            "evaluated nor a latency"
        )
    return replace(found, name=name, aliases=())


def _is_path(name: str) -> bool:
    return "." in name.partition("@")[0]


def _load_own(path: str) -> ModuleType:
    return plugins.load_own(path, "objective", ("QUANTITY", "obtain"))


def _obtain(name: str, network: Network) -> Analytic:
    if not _is_path(name):
        return ANALYTIC[name](network)
    found = _load_own(name).obtain(network)
    if not isinstance(found, Analytic):
        raise InputError(
            f"objective {name!r}: obtain must return an Analytic, such as sum_over_units makes "
            f"one, and not {found!r}"
        )
    checked = partial(_evaluate_checked, name, found.evaluate)
    space = network.supernet.space
    # Before anything is spent on a search, or written for it.
    checked(space.encode([space.smallest, space.largest]))
    return replace(found, evaluate=checked)


def _evaluate_checked(
    name: str, evaluate: Evaluate, rows: NDArray[np.int16]
) -> NDArray[np.float64]:
    """Evaluate an objective of a user's own, whose values may be anything.

    Raises:
        InputError: They are not one finite real number for each row.
    """
    found = np.asarray(evaluate(rows))
    numeric = found.dtype.kind in "iuf"
    if found.shape != (len(rows),) or not numeric or not np.isfinite(found).all():
        raise InputError(
            f"objective {name!r} must give one finite number for each of {len(rows)} "
            f"architectures; it gave {found.dtype} values of shape {found.shape}"
            + (", not all of them finite" if numeric else "")
        )
    return found.astype(np.float64)


def build_objective(name: str, sources: Sources) -> Objective:
    """One objective by its canonical name.

    Raises:
        InputError: It is a latency, and the device has no table.
    """
    quantity = load_quantity(name)
    if quantity.is_quality:
        return _evaluated(quantity, sources)
    if quantity.per_device:
        return _looked_up(quantity, sources)
    if quantity.over_devices:
        return _over_devices(quantity, sources)
    found = _obtain(quantity.name, sources.trained)
    additive = None if found.additive is None else found.additive()
    return Objective(
        quantity.name, quantity.unit, quantity.direction, found.evaluate, "analytic",
        additive=additive,
    )  # fmt: skip


def count_all(network: Network, rows: NDArray[np.int16]) -> dict[str, NDArray[np.float64]]:
    """Every quantity that the architecture alone decides and that nobody has to ask for.

    Args:
        network: The network whose space the rows are of.
        rows: ``(n, len(space))``.

    Returns:
        Values ``(n,)`` by name, in the order of the table of quantities.
    """
    free = (quantity for quantity in list_counted() if not quantity.on_request)
    return {q.name: ANALYTIC[q.name](network).evaluate(rows) for q in free}


def combine_devices(name: str, shares: Sequence[float]) -> float:
    """A quantity over several devices from the latencies on each.

    Args:
        name: Name of the quantity.
        shares: Latency on each device, relative to that of the largest architecture there.
    """
    _, combine = _OVER_DEVICES[name]
    return combine(shares)


def sum_over_units(network: Network, cost: Callable[[CostUnit], float]) -> Analytic:
    """A quantity that adds up over the units of an architecture.

    Args:
        network: The network whose units are added up.
        cost: Cost of one unit, in the stored unit of the quantity.
    """
    costs = network.cost_model
    each = np.array([cost(unit) for unit in costs.distinct])

    def of_variants(unit: UnitVariants) -> list[float]:
        return [0.0 if variant is None else cost(variant) for variant in unit.variants]

    return Analytic(
        partial(costs.total, values=each), partial(build_cost_terms, costs, of_variants)
    )


# -- one function for each analytic quantity -------------------------------------------------------


def _parameters(network: Network) -> Analytic:
    return sum_over_units(network, lambda unit: unit.parameters)


def _macs(network: Network) -> Analytic:
    return sum_over_units(network, lambda unit: unit.macs)


def _size(network: Network) -> Analytic:
    costs = network.cost_model
    # Statistics and the precision of each weight belong to the variant, not to its graph.
    return Analytic(
        costs.size_bytes, partial(build_cost_terms, costs, lambda unit: unit.size_bytes)
    )


def _bit_operations(network: Network) -> Analytic:
    counted: dict[str, int] = {}

    def count(unit: CostUnit) -> int:
        if unit.digest not in counted:
            counted[unit.digest] = count_bit_operations(unit.graph, unit.precision)
        return counted[unit.digest]

    return sum_over_units(network, count)


def _peak_memory(network: Network) -> Analytic:
    """Stored weights, and the most that activations take while any one unit runs."""
    costs = network.cost_model
    live = np.array([measure_live_bytes(unit.graph) for unit in costs.distinct])
    return Analytic(lambda rows: costs.size_bytes(rows) + costs.maximum(rows, live))


ANALYTIC: dict[str, Callable[[Network], Analytic]] = {
    PARAMETERS.name: _parameters,
    MACS.name: _macs,
    SIZE.name: _size,
    BIT_OPERATIONS.name: _bit_operations,
    PEAK_MEMORY.name: _peak_memory,
}


# -- latencies, from tables ------------------------------------------------------------------------


def _looked_up(quantity: Quantity, sources: Sources) -> Objective:
    table = sources.tables.get(quantity.device or next(iter(sources.tables), ""))
    if table is None:
        raise InputError("latency needs a profiled device; run the profile command first")
    terms = build_latency_terms(table.compiled)
    return Objective(
        quantity.name, quantity.unit, quantity.direction, table.latency_ms, "table", additive=terms
    )


def _over_devices(quantity: Quantity, sources: Sources) -> Objective:
    devices = tuple(sources.tables)
    parts = [build_objective(name_latency(device, devices), sources) for device in devices]
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
    counts = _count_answers(sources, values)
    # A share of exactly 0 or 1 has an error, too: that of half a sample.
    share = np.clip(values, 0.5 / counts, 1 - 0.5 / counts)
    return np.sqrt(share * (1 - share) / counts)


def _count_answers(sources: Sources, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Independent answers behind accuracies ``(n,)``: fewer than samples that come in groups."""
    split = sources.trained.data.val
    if split.groups is None:
        return np.full(values.shape, float(len(split)))
    found: dict[float, float] = {}
    for record in sources.log.records("val"):
        if record.value is not None and record.low is not None and record.high is not None:
            count = recover_count(record.value, record.low, record.high)
            # Of equally good networks the one that tells least: a front is rather too long.
            found[record.value] = min(count, found.get(record.value, count))
    # Of an estimate nothing is known but that a group counts as one answer at least.
    fewest = float(len(split.groups.unique()))
    return np.array([found.get(float(value), fewest) for value in values])


def _spread(sources: Sources, values: NDArray[np.float64]) -> NDArray[np.float64]:
    # By the upper end alone: the lower one is cut off at 0.
    found = {
        record.value: (record.high - record.value) / Z_TWO_SIDED_95
        for record in sources.log.records("val")
        if record.value is not None and record.high is not None
    }
    return np.array([found.get(float(value), 0.0) for value in values])


_NOISE = {ACCURACY.name: _binomial, LOSS.name: _spread}

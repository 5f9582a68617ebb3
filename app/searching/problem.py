"""From objectives and limits as people write them to a search problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from app.records.quantities import LATENCY, name_latency
from app.searching.objectives import Sources, build_objective, load_quantity
from search import Constraint, SearchProblem
from search.limits import (
    Limit,
    check_compatible,
    evaluate_largest,
    resolve_limit,
)
from supernet.errors import InputError


def resolve_objectives(
    names: Sequence[str], quality: str, devices: Sequence[str] = ("cpu",)
) -> tuple[str, ...]:
    """Canonical objective names, at least two, each once.

    Args:
        names: As a user writes them; empty for the quality and the latency of every device.
        quality: What this task is judged by.
        devices: Those of the search; ``latency`` is the latency on each of them.

    Raises:
        InputError: Unknown name, a name twice, fewer than two, or a quality of another task.
    """
    found = [
        full
        for name in (names or (quality, LATENCY.name))
        for full in resolve_quantity(name, quality, devices)
    ]
    for name in found:
        if found.count(name) > 1:
            raise InputError(f"objective {name!r} is listed twice")
    if len(found) < 2:
        raise InputError(f"a search needs at least two objectives; {found[0]!r} is only one")
    return tuple(found)


def resolve_quantity(name: str, quality: str, devices: Sequence[str]) -> tuple[str, ...]:
    """The quantities that a name stands for; several where ``latency`` has several devices.

    Raises:
        InputError: Unknown name, a quality of another task, a device for something that has none,
            or one device where several are needed.
    """
    quantity = load_quantity(name)
    if quantity.is_quality and quantity.name != quality:
        raise InputError(f"objective {name!r} does not fit the task; use {quality!r}")
    if quantity.over_devices and len(devices) < 2:
        raise InputError(
            f"objective {name!r} needs two or more devices; name them, such as --device cpu,phone"
        )
    if not quantity.per_device:
        return (quantity.name,)
    wanted = [quantity.device] if quantity.device else devices
    return tuple(name_latency(device, devices) for device in wanted)


def build_problem(names: Sequence[str], limits: Sequence[Limit], sources: Sources) -> SearchProblem:
    """The search problem of resolved objective names and limits.

    Raises:
        InputError: Latency is asked for without a table, or a limit is impossible, unknown, or
            excluded by another one.
    """
    devices = tuple(sources.tables)
    wanted = [
        (limit, full)
        for limit in limits
        for full in resolve_quantity(limit.quantity, sources.trained.quality, devices or ("",))
    ]
    extra = dict.fromkeys(full for _, full in wanted if full not in names)
    objectives = tuple(build_objective(name, sources) for name in names)
    limited = tuple(build_objective(name, sources) for name in extra)
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
        yield resolve_limit(limit, load_quantity(full), partial(evaluate_largest, problem, limited))

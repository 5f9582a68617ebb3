"""Picking as a job: the best verified subnetwork within a budget, at the knee or by preference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.jobs.outcomes import PickOutcome
from app.records.quantities import LATENCY, Quantity, resolve_name
from app.records.searches import picking
from app.records.searches.front import Front, Point, read_front
from app.records.searches.picking import Pick
from app.records.typed_json.plain import to_json_number
from app.runs.command_lines import list_own_modules, write_command
from app.runs.directory import Run, open_run
from search import Constraint
from search.limits import check_compatible, parse_bound, parse_limit, resolve_limit
from supernet.errors import InputError
from supernet.space import nearest


def pick_job(
    run: Path,
    latency_ms: float | None = None,
    search: str = "default",
    *,
    limits: Sequence[str] = (),
    knee: bool = False,
    weights: str | Mapping[str, float] | None = None,
    device: str | None = None,
) -> PickOutcome:
    """Recommend a verified point within a budget, or another good compromise.

    See :func:`app.records.searches.picking.pick_within` for which one.

    Args:
        run: The run directory.
        latency_ms: Budget in milliseconds.
        search: The search whose front is chosen from.
        limits: Budgets of other quantities, such as ``"size<=40KB"``.
        knee: The point farthest beyond the plane through the ends of the front.
        weights: Preferences, such as ``"accuracy=2,latency=1"``.
        device: The device whose latency counts, of a search of several; by default its first.

    Raises:
        InputError: Not exactly one way of choosing, unknown search, quantity or device, a budget
            that is no latency, or one that nothing meets (the nearest point is named).
    """
    ways = [latency_ms is not None or bool(limits), knee, weights is not None]
    if sum(ways) != 1:
        raise InputError(
            "pick needs exactly one of a budget (--latency-ms, --limit), --knee and --weights"
        )
    if latency_ms is not None and not (math.isfinite(latency_ms) and latency_ms > 0):
        raise InputError(f"a latency budget of {latency_ms:g} ms cannot work; it must be above 0")
    opened = open_run(run)
    front = choose_device(find_front(opened, search), device)
    chosen: dict[str, float] | None = None
    found = Pick(None, None)
    if knee:
        point, by = picking.pick_knee(front), "knee"
    elif weights is not None:
        chosen = _read_weights(front, weights)
        point, by = picking.pick_by_weights(front, chosen), "weights"
    else:
        found = _pick_within(front, latency_ms, limits)
        point, by = found.point, "budget"
    if point is None:
        raise InputError(f"search {search!r} has no verified subnetwork; run it again")
    return _outcome(opened, front, point, by, latency_ms, limits, chosen, found)


def choose_device(front: Front, device: str | None) -> Front:
    """A front by the latency of one of its devices, by default the first.

    Raises:
        InputError: The search has no such device.
    """
    known = front.devices or (front.device,)
    if device is None or device == front.device:
        return front
    if device not in known:
        raise InputError(
            f"search {front.search!r} has no device {device!r}{nearest(device, known)}; it has "
            f"{', '.join(known)}"
        )
    return front.replace(device=device)


def _pick_within(front: Front, latency_ms: float | None, limits: Sequence[str]) -> Pick:
    constraints = [_read_limit(front, text) for text in limits]
    if latency_ms is not None:
        if not front.cost.per_device:
            raise InputError(
                f"search {front.search!r} has no latency to pick by; profile a device and search "
                "again"
            )
        constraints.insert(0, Constraint(front.cost.name, at_most=latency_ms))
    check_compatible(constraints)
    found = picking.pick_within(front, constraints)
    if found.point is None and found.nearest is not None:
        missed = found.nearest
        if len(constraints) == 1 and latency_ms is not None:
            least = _show(missed.estimate(front.cost.name).value)
            raise InputError(
                f"no verified subnetwork of search {front.search!r} takes at most {latency_ms:g} "
                f"ms on {front.device}; the nearest takes {least} ms ({missed.digest})"
            )
        shown = ", ".join(
            f"{name} {_show(missed.estimate(name).value)}"
            for name in dict.fromkeys(constraint.objective for constraint in constraints)
        )
        raise InputError(
            f"no verified subnetwork of search {front.search!r} meets the limits; the nearest is "
            f"{missed.digest} with {shown}"
        )
    return found


def _show(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _read_limit(front: Front, text: str) -> Constraint:
    limit = parse_limit(text)
    quantity = _find_axis(front, limit.quantity)

    def largest() -> float:
        if quantity.over_devices:
            return 1.0
        raise InputError(
            f"limit {text!r}: a picked point has no largest architecture to compare with; write "
            "a number"
        )

    return resolve_limit(limit, quantity, largest)


def _find_axis(front: Front, name: str) -> Quantity:
    """The axis of a front that a user's name means."""
    full = resolve_name(name)
    if full == LATENCY.name and front.cost.per_device:
        return front.cost
    axes = {axis.name: axis for axis in front.axes}
    if full not in axes:
        known = list(axes)
        raise InputError(
            f"search {front.search!r} has no {name!r}{nearest(full, known)}; it has "
            f"{', '.join(known)}"
        )
    return axes[full]


def _read_weights(front: Front, weights: str | Mapping[str, float]) -> dict[str, float]:
    if isinstance(weights, str):
        pairs = {}
        for part in weights.split(","):
            name, equals, number = part.partition("=")
            if not equals or not name.strip():
                raise InputError(
                    f"weights {weights!r} cannot be read; write objective=weight, such as "
                    "accuracy=2,latency=1"
                )
            if name.strip() in pairs:
                raise InputError(f"weights {weights!r} name {name.strip()!r} twice")
            pairs[name.strip()] = parse_bound(number, f"the weight of {name.strip()}").value
        weights = pairs
    return {_find_axis(front, name).name: float(weight) for name, weight in weights.items()}


def _outcome(
    run: Run,
    front: Front,
    point: Point,
    by: str,
    budget_ms: float | None,
    limits: Sequence[str],
    weights: Mapping[str, float] | None,
    found: Pick,
) -> PickOutcome:
    best = found.best or point
    quality = point.estimate(front.quality.name)
    latency = point.estimate(front.cost.name) if front.cost.per_device else None
    assert quality.value is not None
    costs = [axis for axis in front.axes if not (axis.is_quality or axis.per_device)]
    return PickOutcome(
        run=run.path,
        search=front.search,
        device=front.device,
        by=by,
        budget_ms=budget_ms,
        limits=tuple(limits),
        weights=weights,
        digest=point.digest,
        latency_ms=None if latency is None else latency.value,
        latency_predicted_ms=None if latency is None else latency.predicted,
        latency_source="" if latency is None else latency.source,
        objective=front.quality.name,
        value=quality.value,
        predicted=quality.predicted,
        test=quality.test,
        best=best.digest,
        best_value=best.best(front.quality.name),
        best_by=found.best_by or front.quality.name,
        ties=tuple(p.digest for p in found.ties),
        costs={axis.name: to_json_number(point.best(axis.name)) for axis in costs},
        units={axis.name: axis.unit for axis in costs},
        architecture=point.choices,
        trust=list_own_modules(run.record),
        test_balanced=quality.test_balanced,
        largest_class=front.largest_class,
        posterior=quality.posterior,
        posterior_interval=quality.posterior_interval,
        alone=quality.alone,
        alone_interval=quality.alone_interval,
    )


def find_front(run: Run, search: str) -> Front:
    """What a search of a run found.

    Raises:
        InputError: There is no such finished search, or its file is damaged.
    """
    known = run.searches
    if search not in known:
        have = f"finished searches are {', '.join(known)}" if known else "none has finished yet"
        raise InputError(
            f"there is no front of a search {search!r} in {run.path}{nearest(search, known)}; "
            f"{have}; run: {write_command('search', '--run', run.path, trust=run.trusted)}"
        )
    return read_front(run.search(search))

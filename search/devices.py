"""Objectives over several devices at once: the worst of them, or their mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.arrays.additive import total
from search.problem import EXPENSIVE_SOURCES, Objective
from supernet.errors import InputError


def worst_of(
    name: str, unit: str, objectives: Sequence[Objective], scales: Sequence[float]
) -> Objective:
    """The largest of several quantities, each relative to its scale.

    Minimised, it gives networks that are fast enough everywhere rather than fastest somewhere
    (min-max robust optimisation over a finite set of scenarios).

    Args:
        name: Name of the new objective, such as ``worst_latency``.
        unit: Unit of the new objective, such as ``of the largest``.
        objectives: One per device, all to be minimised.
        scales: What each is divided by, such as the latency of the largest network there.

    Raises:
        InputError: No objectives, other numbers of scales, a scale that is not above 0, or an
            objective to be maximised.
    """
    parts, factors = _parts(name, objectives, scales)

    def evaluate(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        columns = [
            part.evaluate(rows) * factor for part, factor in zip(parts, factors, strict=True)
        ]
        # np.max keeps NaN: a failure on one device is a failure of the network.
        return np.max(np.stack(columns), axis=0)

    return Objective(name, unit, "minimize", evaluate, _source(parts))


def mean_of(
    name: str, unit: str, objectives: Sequence[Objective], scales: Sequence[float]
) -> Objective:
    """The mean of several quantities, each relative to its scale; additive where all of them are.

    Args:
        name: Name of the new objective, such as ``mean_latency``.
        unit: Unit of the new objective.
        objectives: One per device, all to be minimised.
        scales: What each is divided by.

    Raises:
        InputError: As for :func:`worst_of`.
    """
    parts, factors = _parts(name, objectives, scales)
    factors = [factor / len(parts) for factor in factors]

    def evaluate(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        columns = [
            part.evaluate(rows) * factor for part, factor in zip(parts, factors, strict=True)
        ]
        return np.sum(np.stack(columns), axis=0)

    terms = [part.additive for part in parts]
    known = [term for term in terms if term is not None]
    additive = None
    if len(known) == len(parts):
        additive = total([t.scaled(f) for t, f in zip(known, factors, strict=True)])
    return Objective(name, unit, "minimize", evaluate, _source(parts), additive=additive)


def _parts(
    name: str, objectives: Sequence[Objective], scales: Sequence[float]
) -> tuple[list[Objective], list[float]]:
    if not objectives:
        raise InputError(f"objective {name!r} needs at least one quantity to be made of")
    if len(scales) != len(objectives):
        raise InputError(
            f"objective {name!r} is made of {len(objectives)} quantities and has {len(scales)} "
            "scales; every quantity needs one"
        )
    for objective, scale in zip(objectives, scales, strict=True):
        if not (np.isfinite(scale) and scale > 0):
            raise InputError(
                f"objective {name!r}: the scale {scale} of {objective.name} must be above 0"
            )
        if objective.direction != "minimize":
            raise InputError(
                f"objective {name!r} cannot hold {objective.name}, which is maximised; use costs"
            )
    return list(objectives), [1.0 / scale for scale in scales]


def _source(parts: Sequence[Objective]) -> str:
    """The costliest source of any part decides how the whole is obtained."""
    expensive = [part.source for part in parts if part.source in EXPENSIVE_SOURCES]
    return expensive[0] if expensive else parts[0].source

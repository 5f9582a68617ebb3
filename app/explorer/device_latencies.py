"""Latencies of architectures on every device of a run, whichever search knows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import streamlit as st

from app.analysis.devices import Agreement, KnownLatencies, correlate_devices, join_latencies
from app.explorer.derived import digest_front
from app.records.quantities import Quantity
from app.records.searches.front import Estimate, Front, Point
from app.reporting.charts.device_charts import OnDevice
from app.runs.run_view import RunView

_MOST_KEPT = 16


def list_latencies(front: Front) -> Iterator[tuple[str, Quantity]]:
    """The devices whose latencies a front knows, and what each is called there."""
    for axis in front.axes:
        if axis.per_device:
            yield axis.device or front.device, axis


def name_searches(run: RunView) -> str:
    """Names the content of all searches of a run, for what is kept of them."""
    found = (f"{name} {digest_front(front)}" for name, front in run.fronts.items())
    return f"{run.path} {' '.join(found)}"


def agree_devices(searches: str, run: RunView) -> tuple[tuple[str, ...], tuple[Agreement, ...]]:
    """How the devices of a run rank the architectures that were evaluated, by their tables.

    Args:
        searches: Names the content of all searches of the run.
        run: The run.

    Returns:
        The devices, and every pair of them.
    """
    return _agree_devices(searches, run)


@st.cache_resource(max_entries=_MOST_KEPT, show_spinner=False)
def _agree_devices(content: str, _run: RunView) -> tuple[tuple[str, ...], tuple[Agreement, ...]]:
    found = []
    for front in _run.fronts.values():
        latencies = {}
        for device, axis in list_latencies(front):
            column = front.column(axis.name)
            known = np.where(np.isnan(column.predicted), column.best, column.predicted)
            latencies[device] = known
        found.append(KnownLatencies(front.digests, latencies))
    joined = join_latencies(found)
    return joined.devices, correlate_devices(joined)


def list_on_devices(run: RunView, point: Point) -> tuple[OnDevice, ...]:
    """The latency of one architecture on every device that a search of the run knows it on."""
    found: dict[str, list[Estimate]] = {}
    for front in run.fronts.values():
        places = front.find_places(point.digest)
        if not places:
            continue
        for device, axis in list_latencies(front):
            found.setdefault(device, []).append(front.points[places[0]].estimate(axis.name))
    return tuple(
        shown for device, known in found.items() if (shown := _summarise(device, known)) is not None
    )


def _summarise(device: str, known: Sequence[Estimate]) -> OnDevice | None:
    """What is known of one device: a measurement of any search, and a prediction of any."""
    real = next((e for e in known if e.source == "measured" and e.value is not None), None)
    guesses = [e.predicted if e.predicted is not None else e.value for e in known]
    predicted = next((value for value in guesses if value is not None), None)
    if real is None:
        return None if predicted is None else OnDevice(device, predicted, None)
    return OnDevice(device, real.predicted, real.value, real.low, real.high)


def share_latency(point: Point) -> dict[str, float]:
    """Share of each unit in the latency of an architecture; empty where it is not known."""
    total = sum(latency for _, latency in point.breakdown)
    if total <= 0:
        return {}
    shares: dict[str, float] = {}
    for unit, latency in point.breakdown:
        shares[unit] = shares.get(unit, 0.0) + latency / total
    return shares


def average_shares(points: Sequence[Point]) -> dict[str, float]:
    """The mean share of each unit over architectures; a unit that one lacks takes nothing there."""
    known = [shares for shares in map(share_latency, points) if shares]
    units = dict.fromkeys(unit for shares in known for unit in shares)
    return {unit: sum(shares.get(unit, 0.0) for shares in known) / len(known) for unit in units}

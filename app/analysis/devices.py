"""How devices compare: the same networks on each of them, and a table then and now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Fewer networks than this have no rank correlation worth showing.
LEAST_PAIRS = 4
# Half a 95 % interval of a normal distribution, in standard deviations.
_WIDE = 1.96


@dataclass(frozen=True, eq=False)
class KnownLatencies:
    """What one search knows.

    Args:
        digests: Of ``n`` architectures, no two the same.
        latency_ms: Their latencies in milliseconds by device, ``(n,)`` each; NaN for an unknown.
    """

    digests: NDArray[np.str_]
    latency_ms: Mapping[str, Floats]


@dataclass(frozen=True)
class Joined:
    """Latencies of the same architectures on several devices.

    Args:
        devices: In the order of the columns.
        digests: Of the architectures, in the order of the rows.
        latency_ms: ``(architectures, devices)`` in milliseconds; NaN for an unknown one.
    """

    devices: tuple[str, ...]
    digests: tuple[str, ...]
    latency_ms: Floats


@dataclass(frozen=True)
class Agreement:
    """How two devices rank the same architectures.

    Args:
        first: A device.
        second: Another one.
        spearman: Rank correlation of their latencies; ``None`` where it is undefined.
        low: Lower end of its 95 % interval (Fisher's transformation); ``None`` likewise.
        high: Upper end.
        networks: Architectures whose latency is known on both.
    """

    first: str
    second: str
    spearman: float | None
    low: float | None
    high: float | None
    networks: int


@dataclass(frozen=True)
class Drift:
    """The same networks measured at two times.

    Args:
        ratio: Median of later over earlier latency.
        low: The least of the ratios.
        high: The largest of them.
        networks: How many were measured both times.
    """

    ratio: float
    low: float
    high: float
    networks: int


def join_latencies(searches: Sequence[KnownLatencies]) -> Joined:
    """Bring latencies from several searches together, architecture by architecture.

    Args:
        searches: Of an architecture that a device has in several, the first known latency counts.
    """
    devices = tuple(dict.fromkeys(d for search in searches for d in search.latency_ms))
    names = [search.digests for search in searches]
    digests, places = np.unique(np.concatenate(names) if names else [], return_inverse=True)
    table = np.full((len(digests), len(devices)), np.nan)
    first = 0
    for search in searches:
        mine = places[first : first + len(search.digests)]
        first += len(search.digests)
        for device, latencies in search.latency_ms.items():
            column = table[:, devices.index(device)]
            column[mine] = np.where(np.isnan(column[mine]), latencies, column[mine])
    return Joined(devices, tuple(digests.tolist()), table)


def correlate_devices(joined: Joined) -> tuple[Agreement, ...]:
    """The rank correlation of every pair of devices, over the architectures known on both."""
    found = []
    for i, first in enumerate(joined.devices):
        for j in range(i + 1, len(joined.devices)):
            pair = joined.latency_ms[:, [i, j]]
            pair = pair[~np.isnan(pair).any(axis=1)]
            found.append(_agree(first, joined.devices[j], pair))
    return tuple(found)


def _agree(first: str, second: str, pair: Floats) -> Agreement:
    count = len(pair)
    if count < LEAST_PAIRS or not np.ptp(pair, axis=0).all():
        return Agreement(first, second, None, None, None, count)
    ranks = np.stack([rank_with_ties(column) for column in pair.T])
    rho = float(np.clip(np.corrcoef(ranks).ravel()[1], -1.0, 1.0))
    # Ranks spread a little more than values do (Bonett and Wright 2000).
    spread = np.sqrt((1 + rho**2 / 2) / (count - 3))
    centre = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    low, high = (float(np.tanh(centre + sign * _WIDE * spread)) for sign in (-1, 1))
    return Agreement(first, second, rho, min(low, rho), max(high, rho), count)


def rank_with_ties(values: Floats) -> Floats:
    """Ranks ``(n,)`` from 1 on; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean: Floats = (ends - (counts - 1) / 2)[inverse]
    return mean


def measure_drift(earlier: Mapping[str, float], later: Mapping[str, float]) -> Drift | None:
    """Compare the latencies of networks that were measured twice.

    Args:
        earlier: Latency in milliseconds by digest.
        later: The same, measured again.

    Returns:
        ``None`` where no network was measured both times.
    """
    both = [digest for digest in earlier if digest in later and earlier[digest] > 0]
    if not both:
        return None
    ratios = np.array([later[digest] / earlier[digest] for digest in both])
    return Drift(float(np.median(ratios)), float(ratios.min()), float(ratios.max()), len(both))

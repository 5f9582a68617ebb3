"""Devices and latency limits as people write them, read before anything is opened."""

from __future__ import annotations

import math
from collections.abc import Sequence

from app.records.quantities import LATENCY
from search.limits import Amount, Limit, parse_bound
from supernet.errors import InputError


def find_devices(names: Sequence[str]) -> tuple[str, ...]:
    """Find the devices that objectives or limits name, as in ``latency@pixel``, each once."""
    found = (name.partition("@")[2] for name in names if "@" in name)
    return tuple(dict.fromkeys(device for device in found if device))


def parse_latency_limit(budget: float | str) -> Limit:
    """Read the limit that ``--latency-ms`` stands for.

    Raises:
        InputError: It is no latency above 0 and no share of the largest.
    """
    text = f"{budget:g}" if isinstance(budget, float) else str(budget).strip()
    try:
        amount = Amount(float(text))
    except ValueError:
        amount = parse_bound(text, "the latency budget")
    if not (math.isfinite(amount.value) and amount.value > 0):
        raise InputError(f"a latency budget of {text} ms cannot work; it must be above 0")
    return Limit(LATENCY.name, True, amount, f"{LATENCY.short_name}<={text}")

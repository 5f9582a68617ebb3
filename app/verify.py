"""Verification: every point of a front evaluated on unseen data and measured on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.evaluations import EvaluationLog
from app.latency import DeviceTable
from app.trained import Say
from supernet.space import Architecture


@dataclass(frozen=True)
class Verified:
    """What was found about one architecture.

    Args:
        test: Its record on the test split.
        latency: Median and 95 % interval in milliseconds; ``None`` without a device.
    """

    test: Mapping[str, Any]
    latency: Mapping[str, float] | None


def verify(
    architectures: Sequence[Architecture],
    log: EvaluationLog,
    table: DeviceTable | None,
    say: Say,
) -> dict[str, Verified]:
    """Evaluate on the test split, once for each, and measure the real networks, interleaved.

    Args:
        architectures: The front.
        log: Where evaluations are kept.
        table: Whose device measures; ``None`` measures nothing.
        say: Told about progress.

    Returns:
        Findings by digest.

    Raises:
        ValueError: This machine is not the one the table was made on.
    """
    tests = {}
    for number, architecture in enumerate(architectures, start=1):
        tests[architecture.digest] = log.evaluate(architecture, "test")
        if number % 10 == 0 or number == len(architectures):
            say(f"verify: {number}/{len(architectures)} evaluated on the test split")
    latencies: list[Mapping[str, float] | None] = [None] * len(architectures)
    if table is not None:
        say(f"verify: measuring {len(architectures)} networks on {table.device.name}")
        supernet = log.trained.supernet
        found = table.measure([supernet.graph(a) for a in architectures])
        latencies = [{"value": m.latency_ms, "low": m.low_ms, "high": m.high_ms} for m in found]
    return {
        a.digest: Verified(tests[a.digest], latency)
        for a, latency in zip(architectures, latencies, strict=True)
    }

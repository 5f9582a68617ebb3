"""A device on a busy machine: a node takes 3 us, a weight 2 ns and a call 5 us, give or take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from hardware.backend import DeviceSettings, Timer

SUMMARY = "a simulated device on a machine that is busy two thirds of the time"
TITLE = "Imaginary"
VERSION_FIELD = "imaginary"
DEFAULT_PROVIDER = "imagination"

# Tests change these on their own copy of this module.
SLOWDOWN = 1.0
CROOKED = False
STATE = {"calls": 0, "loads": 0}


def explain_absence() -> str | None:
    """It is always there."""
    return None


def list_providers() -> tuple[str, ...]:
    """Its only unit."""
    return (DEFAULT_PROVIDER,)


def choose_clock(device: DeviceSettings) -> str:
    """As a processor's."""
    return "thread-cpu" if device.threads == 1 else "wall"


def describe(device: DeviceSettings) -> dict[str, Any]:
    """Its version."""
    return {VERSION_FIELD: "1"}


def load(model: bytes, feeds: Mapping[str, np.ndarray], device: DeviceSettings) -> Timer:
    """Every session differs by a percent, and every third spell of 400 calls is quiet."""
    graph = onnx.load_from_string(model).graph
    weights = sum(int(np.prod(w.dims)) for w in graph.initializer)
    true = 5000 + 3000 * len(graph.node) + 2 * weights
    rng = np.random.default_rng(weights + STATE["loads"])
    STATE["loads"] += 1
    reference = graph.input[0].name == "input"
    if CROOKED and not reference:
        true = int(true * (0.4 + 1.2 * np.random.default_rng(weights * len(graph.node)).random()))
    session = 1 + 0.01 * rng.standard_normal()

    def timer() -> int:
        STATE["calls"] += 1
        busy = 1.6 if (STATE["calls"] // 400) % 3 else 1.0
        speed = SLOWDOWN if not reference else 1.0
        return int(true * speed * session * busy * (1 + 0.02 * abs(rng.standard_normal())))

    return timer

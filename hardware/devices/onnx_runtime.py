"""ONNX Runtime on this machine, with the session options every latency here is measured under."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from hardware.device import CPU, Device, Timer

SUMMARY = "ONNX Runtime on this machine, any execution provider it was built with"

_CONFIG = {
    # A spinning pool burns the other core's time, and that of neighbours.
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
    # Random weights can reach denormals, which are slower by an order of magnitude.
    "session.set_denormal_as_zero": "1",
}


def load(model: bytes, feeds: Mapping[str, np.ndarray], device: Device) -> Timer:
    """Load a model and return a function that runs it once and returns nanoseconds.

    Raises:
        ValueError: if the provider is not part of this ONNX Runtime, or the model does not load.
    """
    available = ort.get_available_providers()
    if device.provider not in available:
        raise ValueError(f"ONNX Runtime here has no {device.provider}; it has {available}")
    providers: list[Any] = [(device.provider, dict(device.provider_options))]
    try:
        session = ort.InferenceSession(model, options(device), providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class below this
        raise ValueError(f"ONNX Runtime cannot load the model: {error}") from error
    run, inputs = session.run, dict(feeds)
    clock = time.thread_time_ns if device.clock == "thread-cpu" else time.perf_counter_ns

    def timer() -> int:
        started = clock()
        run(None, inputs)
        return clock() - started

    return timer


def options(device: Device) -> ort.SessionOptions:
    """Session options of a device: sequential, all optimisations, no spinning."""
    result = ort.SessionOptions()
    result.intra_op_num_threads = device.threads
    result.inter_op_num_threads = 1
    result.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    result.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    result.log_severity_level = 3
    for key, value in _CONFIG.items():
        result.add_session_config_entry(key, value)
    if device.provider != CPU:
        # A silent fallback would measure the processor under the accelerator's name.
        result.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return result


def describe(device: Device) -> dict[str, Any]:
    """Versions and session options that change latency."""
    return {
        "onnxruntime": ort.__version__,
        "session": {**_CONFIG, "optimization": "ORT_ENABLE_ALL", "execution": "ORT_SEQUENTIAL"},
    }

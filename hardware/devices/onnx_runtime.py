"""ONNX Runtime on this machine, with the session options every latency here is measured under."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from hardware.backend import DeviceSettings, Timer
from supernet.errors import InputError

if TYPE_CHECKING:
    import onnxruntime as ort

SUMMARY = "ONNX Runtime on this machine, any execution provider it was built with"
TITLE = "ONNX Runtime"
VERSION_FIELD = "onnxruntime"
DEFAULT_PROVIDER = "CPUExecutionProvider"

_CONFIG = {
    # A spinning pool burns the other core's time, and that of neighbours.
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
    # Random weights can reach denormals, which are slower by an order of magnitude.
    "session.set_denormal_as_zero": "1",
}


def explain_absence() -> str | None:
    """Say that ONNX Runtime is not installed, if it is not."""
    if find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed; run: pip install onnxruntime"
    return None


def list_providers() -> tuple[str, ...]:
    """List the execution providers that this ONNX Runtime was built with."""
    import onnxruntime as ort

    return tuple(ort.get_available_providers())


def choose_clock(device: DeviceSettings) -> str:
    """Take processor time where one thread of the processor does all the work."""
    alone = device.threads == 1 and device.provider == DEFAULT_PROVIDER
    return "thread-cpu" if alone else "wall"


def load(model: bytes, feeds: Mapping[str, np.ndarray], device: DeviceSettings) -> Timer:
    """Load a model into a session and return a function that runs it once.

    Args:
        model: A serialised ONNX model.
        feeds: Inputs by name.
        device: Provider, its options and threads.

    Returns:
        A function that returns the nanoseconds of one run.

    Raises:
        InputError: ONNX Runtime cannot load the model.
    """
    import onnxruntime as ort

    providers: list[Any] = [(device.provider, dict(device.provider_options))]
    try:
        session = ort.InferenceSession(model, session_options(device), providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class below this
        reason = " ".join(str(error).split())
        raise InputError(f"ONNX Runtime cannot load the model: {reason}") from error
    run, inputs = session.run, dict(feeds)
    thread_time = choose_clock(device) == "thread-cpu"
    clock = time.thread_time_ns if thread_time else time.perf_counter_ns

    def timer() -> int:
        started = clock()
        run(None, inputs)
        return clock() - started

    return timer


def session_options(device: DeviceSettings) -> ort.SessionOptions:
    """Make the session options of a device: sequential, all optimisations, no spinning."""
    import onnxruntime as ort

    result = ort.SessionOptions()
    result.intra_op_num_threads = device.threads
    result.inter_op_num_threads = 1
    result.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    result.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    result.log_severity_level = 3
    for key, value in _CONFIG.items():
        result.add_session_config_entry(key, value)
    if device.provider != DEFAULT_PROVIDER:
        # A silent fallback would measure the processor under the accelerator's name.
        result.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return result


def describe(device: DeviceSettings) -> dict[str, Any]:
    """Collect the version and the session options that change latency."""
    import onnxruntime as ort

    return {
        VERSION_FIELD: ort.__version__,
        "session": {**_CONFIG, "optimization": "ORT_ENABLE_ALL", "execution": "ORT_SEQUENTIAL"},
    }

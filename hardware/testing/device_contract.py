"""Checks of the contract of a device backend, for this project's backends and for your own.

In a test of your package::

    import pytest
    from hardware.testing.device_contract import CHECKS
    from my_package import my_backend

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_backend(check):
        check(my_backend)

Every check takes the backend's module, which has to be importable by its name, and raises
``AssertionError`` with a sentence where the contract of :class:`hardware.backend.Backend` is
broken. They run on the default provider with one thread, need no other tool, and no quiet machine.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from hardware.backend import CLOCKS, Timer, find_backend
from hardware.campaign import measure_networks
from hardware.device import Device
from hardware.profile import Budget, profile
from hardware.table import LatencyTable
from hardware.testing.toy_space import ToySpace, build_dense_graph
from hardware.timing import load_timer
from supernet.errors import InputError
from supernet.graph.onnx_model import draw_random_inputs, to_onnx

# Far more work than the smallest network, on any device.
_SMALL, _LARGE = (16,), (512,) * 24
_BUDGET = Budget(passes=2, visits=2, calibration=6, validation=6, unit_ms=0.5)


def check_parts(backend: ModuleType) -> None:
    """The module has every part, its texts are single lines, and its name leads to it."""
    assert find_backend(backend.__name__) is backend, f"{backend.__name__} leads elsewhere"
    for part in ("SUMMARY", "TITLE", "VERSION_FIELD", "DEFAULT_PROVIDER"):
        text = getattr(backend, part)
        assert isinstance(text, str), f"{part} = {text!r} is no text"
        assert text.strip(), f"{part} is empty"
        assert "\n" not in text, f"{part} has several lines"


def check_presence(backend: ModuleType) -> None:
    """It says that it can be used, and offers the provider that is its default."""
    absence = backend.explain_absence()
    assert absence is None, f"the backend cannot be checked here: {absence}"
    providers = backend.list_providers()
    assert isinstance(providers, tuple), f"list_providers gave {providers!r}, which is no tuple"
    assert backend.DEFAULT_PROVIDER in providers, (
        f"the default provider {backend.DEFAULT_PROVIDER!r} is not among {providers}"
    )
    Device(backend=backend.__name__).check()


def check_unknown_provider(backend: ModuleType) -> None:
    """A provider that there is not is refused by name in one line."""
    device = Device(backend=backend.__name__, provider="no-such-provider")
    message = _refusal(lambda: device.load(b"", {}))
    assert "no-such-provider" in message, f"the refusal does not name the provider: {message}"


def check_fingerprint(backend: ModuleType) -> None:
    """What it describes is JSON, the same at every call, and has the runtime's version."""
    device = Device(backend=backend.__name__)
    described = backend.describe(device)
    version = described.get(backend.VERSION_FIELD)
    assert isinstance(version, str), f"describe has no text under {backend.VERSION_FIELD!r}"
    fingerprint = device.fingerprint()
    restored = json.loads(json.dumps(fingerprint, allow_nan=False))
    assert restored == fingerprint, "the fingerprint is not the same after a way through JSON"
    assert fingerprint == device.fingerprint(), "the fingerprint differs from one call to the next"
    assert device.name_runtime(fingerprint) == f"{backend.TITLE} {version}"
    assert Device.from_json(device.to_json()) == device


def check_clock(backend: ModuleType) -> None:
    """The clock is one that tables know, and processor time is not read for several threads."""
    for threads in (1, 4):
        clock = Device(backend=backend.__name__, threads=threads).clock
        assert clock in CLOCKS, f"choose_clock gave {clock!r}; known are {CLOCKS}"
    assert clock == "wall", "processor time of one thread misses the work of the others"


def check_timer(backend: ModuleType) -> None:
    """A loaded model can be run many times, and every run takes a whole number of nanoseconds."""
    timer = _load(backend, _SMALL)
    for _ in range(20):
        elapsed = timer()
        assert isinstance(elapsed, int), f"a timer gave {elapsed!r}, which is no whole number"
        assert elapsed > 0, f"a run took {elapsed} ns"


def check_several_models(backend: ModuleType) -> None:
    """Models that are loaded at the same time keep their own latencies; more work takes longer."""
    small, large = _load(backend, _SMALL), _load(backend, _LARGE)
    times = np.array([(small(), large()) for _ in range(10)])
    fastest = times.min(axis=0)
    assert fastest[1] > 2 * fastest[0], (
        f"{len(_LARGE)} wide layers took {fastest[1]} ns and one narrow layer {fastest[0]} ns"
    )


def check_inputs(backend: ModuleType) -> None:
    """Running a model leaves its inputs alone."""
    graph = build_dense_graph(_SMALL)
    model, feeds = to_onnx(graph, batch=1).SerializeToString(), draw_random_inputs(graph, 0)
    before = {name: values.copy() for name, values in feeds.items()}
    timer = Device(backend=backend.__name__).load(model, feeds)
    for _ in range(3):
        timer()
    for name, values in feeds.items():
        assert np.array_equal(values, before[name]), f"input {name!r} was changed"


def check_damaged_model(backend: ModuleType) -> None:
    """What is no model is refused in one line."""
    device = Device(backend=backend.__name__)
    message = _refusal(lambda: device.load(b"this is no model", {}))
    assert message, "the refusal says nothing"


def check_ranking(backend: ModuleType) -> None:
    """A campaign of whole networks puts a small one before a large one."""
    device = Device(backend=backend.__name__)
    graphs = [build_dense_graph(_LARGE), build_dense_graph(_SMALL)]
    large, small = measure_networks(graphs, device, rounds=2, visits=2)
    assert small.latency_ms < large.latency_ms, f"{small.latency_ms} ms >= {large.latency_ms} ms"
    for found in (large, small):
        assert 0 <= found.low_ms <= found.latency_ms <= found.high_ms
        assert found.clock == device.clock


def check_table(backend: ModuleType) -> None:
    """Profiling a space gives a table that is judged on unseen networks, kept and found again."""
    device, toy = Device(backend=backend.__name__), ToySpace()
    cost_model = toy.cost_model()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = profile(cost_model, toy.graph, device, folder=folder, budget=_BUDGET)
        assert LatencyTable.load(folder) == table, "a saved table is not loaded as it was"
    _check_report(table.report)
    table.check_device(device)
    compiled = table.compile(cost_model, device)
    smallest, largest = cost_model.space.smallest, cost_model.space.largest
    low, high = compiled.predict(cost_model.space.encode([smallest, largest]))
    assert 0 < low < high, f"the smallest network takes {low} ms and the largest {high} ms"


CHECKS: tuple[Callable[[ModuleType], None], ...] = (
    check_parts,
    check_presence,
    check_unknown_provider,
    check_fingerprint,
    check_clock,
    check_timer,
    check_several_models,
    check_inputs,
    check_damaged_model,
    check_ranking,
    check_table,
)


def check_device(backend: ModuleType) -> None:
    """Run every check on a backend.

    Args:
        backend: Its module.

    Raises:
        AssertionError: The first part of the contract that is broken.
    """
    for check in CHECKS:
        check(backend)


def _load(backend: ModuleType, widths: tuple[int, ...]) -> Timer:
    return load_timer(build_dense_graph(widths), Device(backend=backend.__name__))


def _refusal(attempt: Callable[[], object]) -> str:
    """The message of the ``InputError`` that an attempt has to raise; it is one line."""
    try:
        attempt()
    except InputError as error:
        message = str(error)
        assert "\n" not in message, f"the refusal has several lines: {message!r}"
        return message
    raise AssertionError("nothing was refused")


def _check_report(report: Mapping[str, object]) -> None:
    assert report["networks"] == _BUDGET.validation
    assert isinstance(report["trustworthy"], bool)
    for field in ("mape", "floor_mape", "kendall_tau"):
        value = report[field]
        assert isinstance(value, float), f"{field} is {value!r}, which is no number"
        assert np.isfinite(value), f"{field} is {value}"

"""Every backend in ``hardware/devices``, and one of a user's own, keeps the device contract."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hardware.backend import FOLDER, find_backend, list_backends
from hardware.device import Device
from hardware.profile import Budget, check_anchors, profile
from hardware.testing.device_contract import CHECKS, check_device
from hardware.testing.toy_space import ToySpace, build_dense_graph
from supernet.graph.language import Graph

pytest.importorskip("onnx")
pytest.importorskip("pyarrow")
LABORATORY = Path(__file__).resolve().parents[1] / "hardware"
SIMULATED = "laboratory.simulated"
NAMES = [*(f"{FOLDER}.{name}" for name in list_backends()), SIMULATED]
BUDGET = Budget(passes=2, visits=2, calibration=12, validation=20, unit_ms=0.5)


@pytest.fixture(autouse=True)
def _user_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(LABORATORY))


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> ModuleType:
    module = importlib.import_module(request.param)
    if module.explain_absence() is not None:
        pytest.skip(module.explain_absence())
    return module


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check, backend: ModuleType) -> None:
    check(backend)


def test_every_file_in_the_folder_is_checked() -> None:
    assert "hardware.devices.onnx_runtime" in NAMES
    assert len(NAMES) == 1 + len(list_backends())


def true_ms(graph: Graph) -> float:
    """What the simulated device takes, from the graph language's own count of MACs."""
    return (4000 + 500 * len(graph.nodes) + graph.macs) / 1e6


def test_a_table_of_a_simulated_device_is_exact_without_onnx_runtime(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # importing it raises ImportError now
    device, toy = Device("phone", backend=SIMULATED), ToySpace()
    cost_model = toy.cost_model()
    table = profile(cost_model, toy.graph, device, folder=tmp_path, budget=BUDGET)
    rows = cost_model.space.sample(np.random.default_rng(7), 100)
    predicted = table.compile(cost_model, device).predict(rows)
    true = [true_ms(toy.graph(a)) for a in cost_model.space.decode(rows)]
    assert predicted == pytest.approx(true, rel=1e-3)
    for point in table.report["points"]:
        assert point["low_ms"] == pytest.approx(point["measured_ms"])
    assert table.report["mape"] < 1e-3
    assert table.report["floor_mape"] == 0
    assert table.report["kendall_tau"] > 0.99
    assert table.report["verdict"].startswith("Trustworthy: on 20 unseen networks")
    assert table.fingerprint["cpu"] == "none"
    assert device.name_runtime(table.fingerprint) == "Simulator 1.0"
    assert check_anchors(table, cost_model, toy.graph, device).ratio == 1
    constants = {**table.fingerprint, "constants": [4000, 500, 2]}
    older = replace(table, fingerprint=constants)
    with pytest.raises(ValueError, match=r"constants: \[4000, 500, 2\] -> \[4000, 500, 1\]"):
        older.check_device(device)


def test_a_broken_backend_does_not_pass(monkeypatch) -> None:
    module = importlib.import_module(SIMULATED)
    breaks = {
        "TITLE": "two\nlines",
        "list_providers": lambda: ("adder",),
        "describe": lambda device: {"simulator": 1},
        "choose_clock": lambda device: "thread-cpu",
        "load": lambda model, feeds, device: lambda: 7,
    }
    for part, broken in breaks.items():
        with monkeypatch.context() as patch:
            patch.setattr(module, part, broken)
            with pytest.raises((AssertionError, ValueError)):
                check_device(module)
    check_device(module)


def test_a_module_without_the_parts_is_no_backend() -> None:
    with pytest.raises(ValueError, match=r"module 'json\.decoder' is no device backend: it lacks"):
        find_backend("json.decoder")
    with pytest.raises(ValueError, match=r"there is no device backend 'laboratory\.absent'; there"):
        find_backend("laboratory.absent")
    with pytest.raises(ValueError, match=r"'onnx_runtme'.*did you mean 'onnx_runtime'"):
        Device(backend="onnx_runtme")


def test_a_backend_of_the_working_directory_is_found_by_its_dotted_path(tmp_path) -> None:
    code = "from hardware.device import Device; print(Device(backend='mine.phone').provider)"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    source = (LABORATORY / "laboratory" / "simulated.py").read_text()
    (tmp_path / "mine" / "phone.py").write_text(source)
    root = str(LABORATORY.parents[1])
    script = f"import sys; sys.path[0] = {root!r}; {code}"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.stdout.strip() == "multiplier", found.stderr


def test_the_simulated_device_counts_as_the_graph_language_does() -> None:
    graph = build_dense_graph((16, 128))
    timer = Device(backend=SIMULATED).load(*_written(graph))
    assert timer() / 1e6 == pytest.approx(true_ms(graph))


def _written(graph: Graph) -> tuple[bytes, dict[str, np.ndarray]]:
    from supernet.graph.onnx_model import draw_random_inputs, to_onnx

    return to_onnx(graph, batch=1).SerializeToString(), draw_random_inputs(graph, 0)

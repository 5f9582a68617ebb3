"""Tables survive damage on disk and refuse to be used for something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hardware.device import Device, list_differences
from hardware.profile import Budget, profile
from hardware.table import LatencyTable
from supernet.costs.cost_model import CostModel, CostUnit, UnitVariants
from supernet.space import Choice, SearchSpace

pytest.importorskip("onnx")
pytest.importorskip("pyarrow")
SMALL = Budget(passes=2, visits=2, calibration=6, validation=6, unit_ms=0.5)


@pytest.fixture
def table(toy, imaginary, tmp_path) -> LatencyTable:
    device = imaginary()
    return profile(toy.cost_model(), toy.graph, device, folder=tmp_path / "cpu", budget=SMALL)


def test_saved_table_is_loaded_as_it_was(toy, table, tmp_path, positions) -> None:
    loaded = LatencyTable.load(tmp_path / "cpu")
    assert loaded == table
    assert loaded.note == ""
    cost_model = toy.cost_model()
    same = loaded.compile(cost_model).predict(positions) == table.compile(cost_model).predict(
        positions
    )
    assert same.all()
    names = {p.name for p in (tmp_path / "cpu").iterdir()}
    assert {"device.json", "table.parquet", "calibration.json", "report.json"} <= names


@pytest.mark.parametrize("name", ["table.parquet", "calibration.json", "device.json"])
def test_cut_table_is_refused_and_the_previous_one_is_used(table, tmp_path, name) -> None:
    folder = tmp_path / "cpu"
    second = replace(table, created="later")
    second.save(folder)
    path = folder / name
    path.write_bytes(path.read_bytes()[:-20])
    loaded = LatencyTable.load(folder)
    assert loaded == table
    expected = f"{name} is damaged or cut short; the previous table is used instead"
    assert loaded.note.endswith(expected)
    (folder / "previous" / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is damaged or cut short; profile the device"):
        LatencyTable.load(folder)


def test_damaged_table_never_replaces_the_good_previous_one(table, tmp_path) -> None:
    folder = tmp_path / "cpu"
    replace(table, created="second").save(folder)
    (folder / "report.json").write_text("{")
    replace(table, created="third").save(folder)
    assert LatencyTable.load(folder).created == "third"
    (folder / "report.json").write_text("{")
    assert LatencyTable.load(folder).created == table.created


def test_empty_folder_has_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no complete latency table in"):
        LatencyTable.load(tmp_path)


def test_table_of_another_space_is_refused(toy, table) -> None:
    other = SearchSpace((Choice("depth", (1, 2), "depth"),))
    with pytest.raises(ValueError, match=r"is of space .* and this is space .*; profile"):
        table.compile(CostModel(other, ()))


def test_table_without_a_unit_or_of_another_precision_is_refused(toy, table) -> None:
    cost_model = toy.cost_model((16, 32, 64, 100))
    with pytest.raises(ValueError, match="lacks 1 of 4 units"):
        table.compile(cost_model)
    units = tuple(
        UnitVariants(
            u.name,
            u.choices,
            tuple(v and CostUnit(v.graph, "int8") for v in u.variants),
            u.size_bytes,
        )
        for u in toy.cost_model().units
    )
    with pytest.raises(ValueError, match=r"holds fp32 and .* needs int8; profile the device for"):
        table.compile(CostModel(toy.space, units))


def test_other_conditions_are_named(toy, table) -> None:
    with pytest.raises(ValueError, match=r"other conditions \(.*threads: 1 -> 2"):
        table.compile(toy.cost_model(), replace(table.device, threads=2))
    newer = replace(table, fingerprint={**table.fingerprint, "onnxruntime": "1.0"})
    with pytest.raises(ValueError, match=r"onnxruntime: '1\.0' -> None"):
        newer.check_device(table.device)
    table.check_device(table.device)


def test_predictions_equal_the_plain_sum_of_rows(toy, table, positions) -> None:
    cost_model = toy.cost_model()
    compiled = table.compile(cost_model)
    for row, value in zip(positions, compiled.predict(positions), strict=True):
        parts = compiled.break_down(toy.space.decode(row[None])[0])
        assert value == pytest.approx(sum(p["latency_ms"] for p in parts))
    assert np.ptp(compiled.predict(positions)) > 0


def test_device_is_described_and_restored() -> None:
    device = Device("fast", threads=3, provider_options=(("a", "b"),))
    assert Device.from_json(device.to_json()) == device
    assert device.clock == "wall"
    assert Device().clock == "thread-cpu"
    fingerprint = Device().fingerprint()
    assert {"cpu", "flags", "onnxruntime", "system", "threads", "session"} <= set(fingerprint)
    assert fingerprint == Device().fingerprint()
    assert list_differences(fingerprint, {**fingerprint, "threads": 9}) == ["threads: 1 -> 9"]


def test_unusable_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="threads = 0 is not a thread count"):
        Device(threads=0)
    with pytest.raises(ValueError, match=r"device name .* must be letters"):
        Device(name="../x")
    with pytest.raises(ValueError, match=r"no device backend 'abacus'; there are \['onnx_runtime'"):
        Device(backend="abacus").fingerprint()
    with pytest.raises(ValueError, match=r"ONNX Runtime here has no NoSuchProvider.*; it has"):
        Device(provider="NoSuchProvider").load(b"", {})

"""Processors that a process may use are counted, recorded and compared, and a lack is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.records.device import DeviceRecord
from app.runs.latency_table import method
from hardware import device as devices
from hardware import processors
from hardware.device import ALLOWED, Device, digest_fingerprint, list_differences
from hardware.processors import count_allowed_processors, read_quota
from hardware.profile import Budget, profile
from supernet.errors import InputError


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"cpu.max": "400000 100000\n", "a/b/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/../x\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "broken\n"}, None),
        ("0::/\n", {}, None),
        (
            "4:cpu,cpuacct:/c\n",
            {"cpu,cpuacct/c/cpu.cfs_quota_us": "300000", "cpu,cpuacct/c/cpu.cfs_period_us": "1e5"},
            None,
        ),
        (
            "4:cpu,cpuacct:/c\n",
            {
                "cpu,cpuacct/c/cpu.cfs_quota_us": "300000\n",
                "cpu,cpuacct/c/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("7:memory:/a\n", {"a/cpu.max": "100000 100000"}, None),
    ],
)
def test_quotas_of_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], expected: float | None
) -> None:
    own, root = tmp_path / "own", tmp_path / "root"
    own.write_text(groups)
    for name, text in files.items():
        _write(root / name, text)
    assert read_quota(own, root) == expected


def test_the_smallest_of_all_bounds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    for quota, expected in ((None, 6), (2.5, 2), (64.0, 6), (0.5, 1)):
        monkeypatch.setattr(processors, "read_quota", lambda quota=quota: quota)
        assert count_allowed_processors() == expected
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(processors, "read_quota", lambda: None)
    assert count_allowed_processors() == 8


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``allow(2)`` lets this process use two processors."""

    def set_count(count: int) -> None:
        monkeypatch.setattr(devices, "count_allowed_processors", lambda: count)

    return set_count


def test_a_lack_is_said_in_one_sentence(allow: Callable[[int], None]) -> None:
    allow(1)
    sentence = Device(threads=64).explain_shortage()
    assert sentence is not None
    assert sentence.startswith("64 threads have 1 processor here that this process may use")
    assert sentence.endswith("use --threads 1, or allow more processors")
    assert Device(threads=1).explain_shortage() is None
    allow(2)
    assert "64 threads have 2 processors here" in str(Device(threads=64).explain_shortage())
    assert Device(threads=2).explain_shortage() is None


def test_the_fingerprint_notices_only_what_matters(allow: Callable[[int], None]) -> None:
    allow(1)
    crowded, single = Device(threads=4).fingerprint(), Device().fingerprint()
    assert crowded[ALLOWED] == 1
    allow(8)
    wide, alone = Device(threads=4).fingerprint(), Device().fingerprint()
    assert list_differences(crowded, wide) == ["threads at once: 1 -> 4"]
    assert digest_fingerprint(crowded) != digest_fingerprint(wide)
    assert list_differences(single, alone) == [], "one thread runs on one processor"
    # What was profiled, or half profiled, before processors were counted goes on.
    old = {name: value for name, value in wide.items() if name != ALLOWED}
    assert list_differences(old, wide) == list_differences(old, crowded) == []
    assert digest_fingerprint(old) == digest_fingerprint(wide)


def test_a_table_of_other_processors_is_refused(
    allow: Callable[[int], None], toy, imaginary, tmp_path: Path
) -> None:
    budget = Budget(passes=2, visits=2, calibration=6, validation=6, unit_ms=0.5)
    table = profile(
        toy.cost_model(), toy.graph, imaginary(), folder=tmp_path / "cpu", budget=budget
    )
    device = Device(threads=2)
    allow(1)
    known = replace(table, device=device, fingerprint=device.fingerprint())
    known.check_device(device)
    allow(2)
    with pytest.raises(InputError, match=r"other conditions \(threads at once: 1 -> 2\); profile"):
        known.check_device(device)


def test_what_is_shown_of_a_device_has_them(allow: Callable[[int], None]) -> None:
    about = {"provider": "CPUExecutionProvider", "threads": 64, "precision": "fp32"}
    old = DeviceRecord.model_validate({**about, "fingerprint": {"cpu": "x"}})
    assert old.description == "x, CPU, 64 threads, fp32"
    new = DeviceRecord.model_validate(
        {**about, "fingerprint": {"cpu": "x", "allowed_processors": 1}}
    )
    assert new.description == "x, CPU, 64 threads taking turns on 1 processor, fp32"
    allow(1)
    device = Device(threads=2)
    assert "2 threads taking turns on 1 processor)" in method(device, device.fingerprint())
    allow(2)
    assert ", 2 threads)" in method(device, device.fingerprint())

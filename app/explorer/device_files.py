"""What the folder of a device holds besides what a run's view has of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app.analysis.devices import Drift, measure_drift
from app.records.device import DeviceRecord, TableReport
from app.records.typed_json.record_files import read_record
from supernet.errors import InputError

# Where profiling keeps the table that it replaces.
_PREVIOUS = "previous"
_REMEDY = "profile the device again"
_MOST_OPEN = 64


@dataclass(frozen=True)
class DeviceHistory:
    """When the table of a device was made, and how the device moved since the one before.

    Args:
        created: When the table was made, ISO 8601; empty where it is not known.
        created_before: The same of the table before it.
        drift: Networks that were measured for both tables; ``None`` without any.
    """

    created: str = ""
    created_before: str = ""
    drift: Drift | None = None


def open_history(folder: Path) -> DeviceHistory:
    """Read the history of a device, or take it as it was read while its files are the same.

    Args:
        folder: Folder of the device. What cannot be read of it is not known.
    """
    return _open_history(folder, _observe(folder))


@st.cache_resource(max_entries=_MOST_OPEN, show_spinner=False)
def _open_history(folder: Path, state: tuple[tuple[int, int], ...]) -> DeviceHistory:
    before = folder / _PREVIOUS
    drift = None
    earlier, later = _read(before / "report.json"), _read(folder / "report.json")
    if earlier is not None and later is not None:
        drift = measure_drift(
            {point.digest: point.measured_ms for point in earlier.points},
            {point.digest: point.measured_ms for point in later.points},
        )
    return DeviceHistory(_read_created(folder), _read_created(before), drift)


def _read(path: Path) -> TableReport | None:
    try:
        return read_record(path, TableReport, _REMEDY)
    except (OSError, InputError):
        # What is damaged is named above every screen; what is missing was never there.
        return None


def _read_created(folder: Path) -> str:
    try:
        return read_record(folder / "device.json", DeviceRecord, _REMEDY).created
    except (OSError, InputError):  # as above
        return ""


def _observe(folder: Path) -> tuple[tuple[int, int], ...]:
    state = []
    for name in ("device.json", "report.json"):
        for path in (folder / name, folder / _PREVIOUS / name):
            try:
                facts = os.stat(path)
            except OSError:
                facts = None
            state.append((0, 0) if facts is None else (facts.st_mtime_ns, facts.st_size))
    return tuple(state)

"""Latency tables: unit latencies, the calibration to networks, and the proof that it holds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hardware.compiled_table import CompiledTable
from hardware.device import Device, list_differences
from hardware.network_calibration import Calibration, collect_unit_features
from hardware.timing import Quiet
from supernet.checksums import read_json, write_json
from supernet.costs.cost_model import CostModel, CostUnit
from supernet.errors import InputError
from supernet.files import new_folder, write_bytes

VERSION = 1
FILES = ("device.json", "table.parquet", "calibration.json")
PREVIOUS = "previous"
SEPARATOR = ","

# What is shown of a report.
_REPORTED: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("mape", "within_5", "within_10", "kendall_tau", "floor_mape"), (int, float)),
    "seconds": (int, float),
    "networks": int,
    "trustworthy": bool,
    "verdict": str,
}
_TOO_LARGE = 1e12
# What files raise that hold something else than a table, though their digests are right.
_UNUSABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

_COLUMNS = (
    "latency_ms",
    "median_ms",
    "low_ms",
    "high_ms",
    "spread",
    "repeats",
    "visits",
    "macs",
    "parameters",
)


@dataclass(frozen=True)
class LatencyTable:
    """Latency of every unit of a space on one device, calibrated and validated on networks.

    Args:
        device: What was measured.
        fingerprint: What the device's fingerprint was at that time.
        space: Digest of the space whose networks were measured.
        precisions: Formats that the units compute in, by name and sorted.
        rows: Unit digest to measured values (``latency_ms``, ``low_ms``, ``high_ms``, ...).
        calibration: From sums of units to networks.
        report: Validation on networks that were not used for the calibration.
        anchors: Networks to measure again later: ``{"choices", "latency_ms", ...}``.
        quiet: How samples from a busy machine were corrected.
        created: When, ISO 8601.
        note: What went wrong while loading, empty if nothing.
    """

    device: Device
    fingerprint: Mapping[str, Any]
    space: str
    precisions: tuple[str, ...]
    rows: Mapping[str, Mapping[str, float]]
    calibration: Calibration
    report: Mapping[str, Any]
    anchors: tuple[Mapping[str, Any], ...]
    quiet: Quiet
    created: str
    note: str = field(default="", compare=False)

    def compile(self, cost_model: CostModel, device: Device | None = None) -> CompiledTable:
        """Make arrays that predict populations of the cost model's space.

        A table of several precisions serves the space that needs fewer of them, too: its networks
        are some of those the table was made for, of the same units.

        Args:
            cost_model: The units of the same space, or of its part with fewer precisions.
            device: Where given, the table has to be of this device on this machine.

        Raises:
            InputError: The table is of another space, device or runtime version, or lacks a
                precision or a unit; the message names what differs.
        """
        self._check_units(cost_model)
        if device is not None:
            self.check_device(device)
        isolated = np.array([self.rows[u.digest]["latency_ms"] for u in cost_model.distinct])
        unit_ms = self.calibration.unit_ms(collect_unit_features(cost_model, isolated))
        return CompiledTable.build(cost_model, unit_ms, self.calibration.fixed_ms)

    def _check_units(self, cost_model: CostModel) -> None:
        needed = list_precisions(cost_model.distinct)
        if not set(needed) <= set(self.precisions):
            raise InputError(
                f"the latency table holds {join_precisions(self.precisions)} and the space needs "
                f"{join_precisions(needed)}; profile the device for all of these"
            )
        missing = [u.digest for u in cost_model.distinct if u.digest not in self.rows]
        of_part = 0 < len(needed) < len(self.precisions) and not missing
        if cost_model.space.digest != self.space and not of_part:
            raise InputError(
                f"the latency table is of space {self.space} and this is space "
                f"{cost_model.space.digest}; profile the device for this space"
            )
        if missing:
            raise InputError(
                f"the latency table lacks {len(missing)} of {len(cost_model.distinct)} units "
                f"(first: {missing[0]}); profile the device again"
            )

    def check_device(self, device: Device) -> None:
        """Refuse a table that was measured under other conditions.

        Raises:
            InputError: Naming what differs between the table's machine and this one.
        """
        different = list_differences(self.fingerprint, device.fingerprint())
        if different:
            raise InputError(
                f"the latency table of device {self.device.name!r} was measured under other "
                f"conditions ({'; '.join(different)}); profile this device"
            )

    def save(self, folder: Path) -> None:
        """Write device.json, table.parquet, calibration.json and report.json.

        Every file is replaced atomically, report.json with the digests of the others last. A
        complete older table in the folder is kept in ``previous/`` first.
        """
        folder = Path(folder)
        if (folder / "report.json").exists() and _find_problem(folder) is None:
            contents = {n: (folder / n).read_bytes() for n in (*FILES, "report.json")}
            with new_folder(folder / PREVIOUS) as keep:
                for name, data in contents.items():
                    (keep / name).write_bytes(data)
        contents = {"table.parquet": self._parquet()}
        write_bytes(folder / "table.parquet", contents["table.parquet"])
        write_json(
            folder / "device.json",
            {
                "version": VERSION,
                **self.device.to_json(),
                "fingerprint": dict(self.fingerprint),
                "space": self.space,
                "precision": join_precisions(self.precisions),
                "quiet": asdict(self.quiet),
                "created": self.created,
                "anchors": [dict(a) for a in self.anchors],
            },
        )
        write_json(folder / "calibration.json", self.calibration.to_json())
        digests = {name: _digest(folder / name) for name in FILES}
        write_json(folder / "report.json", {"version": VERSION, **self.report, "files": digests})

    @classmethod
    def load(cls, folder: Path) -> LatencyTable:
        """Read a table; a damaged one is replaced by the previous one, which ``note`` says.

        Raises:
            InputError: Neither is intact; the message names what is wrong.
        """
        folder = Path(folder)
        problem = _find_problem(folder)
        if problem is None:
            try:
                return cls._read(folder, "")
            except _UNUSABLE as error:
                problem = f"{folder} does not hold a latency table ({error})"
        older = folder / PREVIOUS
        if older.exists() and _find_problem(older) is None:
            try:
                return cls._read(older, f"{problem}; the previous table is used instead")
            except _UNUSABLE as error:
                problem += f"; {older} does not hold one either ({error})"
        raise InputError(f"{problem}; profile the device again")

    @classmethod
    def _read(cls, folder: Path, note: str) -> LatencyTable:
        import pyarrow.parquet as parquet

        about = read_json(folder / "device.json")
        report = read_json(folder / "report.json")
        columns = parquet.read_table(folder / "table.parquet").to_pydict()
        names = [c for c in columns if c != "unit"]
        rows = {
            unit: {name: columns[name][i] for name in names}
            for i, unit in enumerate(columns["unit"])
        }
        return cls(
            device=Device.from_json(about),
            fingerprint=about["fingerprint"],
            space=about["space"],
            precisions=tuple(about["precision"].split(SEPARATOR)),
            rows=rows,
            calibration=Calibration.from_json(read_json(folder / "calibration.json")),
            report={k: v for k, v in report.items() if k not in ("version", "files")},
            anchors=tuple(about["anchors"]),
            quiet=Quiet(**about["quiet"]),
            created=about["created"],
            note=note,
        )

    def _parquet(self) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        columns = {"unit": list(self.rows)} | {
            name: [row[name] for row in self.rows.values()] for name in _COLUMNS
        }
        sink = io.BytesIO()
        parquet.write_table(pa.table(columns), sink)
        return sink.getvalue()


def list_precisions(units: Iterable[CostUnit]) -> tuple[str, ...]:
    """List the formats that units compute in, by name and sorted; borders have none."""
    return tuple(sorted({name for unit in units for name in unit.formats}))


def join_precisions(names: Iterable[str]) -> str:
    """Write formats as the option ``--precision`` takes them: ``"fp32,int8"``."""
    return SEPARATOR.join(names)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _find_problem(folder: Path) -> str | None:
    """Find what is wrong with the files of a table, ``None`` if nothing."""
    if not (folder / "report.json").exists():
        return f"there is no complete latency table in {folder}"
    try:
        report = read_json(folder / "report.json")
    except InputError as error:
        return str(error)
    if not isinstance(report, dict) or not isinstance(report.get("files"), dict):
        return f"{folder / 'report.json'} is not a report; it was damaged or edited"
    if report.get("version") != VERSION:
        return f"{folder} holds a table of version {report.get('version')}, not {VERSION}"
    for name, kind in _REPORTED.items():
        value: Any = report.get(name, 0.0 if name == "seconds" else None)
        fits = isinstance(value, kind) and (isinstance(value, bool) == (kind is bool))
        # NaN, too, is not below it.
        if not fits or (kind is not str and not abs(value) < _TOO_LARGE):
            return f"{folder / 'report.json'} was damaged or edited: its {name} cannot be used"
    for name in FILES:
        if not (folder / name).exists():
            return f"{folder / name} is missing"
        if _digest(folder / name) != report.get("files", {}).get(name):
            return f"{folder / name} is damaged or cut short"
    return None

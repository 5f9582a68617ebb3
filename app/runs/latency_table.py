"""Where jobs meet devices: opening a run's latency table and measuring networks for real."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.records.device import describe_threads
from app.records.export import LatencyRecord
from app.records.searches.front import UnitLatency
from app.runs import plugins
from app.runs.command_lines import profile_command
from app.runs.directory import Run
from hardware.campaign import measure_networks
from hardware.compiled_table import CompiledTable
from hardware.device import ALLOWED, Device
from hardware.table import PREVIOUS, LatencyTable
from hardware.timing import Measurement
from supernet import checksums
from supernet.costs.cost_model import CostModel
from supernet.errors import InputError
from supernet.graph.language import Graph
from supernet.space import Architecture, nearest

Say = Callable[[str], None]


@dataclass(frozen=True)
class DeviceTable:
    """A latency table that fits the space, and the device it was made on.

    Args:
        table: The table as it is stored.
        compiled: The table compiled for the run's space.
        digest: 16 hexadecimal digits of the table's content.
    """

    table: LatencyTable
    compiled: CompiledTable
    digest: str

    @property
    def device(self) -> Device:
        """The device the table belongs to."""
        return self.table.device

    def latency_ms(self, positions: NDArray[np.int16]) -> NDArray[np.float64]:
        """Predicted latency ``(n,)`` of encoded architectures ``(n, len(space))``."""
        return self.compiled.predict(positions)

    def breakdown(self, architecture: Architecture) -> tuple[UnitLatency, ...]:
        """What each unit adds to the prediction."""
        return tuple(UnitLatency(**part) for part in self.compiled.break_down(architecture))

    def measure(
        self, graphs: Sequence[Graph], progress: Callable[[int, int], None] | None = None
    ) -> list[Measurement]:
        """Latency of whole networks on the device, on the table's scale.

        Raises:
            InputError: This machine is not the one the table was made on.
        """
        self.table.check_device(self.device)
        quiet = self.table.quiet
        return measure_networks(graphs, self.device, quiet=quiet, progress=progress)

    @property
    def method(self) -> str:
        """How latencies are measured, as a sentence for a model card."""
        return method(self.device, self.table.fingerprint)


def load_table(run: Run, name: str) -> LatencyTable:
    """Load the latency table of a device of a run, once its backend may be used.

    Raises:
        InputError: It is damaged, or its backend is a user's own module that was not named in
            this command.
    """
    _require_trust(run, name)
    return LatencyTable.load(run.device(name))


def find_device(run: Run, name: str) -> Device | None:
    """The device of a run that has this name; ``None`` where nothing intact says what it is.

    Raises:
        InputError: Its backend is a user's own module that was not named in this command.
    """
    _require_trust(run, name)
    folder = run.device(name)
    # Of a damaged table, it may still be known what was measured; damage is the table's to say.
    for read in (
        lambda: LatencyTable.load(folder).device,
        lambda: Device.from_json(checksums.read_json(folder / "device.json")),
    ):
        try:
            return read()
        except (OSError, InputError):
            continue
    return None


def _require_trust(run: Run, name: str) -> None:
    folder = run.device(name)
    for file in (folder / "device.json", folder / PREVIOUS / "device.json"):
        if not file.exists():
            continue
        try:
            about = checksums.read_json(file)
        except InputError:
            # Damage is the table's to say, which has an earlier one in reserve.
            continue
        backend = about.get("backend") if isinstance(about, dict) else None
        if isinstance(backend, str):
            plugins.require_trust("device backend", backend, run.trusted, file)


def open_table(
    run: Run, name: str, find_costs: Callable[[str], CostModel], say: Say
) -> DeviceTable:
    """The latency table of a device of a run.

    Args:
        run: The run.
        name: Name of the device.
        find_costs: Gives the cost model of the run's supernet under a workload, by its name.
        say: Told when a damaged table was passed over, or when the table is not trustworthy.

    Raises:
        InputError: Unknown device, or a table of another space or precision.
    """
    folder = run.device(name)
    if not folder.is_dir():
        known = run.devices
        have = f"profiled devices are {', '.join(known)}" if known else "none is profiled yet"
        raise InputError(
            f"device {name!r} is not profiled in {run.path}{nearest(name, known)}; {have}; "
            f"run: {profile_command(run.path, name, run.trusted)}"
        )
    table = load_table(run, name)
    if table.note:
        say(f"warning: {table.note}")
    compiled = compile_table(run, name, table, find_costs(table.device.workload))
    if table.report.get("trustworthy") is False:
        say(f"warning: the latency table of {name}: {table.report.get('verdict')}")
    return DeviceTable(table, compiled, _digest_table(table))


def compile_table(run: Run, name: str, table: LatencyTable, cost_model: CostModel) -> CompiledTable:
    """Look up what every unit of a run's supernet takes in the table of one of its devices.

    Raises:
        InputError: The table was made for other units; the message has the command that replaces
            it.
    """
    try:
        return table.compile(cost_model)
    except InputError as error:
        command = profile_command(run.path, name, run.trusted, replace=True)
        raise InputError(f"{error}; run: {command}") from error


def method(device: Device, fingerprint: Mapping[str, Any]) -> str:
    """How latencies are measured, as a sentence for a model card."""
    allowed = fingerprint.get(ALLOWED)
    threads = describe_threads(device.threads, allowed if isinstance(allowed, int) else None)
    clock = "processor time" if device.clock == "thread-cpu" else "wall-clock time"
    return (
        f"median {clock} of repeated runs of the whole network at batch 1 in several fresh "
        f"{device.name_runtime(fingerprint)} sessions ({device.provider}, {threads}) on "
        f"{fingerprint.get('cpu', 'this processor')}."
    )


def measure_one(graph: Graph) -> LatencyRecord:
    """Latency of one network on this machine's processor with one thread."""
    device = Device()
    found = measure_networks([graph], device)[0]
    return LatencyRecord(
        value=found.latency_ms,
        low=found.low_ms,
        high=found.high_ms,
        device=device.name,
        method=method(device, device.fingerprint()),
    )


def _digest_table(table: LatencyTable) -> str:
    content = {
        "rows": {k: dict(v) for k, v in table.rows.items()},
        "calibration": table.calibration.to_json(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

"""``report.json`` and ``device.json`` of a profiled device, as far as they are shown to people."""

from __future__ import annotations

from app.records.numbers import format_items
from app.records.typed_json.record import Count, Digest, FileRecord, Record


class ComparedNetwork(Record):
    """A whole network as the table predicts it and as it was measured, in milliseconds.

    Args:
        digest: Digest of the architecture.
        predicted_ms: By the table.
        measured_ms: Measured.
        low_ms: Lower end of the 95 % interval of the measurement.
        high_ms: Upper end.
        calibration: Whether the table was fitted to it; else it judges the table.
    """

    digest: Digest
    predicted_ms: float
    measured_ms: float
    low_ms: float | None = None
    high_ms: float | None = None
    calibration: bool = False


class WithoutBorders(Record):
    """How good a table of several precisions were if changing between them cost nothing."""

    mape: float | None = None
    kendall_tau: float | None = None


class TableReport(FileRecord):
    """How far a latency table can be trusted, as its profile found on networks it had not seen.

    Args:
        trustworthy: The table's own verdict; ``None`` when the report gives none.
        verdict: The same in words, possibly empty.
        mape: Mean absolute percentage error, as a fraction.
        median_bias: Median of predicted over measured latency less 1.
        max_error: Largest absolute percentage error, as a fraction.
        within_5: Share of networks predicted within 5 %, as a fraction.
        within_10: Share of networks predicted within 10 %, as a fraction.
        kendall_tau: Between predicted and measured latency.
        floor_mape: Error of measuring the same network again, as a fraction.
        networks: How many held-out networks the figures rest on.
        units: Units in the table.
        seconds: That profiling took.
        quiet_share: Share of the measurements that were made on a quiet machine.
        points: Every network that was measured, those of the calibration included.
        without_borders: The same table without borders between precisions, where it has any.
    """

    trustworthy: bool | None = None
    verdict: str = ""
    mape: float | None = None
    median_bias: float | None = None
    max_error: float | None = None
    within_5: float | None = None
    within_10: float | None = None
    kendall_tau: float | None = None
    floor_mape: float | None = None
    networks: Count | None = None
    units: Count | None = None
    seconds: float | None = None
    quiet_share: float | None = None
    points: tuple[ComparedNetwork, ...] = ()
    without_borders: WithoutBorders | None = None


class FingerprintRecord(Record):
    """The machine a table was measured on, as far as it is shown.

    Args:
        cpu: The processor.
        allowed_processors: How many of them the process might use; ``None`` in older files.
    """

    cpu: str = ""
    allowed_processors: Count | None = None


class DeviceRecord(FileRecord):
    """The device of a table, as far as it is shown.

    Args:
        provider: Execution provider of ONNX Runtime.
        threads: It uses.
        precision: Precision of the numbers.
        workload: What networks were asked to do; empty for whole inputs.
        fingerprint: The machine.
        created: When the table was made, ISO 8601.
    """

    provider: str = ""
    threads: Count | None = None
    precision: str = ""
    workload: str = ""
    fingerprint: FingerprintRecord = FingerprintRecord()
    created: str = ""

    @property
    def description(self) -> str:
        """Processor, provider, threads and precision in a few words."""
        parts = (
            self.fingerprint.cpu,
            self.provider.removesuffix("ExecutionProvider"),
            describe_threads(self.threads, self.fingerprint.allowed_processors),
            self.precision,
            self.workload,
        )
        return ", ".join(part for part in parts if part)


def describe_threads(threads: int | None, allowed: int | None) -> str:
    """Threads, and on how many processors they take turns where these are fewer."""
    if not threads:
        return ""
    shown = format_items(threads, "thread")
    if allowed is None or allowed >= threads:
        return shown
    return f"{shown} taking turns on {format_items(allowed, 'processor')}"

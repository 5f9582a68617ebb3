"""``report.json`` and ``device.json`` of a profiled device, as far as they are shown to people."""

from __future__ import annotations

from app.records.typed_json.record import Count, FileRecord, Record


class TableReport(FileRecord):
    """How far a latency table can be trusted, as its profile found on networks it had not seen.

    Args:
        trustworthy: The table's own verdict; ``None`` when the report gives none.
        verdict: The same in words, possibly empty.
        mape: Mean absolute percentage error, as a fraction.
        within_5: Share of networks predicted within 5 %, as a fraction.
        within_10: Share of networks predicted within 10 %, as a fraction.
        kendall_tau: Between predicted and measured latency.
        floor_mape: Error of measuring the same network again, as a fraction.
        networks: How many held-out networks the figures rest on.
    """

    trustworthy: bool | None = None
    verdict: str = ""
    mape: float | None = None
    within_5: float | None = None
    within_10: float | None = None
    kendall_tau: float | None = None
    floor_mape: float | None = None
    networks: Count | None = None


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
        fingerprint: The machine.
    """

    provider: str = ""
    threads: Count | None = None
    precision: str = ""
    fingerprint: FingerprintRecord = FingerprintRecord()

    @property
    def description(self) -> str:
        """Processor, provider, threads and precision in a few words."""
        parts = (
            self.fingerprint.cpu,
            self.provider.removesuffix("ExecutionProvider"),
            describe_threads(self.threads, self.fingerprint.allowed_processors),
            self.precision,
        )
        return ", ".join(part for part in parts if part)


def describe_threads(threads: int | None, allowed: int | None) -> str:
    """Threads, and on how many processors they take turns where these are fewer."""
    if not threads:
        return ""
    shown = f"{threads} thread{'s' if threads != 1 else ''}"
    if allowed is None or allowed >= threads:
        return shown
    return f"{shown} taking turns on {allowed} processor{'s' if allowed != 1 else ''}"

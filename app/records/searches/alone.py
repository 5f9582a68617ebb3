"""``alone.jsonl`` of a search: networks trained alone, and what a front says of them."""

from __future__ import annotations

from app.records.typed_json.record import Count, Digest, FileRecord, Record

FILE = "alone.jsonl"


class AloneRecord(FileRecord):
    """A network that was trained alone from scratch.

    Args:
        digest: Digest of the architecture.
        settings: Hash of everything else that decides the result.
        objective: ``"accuracy"`` or ``"loss"``.
        value: Its quality on ``val``; ``None`` where training diverged.
        low: Lower end of its 95 % interval.
        high: Upper end.
        samples: Number of samples in the split.
        steps: Steps of the training.
        seconds: That it took.
        failure: What happened where there is no value.
    """

    digest: Digest
    settings: str
    objective: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    samples: Count = 0
    steps: Count = 0
    seconds: float = 0.0
    failure: str = ""


class CalibratingNetwork(Record):
    """A network that was trained alone to calibrate a front.

    Args:
        digest: Digest of the architecture.
        value: Its quality on ``val`` after that training.
        low: Lower end of the 95 % interval of that evaluation.
        high: Upper end.
        inherited: Its posterior quality with inherited weights.
        predicted: What the other trained networks say of it (leave-one-out).
    """

    digest: Digest
    value: float
    low: float
    high: float
    inherited: float
    predicted: float | None = None


class CalibrationRecord(Record):
    """How the qualities of a front were calibrated by networks trained alone.

    Args:
        objective: Name of the quality.
        networks: That were trained, cheapest first.
        steps: Steps of each training.
        diverged: Of how many the training diverged.
        inherited_error: Root mean square difference of inherited and trained quality.
        predicted_error: The same of what the others say of each.
        inherited_tau: Kendall's tau-b of inherited and trained quality.
        predicted_tau: The same of what the others say of each.
    """

    objective: str
    networks: tuple[CalibratingNetwork, ...]
    steps: Count
    diverged: Count = 0
    inherited_error: float | None = None
    predicted_error: float | None = None
    inherited_tau: float | None = None
    predicted_tau: float | None = None

"""``cascade.json``: two exported networks, and when the second one is asked."""

from __future__ import annotations

from app.records.typed_json.record import Digest, FileRecord

FILE = "cascade.json"


class CascadeRecord(FileRecord):
    """A cascade of two of the models beside it.

    Args:
        small: Digest of the network that answers first.
        large: Digest of the one that is asked where the largest probability of the first is below
            the threshold.
        threshold: Confidence from which on the first answer stands.
        continued: Share of the test split that the second one is asked about.
        accuracy: Of the cascade on the test split.
        mean_latency_ms: Expected latency of a sample on ``device``, by the share above.
        device: Whose latency it is.
    """

    small: Digest
    large: Digest
    threshold: float
    continued: float
    accuracy: float
    mean_latency_ms: float
    device: str

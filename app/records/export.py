"""The files of an export, and the facts about it."""

from __future__ import annotations

from app.records.typed_json.record import Count, Digest, FileRecord, Record


class ParityRecord(FileRecord):
    """``parity.json``: how far ONNX Runtime and torch agree on real inputs.

    Args:
        architecture: Digest.
        max_abs_difference: Largest difference of outputs, of a batch and of single samples.
        limit: It had to stay below.
        same_decision: Share of samples with the same largest output.
        samples: Compared.
        split: They are from.
        output_spread: Mean standard deviation of the outputs over the samples.
        onnxruntime: Version.
        torch: Version.
    """

    architecture: Digest
    max_abs_difference: float
    limit: float
    same_decision: float
    samples: Count
    split: str
    output_spread: float
    onnxruntime: str
    torch: str


class LatencyRecord(Record):
    """A measured latency for a model card.

    Args:
        value: Milliseconds at batch 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        device: It was measured on.
        method: How, as a sentence.
    """

    value: float
    low: float
    high: float
    device: str
    method: str


class StorageRecord(Record):
    """Bytes of a subnetwork: promised by the costs that a search knows, and as it is written now.

    Args:
        promised: With every weight at its own bits, as searches and limits count size.
        tensors: Weights and statistics as they are stored, every one as float32.
        files: Bytes of each written file, by name.
    """

    promised: Count
    tensors: Count
    files: dict[str, Count]

    @property
    def keeps_bits(self) -> bool:
        """Whether the files hold weights at the bits that were promised."""
        return self.tensors <= self.promised

"""The files of an export, and the facts about it."""

from __future__ import annotations

from pydantic import Field

from app.records.typed_json.record import Count, Digest, FileRecord, Record


class IntegerParityRecord(Record):
    """How far ONNX Runtime and the integer simulator agree on an export in integers.

    Args:
        samples: Compared.
        mean_abs_difference: Mean difference of outputs.
        equal: Share of outputs that are equal to the last bit.
        same_decision: Share of samples with the same largest output.
    """

    samples: Count
    mean_abs_difference: float
    equal: float
    same_decision: float


class GenerationParityRecord(Record):
    """How far ONNX Runtime and torch agree token by token on a text that torch generates.

    Args:
        prompt_tokens: Read at once, from the validation part.
        tokens: Generated after it, each read alone.
        same_tokens: Share of them that ONNX Runtime finds likeliest, too.
        max_abs_difference: Largest difference of their logits.
    """

    prompt_tokens: Count
    tokens: Count
    same_tokens: float
    max_abs_difference: float


class ParityRecord(FileRecord):
    """``parity.json``: how far ONNX Runtime and torch agree on real inputs.

    Of an export in integers, the largest difference is that from the integer simulator, and
    decisions are compared with those of the network that was evaluated.

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
        integers: Of an export in integers, more about the simulator.
        generation: Of a language model, the same for its decoder with keys and values.
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
    integers: IntegerParityRecord | None = None
    generation: GenerationParityRecord | None = None


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
    """Bytes of a subnetwork: promised by the costs that a search knows, and as it is written.

    Args:
        promised: As searches and limits count size, every weight in its unit's number format.
        tensors: Weights and statistics as they are stored: in float32 where none of the units
            computes in a number format of its own.
        files: Bytes of each written file, by name.
        overhead: Bytes of the ONNX model beside its weights, by what they are for.
    """

    promised: Count
    tensors: Count
    files: dict[str, Count]
    overhead: dict[str, Count] = Field(default_factory=dict)


class PrecisionFacts(Record):
    """What an export in integers is made of.

    Args:
        formats: Number format of every unit, or layer, that has a choice, by path.
        islands: What stays in float between integers, a sentence each.
        unsafe: Layers whose sums may saturate on processors without 8-bit dot products: share of
            pairs that can, by name of the weight.
        layers: Layers that multiply integers.
        remedy: What makes unsafe layers safe.
        split: The split that it was run on in ONNX Runtime.
        objective: The quality.
        value: The quality in ONNX Runtime.
    """

    formats: dict[str, str]
    islands: tuple[str, ...]
    unsafe: dict[str, float]
    layers: Count
    remedy: str
    split: str
    objective: str
    value: float

"""``settings.json`` and ``finetune.json``: how a network was trained on, and what came of it."""

from __future__ import annotations

from pathlib import Path

from app.records.audit import QualityRecord
from app.records.evaluation import EvaluationRecord
from app.records.export import LatencyRecord, ParityRecord, StorageRecord
from app.records.typed_json.record import Choices, Count, Digest, FileRecord, Json, Record, Seed
from app.records.typed_json.record_files import read_record

FILE = "finetune.json"


class FinetuneSettings(FileRecord):
    """What decides the result of a fine-tuning; the content of ``settings.json``.

    Args:
        digest: Digest of the architecture.
        architecture: Its choices.
        teacher: Digest of the architecture that teaches with the weights of the supernet, the
            largest of its space; ``None`` without a teacher.
        seed: Seed of batches and augmentation.
        steps: Steps of the training.
        recipe: Where that differs from the training of the supernet.
        calibration_samples: As for :func:`supernet.quality.evaluate.evaluate`.
        space: Digest of the space.
        checkpoint: Digest of the weights of the supernet.
    """

    digest: Digest
    architecture: Choices
    teacher: Digest | None
    seed: Seed
    steps: Count
    recipe: dict[str, Json]
    calibration_samples: Count
    space: str
    checkpoint: str


class TuningRecord(Record):
    """What fine-tuning made of a network.

    Args:
        settings: How it was trained.
        checkpoint: Digest of its weights after training.
        before: Evaluations with inherited weights, by split.
        after: Evaluations after training, by split.
        change: After less before on the same samples, with its 95 % interval, by split; of a
            loss, less is better.
        seconds: Of training, in the command that ended it.
        resumed_from: The step from which that command went on.
    """

    settings: FinetuneSettings
    checkpoint: str
    before: dict[str, EvaluationRecord]
    after: dict[str, EvaluationRecord]
    change: dict[str, QualityRecord]
    seconds: float
    resumed_from: Count


class FinetuneRecord(FileRecord, TuningRecord):
    """The content of ``finetune.json``.

    Args:
        parameters: Learned weights of the network.
        macs: Multiply-adds for one sample.
        latency: A measured latency; ``None`` where nothing could be measured.
        parity: How far ONNX Runtime and torch agree on the export.
        storage: Bytes of the export as promised and as written.
        at: When it ended, ISO 8601 in UTC.
    """

    parameters: Count
    macs: Count
    latency: LatencyRecord | None
    parity: ParityRecord
    storage: StorageRecord
    at: str = ""


def read_finetune(folder: Path) -> FinetuneRecord:
    """Read what came of a fine-tuning.

    Raises:
        FileNotFoundError: It has not finished.
        InputError: Its file is damaged.
    """
    return read_record(folder / FILE, FinetuneRecord, "fine-tune again with --replace")

"""``nested.json``: subnetworks that were exported with one file of weights."""

from __future__ import annotations

from app.records.typed_json.record import Choices, Count, Digest, FileRecord, Record

FILE = "nested.json"


class NestedModelRecord(Record):
    """One of the models.

    Args:
        file: Its ONNX model.
        architecture: Digest.
        choices: Values by the names of the choices.
        parameters: Learned weights.
        macs: Multiply-accumulates for one sample.
        objective: ``"accuracy"`` or ``"loss"``.
        value: On ``split``; ``None`` where it cannot be computed.
        split: The split it was evaluated on.
        max_abs_difference: Largest difference between torch and ONNX Runtime on real inputs.
    """

    file: str
    architecture: Digest
    choices: Choices
    parameters: Count
    macs: Count
    objective: str
    value: float | None
    split: str
    max_abs_difference: float


class NestedExportRecord(FileRecord):
    """The content of ``nested.json``.

    Args:
        weights: The file that all models read.
        weights_bytes: Its size.
        models: The models, in the order they were asked for.
    """

    weights: str
    weights_bytes: Count
    models: tuple[NestedModelRecord, ...]

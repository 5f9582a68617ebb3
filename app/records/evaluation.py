"""``evaluations.jsonl``: one evaluated architecture in each line."""

from __future__ import annotations

import base64
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from app.records.numbers import format_items
from app.records.typed_json.record import Choices, Count, Digest, FileRecord, Record
from supernet.errors import InputError

# What a record must have to be used again; without one of these it is evaluated anew.
_NEEDED = frozenset(
    ("digest", "split", "architecture", "objective", "unit", "value", "low", "high", "samples")
)


class CalibrationRecord(Record):
    """How normalisation statistics were estimated anew.

    Args:
        samples: Training samples asked for.
        used: Samples used; 0 for networks that need none.
    """

    samples: Count
    used: Count = 0


class ScoresRecord(Record):
    """What a network scored on each sample, in the order of a race, as text.

    Args:
        kind: ``"bits"`` for right and wrong answers, ``"float32"`` for losses.
        data: In Base64.
    """

    kind: Literal["bits", "float32"]
    data: str

    @classmethod
    def pack(cls, scores: NDArray[np.float32], *, binary: bool) -> ScoresRecord:
        """The scores ``(n,)`` in few characters.

        Args:
            scores: 0 or 1 for wrong and right answers, else losses.
            binary: Whether they are answers.
        """
        content = np.packbits(scores > 0.5) if binary else scores.astype("<f4")
        data = base64.b64encode(content.tobytes()).decode()
        return cls(kind="bits" if binary else "float32", data=data)

    def unpack(self, count: int) -> NDArray[np.float64]:
        """The first ``count`` scores ``(count,)``.

        Raises:
            InputError: There are fewer, or the text is not Base64.
        """
        content = base64.b64decode(self.data, validate=True)
        if self.kind == "bits":
            found = np.unpackbits(np.frombuffer(content, np.uint8))
            whole = len(content) == -(-count // 8)
        else:
            whole = len(content) == 4 * count
            found = np.frombuffer(content if whole else b"", "<f4")
        if not whole:
            raise InputError(
                f"the scores of {format_items(count, 'sample')} in "
                f"{format_items(len(content), 'byte')}"
            )
        return found[:count].astype(np.float64)


class EvaluationRecord(FileRecord):
    """What is known of one architecture with the weights of one checkpoint on one split.

    Args:
        architecture: Its choices.
        digest: Of them.
        objective: ``"accuracy"`` or ``"loss"``.
        value: Value of the objective; ``None`` where the evaluation failed.
        low: Lower end of its 95 % interval.
        high: Upper end.
        unit: Of these three.
        split: Which samples: ``"train"``, ``"val"`` or ``"test"``, or ``"val+1"`` and so on for
            further ones of what ``val`` is drawn from.
        source: ``"evaluated"``.
        checkpoint: Digest of the weights.
        calibration: How it was recalibrated; ``None`` in a record that cannot be used again.
        samples: Looked at.
        seconds: Spent.
        at: When, ISO 8601 in UTC.
        failure: Why there is no value.
        fidelity: Share of the split that was looked at, where ``scores`` are kept.
        scores: Of each sample; of raced candidates, and where samples are few.
        stopped: Whether it was stopped before the whole split; its value is an estimate then.
        balanced: Mean accuracy over the classes; ``None`` for losses and in older logs.
        fingerprint: Fingerprint of the content of further samples; ``None`` for other splits, which
            that of the run covers, and in older logs.
    """

    architecture: Choices
    digest: Digest
    objective: str
    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str
    split: str
    source: str = "evaluated"
    checkpoint: str = ""
    calibration: CalibrationRecord | None = None
    samples: Count = 0
    seconds: float = 0.0
    at: str = ""
    failure: str | None = None
    fidelity: float | None = None
    scores: ScoresRecord | None = None
    stopped: bool = False
    balanced: float | None = None
    fingerprint: str | None = None

    @model_validator(mode="after")
    def _check_scores(self) -> EvaluationRecord:
        self.unpack_scores()
        return self

    def belongs_to(self, checkpoint: str, calibration_samples: int) -> bool:
        """Whether it is complete, and of this checkpoint and calibration."""
        if self.checkpoint != checkpoint or not self.model_fields_set >= _NEEDED:
            return False
        return self.calibration is not None and self.calibration.samples == calibration_samples

    @property
    def value_or_nan(self) -> float:
        """The value; NaN for an evaluation that failed."""
        return math.nan if self.value is None else self.value

    @property
    def calibrated_on(self) -> int:
        """Training samples behind its normalisation statistics; 0 for none."""
        return 0 if self.calibration is None else self.calibration.used

    def unpack_scores(self) -> NDArray[np.float64] | None:
        """The scores ``(samples,)`` in the order of a race; ``None`` where they were not kept."""
        return None if self.scores is None else self.scores.unpack(self.samples)

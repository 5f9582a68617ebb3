"""The work of one audit: each finished piece is a line of ``records.jsonl``, made once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeVar

from app.auditing.request import AuditRequest
from app.progress import Say, Step
from app.records.audit_pieces import Piece, Pieces
from app.records.evaluation import ScoresRecord
from app.records.typed_json.record_files import append_record
from app.runs.trained import Trained
from supernet.data import IMAGES
from supernet.quality.evaluate import CALIBRATION_SAMPLES, evaluate_scored
from supernet.space import Architecture
from supernet.supernet import Supernet

LOG = "records.jsonl"
_Piece = TypeVar("_Piece", bound=Piece)


class Numbers(TypedDict):
    """What is written of an evaluation."""

    objective: str
    unit: str
    value: float
    low: float
    high: float
    samples: int
    scores: ScoresRecord


@dataclass(frozen=True)
class Work:
    """What an audit works on, and what of it is finished.

    Args:
        request: What was asked for.
        trained: The run.
        folder: Where the audit is stored.
        pieces: Everything that is finished.
        say: Told about progress.
    """

    request: AuditRequest
    trained: Trained
    folder: Path
    pieces: Pieces
    say: Say

    def once(self, known: dict[str, _Piece], key: str, make: Callable[[], _Piece]) -> _Piece:
        """The piece of a key, made and stored now if there is none."""
        if key not in known:
            began = time.perf_counter()
            self.keep(known, key, make(), began)
        return known[key]

    def keep(self, known: dict[str, _Piece], key: str, piece: _Piece, began: float) -> None:
        """Store a piece that was begun at a reading of the clock; it takes the place of another."""
        seconds = round(time.perf_counter() - began, 3)
        piece = piece.replace(key=key, seconds=seconds)
        append_record(self.folder / LOG, piece)
        known[key] = piece

    def count(self, what: str, done: int, total: int, unit: str) -> None:
        """Tell how far a part is."""
        self.say(Step(f"audit: {what}", done, total, unit))

    def evaluate(self, supernet: Supernet, architecture: Architecture) -> Numbers:
        """Evaluate a network on the split of the audit."""
        data, split = self.trained.data, self.request.split
        found, scores = evaluate_scored(
            supernet,
            architecture,
            data,
            split,
            calibration_samples=CALIBRATION_SAMPLES,
            estimator=self.trained.estimator,
        )
        return {
            "objective": found.objective,
            "unit": found.unit,
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "samples": found.samples,
            "scores": ScoresRecord.pack(scores.astype("float32"), binary=data.shape.task == IMAGES),
        }

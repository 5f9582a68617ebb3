"""A prior: what another run of the same space evaluated helps the predictors of a search."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.progress import Say
from app.records.evaluation import EvaluationRecord
from app.records.searches.search import EarlierRunRecord
from app.records.typed_json.record_files import read_log
from app.runs.directory import Run, open_run
from app.runs.trained import Trained
from supernet import checkpoints
from supernet.errors import InputError
from supernet.quality.evaluate import CALIBRATION_SAMPLES

LEAST = 20


@dataclass(frozen=True)
class Prior:
    """Evaluations of an earlier run.

    Args:
        run: The earlier run.
        positions: Canonical rows ``(n, len(space))``.
        values: Their quality on the validation split ``(n,)``.
    """

    run: Path
    positions: NDArray[np.int16]
    values: NDArray[np.float64]

    @property
    def record(self) -> EarlierRunRecord:
        """What identifies it in a stored search."""
        content = json.dumps([self.positions.tolist(), self.values.tolist()])
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return EarlierRunRecord(run=str(self.run), evaluations=len(self.values), digest=digest)


def open_prior(
    path: Path, trained: Trained, say: Say, before: EarlierRunRecord | None = None
) -> Prior:
    """Evaluations of an earlier run on its validation split, with its newest weights.

    Args:
        path: The earlier run: same space, other data or other training.
        trained: What is searched now.
        say: Told about damaged records, which are left out.
        before: The prior of the stored search that is continued, if any: of the same run, the
            evaluations used then are used again, and not those made since.

    Raises:
        InputError: No run, this very run, another space, another measure of quality, fewer than
            20 architectures, or a damaged log.
    """
    run, space = open_run(path), trained.supernet.space
    place = path.expanduser().resolve()
    if place == trained.run.path.expanduser().resolve():
        raise InputError(
            f"the prior {path} is the run that is searched, whose evaluations are used anyway; "
            "name another run"
        )
    theirs = run.record.space
    if theirs != space.digest:
        raise InputError(
            f"the prior {path} has space {theirs}, this run {space.digest}; a prior must have the "
            "same space"
        )
    records = _read_successful(run, say)
    other = sorted({record.objective for record in records} - {trained.quality})
    if other:
        raise InputError(
            f"the prior {path} was judged by {other[0]}, this run is by {trained.quality}; a prior "
            "must have the same measure"
        )
    if before is not None and before.run == str(place):
        records = records[: before.evaluations]
    if len(records) < LEAST:
        raise InputError(
            f"the prior {path} has {len(records)} evaluated architectures with its newest weights; "
            f"it needs at least {LEAST}, so search there first"
        )
    try:
        rows = space.encode([space.architecture(record.architecture) for record in records])
    except InputError as error:
        raise InputError(f"{run.evaluations} was damaged or edited ({error})") from None
    values = np.array([record.value_or_nan for record in records], dtype=np.float64)
    return Prior(place, rows, values)


def _read_successful(run: Run, say: Say) -> list[EvaluationRecord]:
    """Successful evaluations, the first of each architecture, in the order they were made."""
    checkpoint = checkpoints.require(run.checkpoints).checkpoint
    assert checkpoint is not None
    found: dict[str, EvaluationRecord] = {}
    for record in read_log(run.evaluations, EvaluationRecord, say):
        usable = record.belongs_to(checkpoint.digest, CALIBRATION_SAMPLES)
        whole = record.split == "val" and not record.stopped
        if usable and whole and record.value is not None:
            found.setdefault(record.digest, record)
    return list(found.values())

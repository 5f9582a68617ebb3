"""A prior: what another run of the same space evaluated helps the predictors of a search."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.evaluation.log import belongs, number
from app.runs.directory import Run, open_run
from app.runs.trained import Trained
from supernet import checkpoints, files
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

    def to_json(self) -> dict[str, Any]:
        """What identifies it in a stored search."""
        content = json.dumps([self.positions.tolist(), self.values.tolist()])
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return {"run": str(self.run), "evaluations": len(self.values), "digest": digest}


def open_prior(path: Path, trained: Trained, before: Mapping[str, Any] | None = None) -> Prior:
    """Evaluations of an earlier run on its validation split, with its newest weights.

    Args:
        path: The earlier run: same space, other data or other training.
        trained: What is searched now.
        before: The prior of the stored search that is continued, if any: of the same run, the
            evaluations used then are used again, and not those made since.

    Raises:
        ValueError: No run, this very run, another space, another measure of quality, fewer than
            20 architectures, or a damaged log.
    """
    run, space = open_run(path), trained.supernet.space
    place = path.expanduser().resolve()
    if place == trained.run.path.expanduser().resolve():
        raise ValueError(
            f"the prior {path} is the run that is searched, whose evaluations are used anyway; "
            "name another run"
        )
    if run.record["space"] != space.digest:
        raise ValueError(
            f"the prior {path} has space {run.record['space']}, this run {space.digest}; a prior "
            "must have the same space"
        )
    records = _records(run)
    other = sorted({str(record["objective"]) for record in records} - {trained.quality})
    if other:
        raise ValueError(
            f"the prior {path} was judged by {other[0]}, this run is by {trained.quality}; a prior "
            "must have the same measure"
        )
    used = before.get("evaluations") if before and before.get("run") == str(place) else None
    if isinstance(used, int):
        records = records[:used]
    if len(records) < LEAST:
        raise ValueError(
            f"the prior {path} has {len(records)} evaluated architectures with its newest weights; "
            f"it needs at least {LEAST}, so search there first"
        )
    try:
        rows = space.encode([space.architecture(record["architecture"]) for record in records])
        values = np.array([number(record) for record in records], dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{run.evaluations} was damaged or edited ({error})") from None
    return Prior(place, rows, values)


def _records(run: Run) -> list[dict[str, Any]]:
    """Successful evaluations, the first of each architecture, in the order they were made."""
    checkpoint = checkpoints.require(run.checkpoints).checkpoint
    assert checkpoint is not None
    found: dict[str, dict[str, Any]] = {}
    for record in files.read_records(run.evaluations):
        if not belongs(record, checkpoint.digest, CALIBRATION_SAMPLES):
            continue
        whole = record["split"] == "val" and not record.get("stopped")
        if whole and record["value"] is not None:
            found.setdefault(str(record["digest"]), record)
    return list(found.values())

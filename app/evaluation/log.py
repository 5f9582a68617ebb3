"""The log of evaluated architectures: every value is paid for once and reused by later searches."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.evaluation.worker import Caches, Finding, Task, work
from app.runs.directory import Run, now
from app.runs.trained import Trained
from supernet import files
from supernet.quality.evaluate import CALIBRATION_SAMPLES
from supernet.space import Architecture, SearchSpace, nearest

# What a record must have to be used again; without one of these it is evaluated anew.
_NEEDED = ("digest", "split", "architecture", "objective", "unit", "value", "low", "high",
           "samples")  # fmt: skip


class EvaluationLog:
    """Evaluations of one checkpoint, in memory and in ``evaluations.jsonl``.

    A value belongs to an architecture, a checkpoint, a split and the number of calibration
    samples; anything else would silently mix numbers that cannot be compared. Records of
    candidates that were stopped before the whole split are kept apart: they are estimates.
    """

    def __init__(self, trained: Trained, calibration_samples: int = CALIBRATION_SAMPLES) -> None:
        self.trained = trained
        self.calibration_samples = calibration_samples
        self.caches = Caches()
        self._records: dict[tuple[str, str], dict[str, Any]] = {}
        self._stopped: dict[tuple[str, str], dict[str, Any]] = {}
        for record in files.read_records(trained.run.evaluations):
            if belongs(record, trained.checkpoint.digest, calibration_samples):
                self._remember(record)

    def _remember(self, record: dict[str, Any]) -> None:
        kind = self._stopped if record.get("stopped") else self._records
        kind[record["digest"], record["split"]] = record

    def evaluate(self, architecture: Architecture, split: str) -> Mapping[str, Any]:
        """The record of an architecture on a whole split, made now if it is not in the log.

        A network that cannot be run, or whose value is not finite, has a record too: without a
        value, and with the reason as ``failure``.

        Raises:
            ValueError: Unknown split, or an architecture of another space.
            OSError: The log could not be written; it is as it was.
        """
        found = self.find(architecture, split)
        if found is not None:
            return found
        trained = self.trained
        trained.supernet.space.check(architecture)
        task = Task(architecture.to_dict(), split)
        finding = work(trained, self.caches, self.calibration_samples, task)
        return self.store(architecture, split, finding)

    def store(self, architecture: Architecture, split: str, finding: Finding) -> Mapping[str, Any]:
        """Append what was found about an architecture; returns its record.

        Raises:
            OSError: The log could not be written; it is as it was.
        """
        numbers = {"value": finding.value, "low": finding.low, "high": finding.high}
        record: dict[str, Any] = {
            "architecture": architecture.to_dict(),
            "digest": architecture.digest,
            "objective": finding.objective,
            **{key: n if math.isfinite(n) else None for key, n in numbers.items()},
            "unit": finding.unit,
            "split": split,
            "source": "evaluated",
            "checkpoint": self.trained.checkpoint.digest,
            "calibration": {"samples": self.calibration_samples, "used": finding.used},
            "samples": finding.samples,
            "seconds": round(finding.seconds, 4),
            "at": now(),
        }
        if finding.failure is not None:
            record["failure"] = finding.failure
        if finding.scores is not None:
            record["fidelity"] = finding.samples / finding.total
            record["scores"] = _packed(finding.scores, finding.objective)
        if finding.stopped:
            record["stopped"] = True
        files.append_record(self.trained.run.evaluations, record)
        self._remember(record)
        return record

    def find(
        self, architecture: Architecture, split: str, *, stopped: bool = False
    ) -> Mapping[str, Any] | None:
        """The record of an architecture on a split, if there is one.

        Args:
            architecture: Which one.
            split: Which split.
            stopped: Whether the estimate of a stopped candidate will do where there is no more.
        """
        key = (architecture.digest, split)
        found = self._records.get(key)
        return self._stopped.get(key) if found is None and stopped else found

    def records(self, split: str) -> tuple[Mapping[str, Any], ...]:
        """Every record on a split, in the order they were made."""
        return tuple(r for (_, where), r in self._records.items() if where == split)

    def known(self, split: str) -> dict[bytes, dict[str, float]]:
        """Values on a split by canonical positions, as :func:`search.search` wants them."""
        space = self.trained.supernet.space
        records = [r for (_, where), r in self._records.items() if where == split]
        architectures = [space.architecture(record["architecture"]) for record in records]
        rows = space.encode(architectures)
        return {
            row.tobytes(): {record["objective"]: number(record)}
            for row, record in zip(rows, records, strict=True)
        }


def number(record: Mapping[str, Any]) -> float:
    """The value of a record; NaN for an evaluation that failed."""
    value = record["value"]
    return math.nan if value is None else float(value)


def scores(record: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """The scores a record keeps of a raced candidate, in the order of the race; else ``None``."""
    kept = record.get("scores")
    if not isinstance(kept, dict):
        return None
    data = base64.b64decode(kept["data"])
    if kept["kind"] == "bits":
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=record["samples"])
        return bits.astype(np.float64)
    return np.frombuffer(data, "<f4").astype(np.float64)


def _packed(values: NDArray[np.float32], objective: str) -> dict[str, str]:
    """Scores as text: a bit for each right or wrong answer, four bytes for each loss."""
    if objective == "accuracy":
        data, kind = np.packbits(values > 0.5).tobytes(), "bits"
    else:
        data, kind = values.astype("<f4").tobytes(), "float32"
    return {"kind": kind, "data": base64.b64encode(data).decode()}


def find_architecture(run: Run, space: SearchSpace, name: str) -> Architecture:
    """The architecture that a command line names.

    Args:
        run: Whose evaluations and fronts know digests.
        space: The space of the run.
        name: A digest or the beginning of one, ``smallest``, ``largest``, or a JSON file.

    Raises:
        ValueError: Unknown or ambiguous digest, or a file that is no architecture of the space.
    """
    if name in ("smallest", "largest"):
        return space.smallest if name == "smallest" else space.largest
    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        if not path.is_file():
            raise ValueError(f"there is no architecture file {path}")
        return space.architecture_from_json(files.read_json(path))
    known = _known_digests(run)
    found = sorted(digest for digest in known if digest.startswith(name)) if name else []
    if len(found) > 1:
        raise ValueError(f"{name!r} is the beginning of several digests: {', '.join(found[:4])}")
    if not found:
        raise ValueError(
            f"no architecture {name!r} in {run.path}{nearest(name, list(known))}; give the digest "
            "of an evaluated architecture, smallest, largest, or a JSON file"
        )
    return space.architecture(known[found[0]])


def _known_digests(run: Run) -> dict[str, Any]:
    known = {}
    for record in files.read_records(run.evaluations):
        if isinstance(record, dict) and isinstance(record.get("architecture"), dict):
            known[str(record.get("digest"))] = record["architecture"]
    for name in run.searches:
        points = run.front(name)["points"]
        known |= {point["digest"]: point["architecture"] for point in points}
    return known


def belongs(record: Any, checkpoint: str, calibration_samples: int) -> bool:
    """Whether a stored record is complete, and of this checkpoint and calibration."""
    if not isinstance(record, dict) or record.get("checkpoint") != checkpoint:
        return False
    if any(key not in record for key in _NEEDED):
        return False
    calibration = record.get("calibration")
    return isinstance(calibration, dict) and calibration.get("samples") == calibration_samples

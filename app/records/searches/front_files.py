"""The files of a front: ``hypervolume.csv``, ``front.csv`` and, last, ``front.json``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.records.columns.stored_front import keep_columns
from app.records.quantities import list_counted
from app.records.searches.front import FILE, Front
from app.records.searches.trace import digest_trace, format_table, write_trace
from app.records.typed_json.record_files import write_record
from supernet import files


def write_front(
    folder: Path,
    front: Front,
    trace: Iterable[float | None],
    baseline: NDArray[np.float64] | None = None,
) -> None:
    """Write the tables first and ``front.json`` after them: it marks the search as complete.

    Args:
        folder: Folder of the search.
        front: What it found.
        trace: Hypervolume after each evaluation.
        baseline: The same of random search, ``(k,)``; a further column where there is one.

    Raises:
        OSError: A write failed; older files are intact.
    """
    values = tuple(trace)
    front = front.replace(trace=digest_trace(values))
    if front.baseline is not None and baseline is not None:
        traced = front.baseline.replace(trace=digest_trace(baseline.tolist()))
        front = front.replace(baseline=traced)
    write_trace(folder, values, baseline)
    files.write_text(folder / "front.csv", format_front(front))
    write_record(folder / FILE, front)
    keep_columns(folder)


def format_front(front: Front) -> str:
    """Every point as a line of comma-separated text, with what was predicted and found."""
    names = list(front.points[0].estimates) if front.points else []
    keys = ["predicted", "value", "low", "high", "posterior", "test"]
    keys += [] if front.calibration is None else ["alone", "alone_low", "alone_high"]
    counted = [quantity.name for quantity in list_counted() if not quantity.on_request]
    header = ["digest", "on_front", "indistinguishable", "verified", *counted]
    header += [f"{name}_{key}" for name in names for key in keys]
    rows = []
    for point in front.points:
        row: list[object] = [point.digest, point.on_front, point.indistinguishable, point.verified]
        row += [point.counts.get(name) for name in counted]
        for name in names:
            estimate = point.estimate(name)
            row += [getattr(estimate, key) for key in keys]
        rows.append(row)
    return format_table(header, rows)

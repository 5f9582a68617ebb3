"""``hypervolume.csv``: the progress of a search, and of random search beside it."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from supernet import files
from supernet.errors import InputError

FILE = "hypervolume.csv"
BASELINE = "random_search"
_REMEDY = "search again with --replace, for which all evaluations are kept"


@dataclass(frozen=True)
class Hypervolume:
    """Hypervolume of the front found after so many evaluations, and of random search's."""

    evaluations: int
    value: float | None
    baseline: float | None = None


@dataclass(frozen=True)
class TraceDigests:
    """What ``front.json`` says of the file beside it; ``None`` where an older one says nothing.

    Args:
        values: Digest of the hypervolumes of the search.
        baseline: Digest of those of random search.
    """

    values: str | None = None
    baseline: str | None = None


_UNKNOWN = TraceDigests()


def digest_trace(values: Iterable[float | None]) -> str:
    """16 hexadecimal digits of hypervolumes as they are written."""
    cells = ",".join(map(_write, values)).rstrip(",")
    return hashlib.sha256(cells.encode()).hexdigest()[:16]


def read_trace(folder: Path, digests: TraceDigests = _UNKNOWN) -> tuple[Hypervolume, ...]:
    """The progress of a search, in the order written; a torn last line is left out.

    Args:
        folder: Folder of the search; without the file there is no progress.
        digests: Of what the file must hold.

    Raises:
        InputError: The file has other columns than ``evaluations,hypervolume`` and those of a
            baseline, or other values than it was written with.
    """
    path = folder / FILE
    if not path.exists() and digests.values is None:
        return ()
    rows = _read_rows(path)
    expected = (digests.values, digests.baseline)
    found = (digest_trace(r.value for r in rows), digest_trace(r.baseline for r in rows))
    if any(wanted not in (None, ours) for wanted, ours in zip(expected, found, strict=True)):
        raise InputError(f"{path} does not hold what its search found: it was damaged; {_REMEDY}")
    return rows


def _read_rows(path: Path) -> tuple[Hypervolume, ...]:
    whole, _, _torn = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    rows = []
    for line, row in enumerate(_split_rows(whole, path), start=2):
        try:
            if row["hypervolume"] is None:
                raise InputError("a line that ends early")
            value, beside = _read(row["hypervolume"]), _read(row.get(BASELINE))
            rows.append(Hypervolume(int(row["evaluations"] or ""), value, beside))
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"{path}, line {line} is not `evaluations,hypervolume`: the file was damaged; "
                f"{_REMEDY}"
            ) from None
    return tuple(rows)


def _split_rows(text: str, path: Path) -> list[dict[str, str | None]]:
    try:
        return list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise InputError(f"{path} was damaged ({error}); {_REMEDY}") from None


def write_trace(
    folder: Path, trace: Iterable[float | None], baseline: NDArray[np.float64] | None = None
) -> None:
    """Replace the file atomically.

    Args:
        folder: Folder of the search.
        trace: Hypervolume after each evaluation.
        baseline: The same of random search, ``(k,)``; a further column where there is one.

    Raises:
        OSError: The write failed; the old file is intact.
    """
    header = ["evaluations", "hypervolume"]
    columns = [list(trace)]
    if baseline is not None:
        header.append(BASELINE)
        columns.append(baseline.tolist())
    rows = []
    for i in range(max(map(len, columns))):
        cells = [_write(column[i]) if i < len(column) else "" for column in columns]
        if any(cells):
            rows.append((i + 1, *cells))
    files.write_text(folder / FILE, format_table(header, rows))


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as comma-separated text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _write(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.9g}"


def _read(text: str | None) -> float | None:
    """A cell of a trace; one of two traces may be shorter, and its last cells are empty."""
    if text is None or text == "":
        return None
    value = float(text)
    if not math.isfinite(value):
        raise InputError(text)
    return value

"""A search while it runs: what its plan asks for, and what the log says it has evaluated."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.records.evaluation import EvaluationRecord
from app.records.searches.search import FILE, REMEDY, SearchRecord
from app.records.typed_json.record_files import read_record
from supernet.errors import InputError

LOG = "evaluations.jsonl"
RUNNING = "running"
# A search that has evaluated nothing for so many seconds may have been killed.
SILENCE = 600.0
_AT = b'"at": "'
_MOST_WATCHED = 8


@dataclass(frozen=True)
class RunningSearch:
    """A search whose plan says that it runs.

    Args:
        name: Its name.
        began: When, ISO 8601 in UTC.
        planned: Architectures to evaluate.
    """

    name: str
    began: str
    planned: int


@dataclass(frozen=True)
class Found:
    """What a search has evaluated since it began, in the order of evaluation.

    Args:
        digests: Of the architectures.
        values: ``(n,)``; NaN for an evaluation that failed.
        objective: What was evaluated; empty without any evaluation.
        unit: Of the values.
        silence: Seconds since the log grew.
    """

    digests: tuple[str, ...]
    values: NDArray[np.float64]
    objective: str
    unit: str
    silence: float


def list_running(run: Path) -> tuple[RunningSearch, ...]:
    """The searches of a run whose plans say that they run; what cannot be read is left out."""
    found = []
    for plan in sorted((run / "searches").glob(f"*/{FILE}")):
        try:
            record = read_record(plan, SearchRecord, REMEDY)
        except (OSError, InputError):
            # A plan is not needed to show a front; jobs say what is wrong with it.
            continue
        if record.status == RUNNING:
            name = plan.parent.name
            found.append(RunningSearch(name, record.updated, record.config.evaluations))
    return tuple(found)


def watch_search(run: Path, search: RunningSearch) -> Found:
    """What a running search has evaluated so far; only what is new in the log is read.

    Args:
        run: The run directory.
        search: The search.
    """
    return _open_tail(run / LOG, search.began).read()


@dataclass
class _Tail:
    """The end of a log while it grows; shared by every browser that watches it."""

    path: Path
    began: str
    _offset: int = 0
    _digests: list[str] = field(default_factory=list)
    _values: list[float] = field(default_factory=list)
    _about: tuple[str, str] = ("", "")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> Found:
        """Everything since the search began, as far as lines are complete and intact."""
        with self._lock:
            silence = self._read_on()
            values = np.array(self._values, dtype=np.float64)
            return Found(tuple(self._digests), values, *self._about, silence)

    def _read_on(self) -> float:
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    self._offset, self._digests, self._values = 0, [], []
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # torn, or still being written
                    self._offset += len(line)
                    if self._is_new(line):
                        self._take(line)
            changed = self.path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        return max(time.time() - changed, 0.0)

    def _is_new(self, line: bytes) -> bool:
        """Whether a line was written since the search began; cheap, for logs of many searches."""
        _, found, rest = line.rpartition(_AT)
        return bool(found) and rest[: len(self.began)].decode(errors="replace") >= self.began

    def _take(self, line: bytes) -> None:
        try:
            record = EvaluationRecord.model_validate_json(line)
        except ValueError:  # a damaged line, which is named above every screen
            return
        if record.split == "val":
            self._digests.append(record.digest)
            self._values.append(record.value_or_nan)
            self._about = (record.objective, record.unit)


@st.cache_resource(max_entries=_MOST_WATCHED, show_spinner=False)
def _open_tail(path: Path, began: str) -> _Tail:
    return _Tail(path, began)

"""``evaluations.jsonl`` as it is shown: columns of all lines, and each line when it is asked for.

What is shown of a long log comes from ``evaluations.columns.npz`` beside it, as far as the log is
still what that was made of; further lines are read from the log. Jobs do not use it: what they go
on from is the log itself, by :func:`app.records.typed_json.record_files.read_log`.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from app.records.columns.choice_columns import ChoiceColumns, ChoiceTable, Vocabulary
from app.records.columns.columns_file import (
    DIGEST,
    LEAST_BYTES,
    Arrays,
    Origin,
    are_codes,
    are_digests,
    are_flags,
    are_numbers,
    are_places,
    are_texts,
    find_origin,
    name_beside,
    read_columns,
    write_columns,
)
from app.records.columns.stored_sequence import StoredSequence
from app.records.evaluation import EvaluationRecord
from app.records.typed_json.record_files import describe_damaged, is_written, parse_line
from supernet.errors import InputError

_LAYOUT = "evaluations 1"
_NUMBERS = ("value", "low", "high", "balanced", "fidelity", "seconds")
_TEXTS = ("objective", "unit", "split", "source", "checkpoint", "failure", "at")
# Records that are in memory at the same time.
_TOGETHER = 2048
# Arrays are written anew when so large a part of the log is not among them.
_WORTH_WRITING = 0.05


@dataclass(frozen=True, eq=False)
class EvaluationColumns(Sequence[EvaluationRecord]):
    """Every intact line of a log: ``n`` records, and what they say as arrays ``(n,)``.

    Numbers are NaN where a record has none, texts are ``None``. Fields are those of
    :class:`app.records.evaluation.EvaluationRecord`, in the plural for all of them.

    Args:
        records: The records; of a long log they stay in the file until they are asked for.
        digest: Of the architectures.
        choices: The architectures.
        stopped: Whether a candidate was stopped before the whole split.
        samples: Looked at.
        value: Of the objective.
        low: Lower end of its 95 % interval.
        high: Upper end.
        balanced: Mean accuracy over the classes.
        fidelity: Share of the split that was looked at.
        seconds: Spent.
        objective: What was evaluated.
        unit: Of value and interval.
        split: Which samples.
        source: Where the value is from.
        checkpoint: Digest of the weights.
        failure: Why there is no value.
        at: When.
    """

    records: Sequence[EvaluationRecord]
    digest: NDArray[np.str_]
    choices: ChoiceColumns
    stopped: NDArray[np.bool_]
    samples: NDArray[np.int64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    balanced: NDArray[np.float64]
    fidelity: NDArray[np.float64]
    seconds: NDArray[np.float64]
    objective: NDArray[np.object_]
    unit: NDArray[np.object_]
    split: NDArray[np.object_]
    source: NDArray[np.object_]
    checkpoint: NDArray[np.object_]
    failure: NDArray[np.object_]
    at: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.digest)

    @overload
    def __getitem__(self, place: int) -> EvaluationRecord: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[EvaluationRecord]: ...

    def __getitem__(self, place: int | slice) -> EvaluationRecord | Sequence[EvaluationRecord]:
        """One record, or several.

        Raises:
            InputError: The log holds something else by now.
            OSError: It cannot be read any more.
        """
        return self.records[place]

    def __iter__(self) -> Iterator[EvaluationRecord]:
        return iter(self.records)


@dataclass(frozen=True)
class _Part:
    """What is known of the first lines of a log.

    Args:
        origin: The bytes of these lines.
        lines: How many they are.
        damaged: Number, beginning and end of those that are left out.
        arrays: One entry for each record that is not.
        texts: What the codes among the arrays stand for.
        choices: The architectures.
    """

    origin: Origin
    lines: int
    damaged: tuple[tuple[int, int, int], ...]
    arrays: Arrays
    texts: dict[str, list[str | None]]
    choices: ChoiceColumns


def read_evaluations(path: Path, say: Callable[[str], None]) -> EvaluationColumns:
    """Every intact line of a log, to be shown; a torn last line is left out, as a damaged one is.

    Args:
        path: The log; one that is missing has no lines.
        say: Told in one sentence about lines that were left out, if there are any.

    Raises:
        OSError: The log cannot be read.
    """
    path = Path(path)
    if not path.exists():
        return no_evaluations()
    with path.open("rb") as file:
        before = _read_part(path, file)
        if before is None:
            before = _nothing()
        file.seek(before.origin.size)
        part, torn = _take_in(path, file, before)
    size = part.origin.size
    if size >= LEAST_BYTES and size - before.origin.size > _WORTH_WRITING * size:
        _write_part(path, part)
    count = len(part.damaged) + is_written(torn)
    if count:
        say(describe_damaged(_explain_first(path, part, torn), count))
    return _finish(path, part)


def keep_evaluation_columns(path: Path) -> None:
    """Write the arrays beside a long log anew, so that it is quick to show from then on.

    Args:
        path: The log; whoever wrote it was told what is wrong with it.

    Raises:
        OSError: The log cannot be read.
    """
    if path.exists() and path.stat().st_size >= LEAST_BYTES:
        read_evaluations(path, lambda _warning: None)


def no_evaluations() -> EvaluationColumns:
    """The columns of a log without lines."""
    return _finish(Path(), _nothing())


def _nothing() -> _Part:
    arrays: dict[str, NDArray[Any]] = {name: np.empty(0) for name in _NUMBERS}
    arrays |= {name: np.empty(0, np.int32) for name in _TEXTS}
    arrays |= {name: np.empty(0, np.int64) for name in ("start", "end", "samples")}
    arrays |= {"digest": np.empty(0, DIGEST), "stopped": np.empty(0, np.bool_)}
    texts: dict[str, list[str | None]] = {name: [] for name in _TEXTS}
    return _Part(Origin(0, 0), 0, (), arrays, texts, ChoiceTable().finish())


def _take_in(path: Path, lines: Iterable[bytes], before: _Part) -> tuple[_Part, bytes]:
    """What is known when further lines are read, and the torn line at the end."""
    table = _Table(before)
    number, origin, damaged, torn = before.lines, before.origin, list(before.damaged), b""
    for line in lines:
        if not line.endswith(b"\n"):
            torn = line
            break
        number += 1
        start = origin.size
        origin = origin.extend(line)
        try:
            record = _parse_line(path, line[:-1], number)
        except InputError:
            damaged.append((number, start, origin.size - 1))
        else:
            table.append(record, start, origin.size - 1)
    return table.finish(origin, number, tuple(damaged)), torn


def _parse_line(path: Path, line: bytes, number: int) -> EvaluationRecord:
    bare = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    return parse_line(bare, EvaluationRecord, path, number)


class _Table:
    """Arrays while they grow, from records of which few are kept at a time."""

    def __init__(self, before: _Part) -> None:
        self._parts = [before.arrays]
        self._vocabularies = {name: Vocabulary(before.texts[name]) for name in _TEXTS}
        self._choices = ChoiceTable(before.choices)
        self._new: list[EvaluationRecord] = []
        self._places: list[tuple[int, int]] = []

    def append(self, record: EvaluationRecord, start: int, end: int) -> None:
        """Take in a record from its place in the log."""
        self._new.append(record)
        self._places.append((start, end))
        if len(self._new) == _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        new, places = self._new, np.array(self._places, dtype=np.int64).reshape(-1, 2)
        arrays: dict[str, NDArray[Any]] = {"start": places[:, 0], "end": places[:, 1]}
        for name in _NUMBERS:
            arrays[name] = np.array([getattr(r, name) for r in new], dtype=np.float64)
        for name, known in self._vocabularies.items():
            arrays[name] = np.array([known.encode(getattr(r, name)) for r in new], dtype=np.int32)
        arrays["samples"] = np.array([r.samples for r in new], dtype=np.int64)
        arrays["stopped"] = np.array([r.stopped for r in new], dtype=np.bool_)
        arrays["digest"] = np.array([r.digest for r in new], dtype=DIGEST)
        self._choices.append([r.architecture for r in new])
        self._parts.append(arrays)
        self._new, self._places = [], []

    def finish(
        self, origin: Origin, lines: int, damaged: tuple[tuple[int, int, int], ...]
    ) -> _Part:
        """Everything in one piece."""
        self._flush()
        arrays = {n: np.concatenate([p[n] for p in self._parts]) for n in self._parts[0]}
        texts: dict[str, Any] = {name: known.values for name, known in self._vocabularies.items()}
        return _Part(origin, lines, damaged, arrays, texts, self._choices.finish())


def _finish(path: Path, part: _Part) -> EvaluationColumns:
    arrays = part.arrays
    columns: dict[str, Any] = {name: arrays[name] for name in (*_NUMBERS, "samples", "stopped")}
    for name in _TEXTS:
        # One entry more, so that there is something to take from where nothing was said.
        columns[name] = np.array([*part.texts[name], None], dtype=np.object_)[arrays[name]]
    digest = arrays["digest"].astype(np.str_)
    parse = partial(_parse_record, path)
    records = StoredSequence(path, arrays["start"], arrays["end"], digest, parse)
    return EvaluationColumns(records=records, digest=digest, choices=part.choices, **columns)


def _parse_record(path: Path, line: bytes) -> tuple[EvaluationRecord, str]:
    # Which line it is matters for the first one alone, before which a mark may stand.
    record = _parse_line(path, line, 1)
    return record, record.digest


def _explain_first(path: Path, part: _Part, torn: bytes) -> str:
    """What is wrong with the first damaged line, as a sentence."""
    number, line = part.lines + 1, torn
    if part.damaged:
        number, start, end = part.damaged[0]
        with path.open("rb") as file:
            file.seek(start)
            line = file.read(end - start)
    try:
        _parse_line(path, line, number)
    except InputError as error:
        return str(error)
    raise InputError(f"{path} has changed since it was opened; open it again")


# -- the file of arrays ----------------------------------------------------------------------------


def _write_part(path: Path, part: _Part) -> None:
    header = {
        "origin": [part.origin.size, part.origin.checksum],
        "lines": part.lines,
        "damaged": part.damaged,
        "texts": part.texts,
        "choices": part.choices.names,
        "values": part.choices.values,
    }
    arrays = {**part.arrays, "choices": part.choices.codes}
    write_columns(name_beside(path), _LAYOUT, header, arrays)


def _read_part(path: Path, file: BinaryIO) -> _Part | None:
    """What the arrays beside a log say of its first lines; ``None`` where they are of no use."""
    found = read_columns(name_beside(path), _LAYOUT)
    if found is None:
        return None
    header, arrays = found
    try:
        size, checksum = header["origin"]
        values = tuple(map(tuple, header["values"]))
        choices = ChoiceColumns(tuple(header["choices"]), values, arrays["choices"])
        part = _Part(
            Origin(size, checksum),
            header["lines"],
            tuple((number, start, end) for number, start, end in header["damaged"]),
            {name: arrays[name] for name in _nothing().arrays},
            {name: header["texts"][name] for name in _TEXTS},
            choices,
        )
        usable = find_origin(file, size) == part.origin and _is_sound(part)
    except (KeyError, TypeError, ValueError):
        return None
    return part if usable else None


def _is_sound(part: _Part) -> bool:
    """Whether arrays fit each other, so that nothing that shows them meets a surprise."""
    arrays, count = part.arrays, len(part.arrays["start"])
    damaged = np.array(part.damaged, dtype=np.int64).reshape(-1, 3)
    return (
        are_places(arrays["start"], arrays["end"], part.origin.size)
        and are_places(damaged[:, 1], damaged[:, 2], part.origin.size)
        and part.lines == count + len(damaged)
        and all(are_numbers(arrays[name], count) for name in _NUMBERS)
        and all(map(are_texts, part.texts.values()))
        and all(are_codes(arrays[n], np.int32, 0, len(part.texts[n])) for n in _TEXTS)
        and all(arrays[name].shape == (count,) for name in (*_TEXTS, "samples"))
        and arrays["samples"].dtype == np.int64
        and are_digests(arrays["digest"], count)
        and are_flags(arrays["stopped"], count)
        and len(part.choices) == count
        and part.choices.are_sound
    )

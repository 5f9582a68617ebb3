"""Answers of networks on disk: one line for each training, whole or not there at all."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from supernet import files
from supernet.dataclass_json import decode_dataclass, encode_dataclass
from supernet.errors import InputError


@dataclass(frozen=True)
class Record:
    """What one training left behind.

    Args:
        task: Name of the task.
        recipe: Name of the recipe, or ``"alone"``.
        settings: Hash of all that decided the answers.
        seed: Number of the repetition.
        steps: Optimiser steps.
        networks: Digests of the networks that answered.
        samples: How many samples they answered.
        answers: Right and wrong answers of each network, packed; none where training diverged.
        cpu_seconds: Processor time of training.
        diverged: What happened where training diverged.
    """

    task: str
    recipe: str
    settings: str
    seed: int
    steps: int
    networks: tuple[str, ...]
    samples: int
    answers: tuple[str, ...]
    cpu_seconds: float
    diverged: str = ""

    def __post_init__(self) -> None:
        if len(self.answers) != (0 if self.diverged else len(self.networks)):
            raise InputError(f"{len(self.networks)} networks have {len(self.answers)} answers")
        for packed in self.answers:
            unpack_answers(packed, self.samples)

    def unpack(self, networks: tuple[str, ...]) -> NDArray[np.bool_]:
        """Right answers ``(networks, samples)`` of some of the record's networks, in their order.

        They must be covered.
        """
        packed = dict(zip(self.networks, self.answers, strict=True))
        return np.array([unpack_answers(packed[name], self.samples) for name in networks])

    def covers(self, networks: tuple[str, ...]) -> bool:
        """Whether all of these answered, or none because training diverged."""
        return set(networks) <= set(self.networks)


class Records:
    """A file of records; the last of several with the same settings holds.

    Args:
        path: The file; it need not exist. A torn last line is as if it were not there.

    Raises:
        InputError: A whole line is no record; the message names file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Record] = {}
        for number, payload in enumerate(files.read_records(path), start=1):
            try:
                record = decode_dataclass(Record, payload, "the record")
            except InputError as error:
                raise InputError(
                    f"{path}, line {number} is damaged ({error}); remove that line"
                ) from error
            self._known[record.settings] = record

    def find(self, settings: str, networks: tuple[str, ...]) -> Record | None:
        """Find the record of a training whose networks include all of these."""
        found = self._known.get(settings)
        return found if found is not None and found.covers(networks) else None

    def append(self, record: Record) -> None:
        """Keep a record, on disk first.

        Raises:
            OSError: It could not be written; all others are as they were.
        """
        files.append_record(self.path, encode_dataclass(record))
        self._known[record.settings] = record


def pack_answers(right: NDArray[np.bool_]) -> str:
    """Pack right and wrong answers ``(samples,)``, eight to a byte, as base64."""
    return base64.b64encode(np.packbits(right).tobytes()).decode("ascii")


def unpack_answers(packed: str, samples: int) -> NDArray[np.bool_]:
    """Unpack what :func:`pack_answers` made of ``samples`` answers.

    Raises:
        InputError: It is not base64 of so many answers.
    """
    try:
        content = np.frombuffer(base64.b64decode(packed, validate=True), dtype=np.uint8)
    except binascii.Error as error:
        raise InputError(f"answers are not base64: {error}") from error
    if len(content) != -(-samples // 8):
        raise InputError(f"{len(content)} bytes hold no {samples} answers")
    return np.unpackbits(content, count=samples).astype(bool)

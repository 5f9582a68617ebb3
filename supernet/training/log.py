"""Progress of a training: values for the caller, lines for ``metrics.jsonl``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

from supernet import checksums, files


@dataclass(frozen=True)
class Progress:
    """One report of the training loop.

    Args:
        step: Steps done.
        steps: Steps of the whole training.
        loss_largest: Loss of the largest network on the labels of this batch, in nats; ``None``
            when it was not in the step.
        loss_smallest: The same loss of the smallest network.
        loss_sampled: The mean of the same loss over the other networks of the step; ``None`` when
            there was no other.
        learning_rate: Learning rate of this step.
        seconds: Since this process began to train.
        samples_per_second: Training samples per second since the last report.
    """

    step: int
    steps: int
    loss_largest: float | None
    loss_smallest: float | None
    loss_sampled: float | None
    learning_rate: float
    seconds: float
    samples_per_second: float


class Log:
    """Appends to the metrics file and calls back; the lines of undone steps are dropped first.

    Args:
        path: The metrics file.
        start: Step the training continues from.
        steps: Steps of the whole training.
        batch_size: Samples per step.
        progress: The caller's function, if any.
        stepped: Likewise, for the number of steps alone; called at once.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        steps: int,
        batch_size: int,
        progress: Callable[[Progress], None] | None,
        stepped: Callable[[int, int], None] | None = None,
    ) -> None:
        found = checksums.read_log(path)
        usable: list[dict[str, Any]] = [line for line in found if _is_line(line)]
        self.notes: tuple[str, ...] = ()
        if len(usable) < len(found):
            aside = files.set_aside(path)
            self.notes = (f"{path} is damaged; it was moved to {aside}, without use for training",)
        kept = [checksums.seal(line) for line in usable if line["step"] <= start]
        files.write_text(path, "".join(f"{json.dumps(line)}\n" for line in kept))
        self.path, self.steps, self.batch_size, self.progress = path, steps, batch_size, progress
        self.began = self.time = time.perf_counter()
        self.step = start
        self.stepped = stepped
        self.count(start)

    def count(self, step: int) -> None:
        """Tell that ``step`` steps are done, of which there is nothing to write."""
        if self.stepped is not None:
            self.stepped(step, self.steps)

    def write(
        self,
        step: int,
        largest: float | None,
        smallest: float | None,
        sampled: float | None,
        rate: float,
    ) -> None:
        """Report ``step`` steps done."""
        now = time.perf_counter()
        samples = (step - self.step) * self.batch_size
        line = Progress(
            step=step,
            steps=self.steps,
            loss_largest=largest,
            loss_smallest=smallest,
            loss_sampled=sampled,
            learning_rate=rate,
            seconds=round(now - self.began, 3),
            samples_per_second=round(samples / max(now - self.time, 1e-9), 1),
        )
        checksums.append_record(self.path, asdict(line))
        if self.progress is not None:
            self.progress(line)
        self.step, self.time = step, now


def _is_line(record: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(record, dict) and isinstance(record.get("step"), int)

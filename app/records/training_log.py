"""``metrics.jsonl``: how the losses of a training went, a line every few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.records.typed_json.record import Count, FileRecord
from app.records.typed_json.record_files import read_log

FILE = "metrics.jsonl"


class MetricsRecord(FileRecord):
    """One report of the training, as :class:`supernet.training.Progress` describes it.

    Args:
        step: Steps done.
        steps: Steps of the whole training.
        loss_largest: Loss of the largest network on its training batch, in nats; ``None`` where
            it was not in the step.
        loss_smallest: The same of the smallest network.
        loss_sampled: The mean of the same over the other networks of the step; ``None`` where
            there was none, and in logs of before it was kept.
        learning_rate: Learning rate of the step.
        seconds: Since the process began to train.
        samples_per_second: Training samples per second since the last report.
    """

    step: Count
    steps: Count
    loss_largest: float | None = None
    loss_smallest: float | None = None
    loss_sampled: float | None = None
    learning_rate: float | None = None
    seconds: float | None = None
    samples_per_second: float | None = None

    @property
    def has_losses(self) -> bool:
        """Whether it says how good any network was."""
        losses = (self.loss_largest, self.loss_smallest, self.loss_sampled)
        return any(loss is not None for loss in losses)


def read_metrics(run: Path, say: Callable[[str], None]) -> list[MetricsRecord]:
    """The reports of a training in the order of their steps; none where nothing was trained.

    Args:
        run: The run directory.
        say: Told in one sentence about damaged lines, which are left out.
    """

    def say_what(warning: str) -> None:
        # Nobody finds the losses of an old step anew.
        say(warning.removeprefix("warning: ").partition("; what it said")[0])

    rows = read_log(run / FILE, MetricsRecord, say_what)
    return sorted(rows, key=lambda row: row.step)

"""What a running job tells of itself: lines for people, and steps that lines or bars show.

A job is given a function (:data:`Say`) that it calls as often as it likes; how often something is
shown, and in which form, is not its concern. All it says has a text, so that ``print`` will do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.records.numbers import format_items

# What a line begins with that is shown whatever else is not.
WARNING = "warning: "


@dataclass(frozen=True, slots=True)
class Step:
    """How far a job is with what it does now; telling of another task ends the one before.

    Args:
        task: What is being done: ``"train"``, ``"reading folder:images"``.
        done: How much of it.
        total: How much there is; ``None`` where nobody knows.
        unit: What is counted, in the singular.
        figures: How it goes, such as losses; where it is empty, what was told before holds.
        passing: Whether its end is worth no word unless it took long.
    """

    task: str
    done: int = 0
    total: int | None = None
    unit: str = "step"
    figures: str = ""
    passing: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing is left of the task."""
        return self.total is not None and self.done >= self.total

    @property
    def counts(self) -> str:
        """How much is done, and of how much if that is known: ``12/1,300 steps``."""
        if self.total is None:
            return format_items(self.done, self.unit) if self.done else ""
        return f"{self.done:,}/{format_items(self.total, self.unit)}"

    def __str__(self) -> str:
        """One line: ``train: 40/300 steps, loss largest 0.512``."""
        parts = ", ".join(part for part in (self.counts, self.figures) if part)
        return f"{self.task}: {parts}" if parts else self.task


Say = Callable[[str | Step], None]
"""Told what a job does: a line that is shown at once, or a :class:`Step` that may be passed over.

A line that begins with :data:`WARNING` is shown even when everything else is not.
"""


def say_nothing(fact: str | Step) -> None:
    """Show it to nobody."""

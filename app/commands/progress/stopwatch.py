"""The task that a command is at: since when, how far, and how long it may still take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from app.progress import Step

# Speeds measured in less than so many seconds say little of what is left.
SOON = 3.0


@dataclass
class Stopwatch:
    """Follows the steps of a command, one task at a time.

    Args:
        clock: Tells the time in seconds.
        step: What was told last, with the figures that still hold.
    """

    clock: Callable[[], float]
    step: Step | None = None
    _began: float = field(default=0.0, init=False)
    _from: int = field(default=0, init=False)

    def follow(self, step: Step) -> bool:
        """Take in what is told; returns whether it begins another task."""
        before = self.step
        begins = before is None or before.task != step.task or step.done < before.done
        if begins:
            self._began, self._from = self.clock(), step.done
        elif before is not None and not step.figures:
            step = replace(step, figures=before.figures)
        self.step = step
        return begins

    @property
    def seconds(self) -> float:
        """Seconds since the task began."""
        return self.clock() - self._began

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest takes at the speed so far; ``None`` where that cannot be known."""
        step = self.step
        if step is None or step.total is None or step.done <= self._from or step.complete:
            return None
        if self.seconds < SOON:
            return None
        return (step.total - step.done) * self.seconds / (step.done - self._from)


def write_duration(seconds: float) -> str:
    """Write a duration in its two largest units: ``8 s``, ``2 min 5 s``, ``3 h 20 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

"""Progress as plain lines, for pipes, files and terminals that cannot draw: as often as helps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.commands.progress.stopwatch import Stopwatch, write_duration
from app.progress import Step

# Seconds between lines while there is news to tell.
PACE = 5.0
# Seconds without a word before a line says that the same is still going on.
PATIENCE = 8.0
# Seconds that a task may take without being mentioned.
UNMENTIONED = 2.0
# Seconds between looks at the clock.
_BEAT = 0.5


class Lines:
    """Writes what a command does, and that it still does it; several threads may call it.

    The first task is said at once, later ones when they last; counts at most every :data:`PACE`
    seconds, and the end of what is not passing always. :meth:`beat` breaks longer silences.

    Args:
        write: Writes a line.
        clock: Tells the time in seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._write, self._clock = write, clock
        self._watch = Stopwatch(clock)
        self._lock = threading.Lock()
        self._spoke: float | None = None
        self._mentioned = False

    def say(self, line: str) -> None:
        """Write a line at once."""
        with self._lock:
            self._put(line)

    def show(self, step: Step) -> None:
        """Write a step, if it is time."""
        with self._lock:
            was_complete = self._watch.step is not None and self._watch.step.complete
            if self._watch.follow(step):
                self._mentioned = was_complete = False
            now = self._watch.step
            assert now is not None, "it was followed just now"
            if self._spoke is None:
                self._mention(f"{now} ...")
            elif now.complete:
                if not was_complete and (self._mentioned or not now.passing):
                    self._mention(str(now))
            elif self._mentioned and self._silence >= PACE:
                self._mention(self._describe())

    def beat(self) -> None:
        """Break a silence that has become long."""
        with self._lock:
            step = self._watch.step
            if step is None or self._spoke is None:
                return
            new = not self._mentioned and min(self._watch.seconds, self._silence) >= UNMENTIONED
            if self._silence >= PATIENCE or (new and not step.complete):
                self._mention(self._describe())

    @property
    def _silence(self) -> float:
        return self._clock() - (self._spoke or 0.0)

    def _describe(self) -> str:
        """The step and how long it will take, or has taken where nobody knows."""
        left = self._watch.seconds_left
        time_of_it = (
            f"{write_duration(self._watch.seconds)} so far"
            if left is None
            else f"about {write_duration(left)} left"
        )
        return f"{self._watch.step}, {time_of_it}"

    def _mention(self, line: str) -> None:
        self._mentioned = True
        self._put(line)

    def _put(self, line: str) -> None:
        self._spoke = self._clock()
        self._write(line)


class Heartbeat:
    """Beats for lines as long as a command runs, whatever its own thread is busy with.

    Args:
        lines: Whose silences it breaks.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; returns once the last line is written."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_BEAT):
            try:
                self._lines.beat()
            except OSError:
                # Nobody reads any more; the command meets the same at its own next line.
                return

"""Progress as one bar at the bottom of a terminal, above it the lines that stay."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.commands.plain_text import write_line
from app.commands.progress.stopwatch import Stopwatch, write_duration
from app.progress import Step

# Few, since each takes time of a processor that may be measuring latencies.
REFRESHES_PER_SECOND = 2
# Columns; a shorter bar would tell nothing.
NARROWEST_BAR, WIDEST_BAR = 8, 30


def open_console(stream: TextIO) -> Console | None:
    """Open a console that can draw bars; ``None`` where the stream is no terminal, or a dumb one.

    Args:
        stream: Where progress goes.
    """
    if not stream.isatty():
        return None
    # What is shown may come from anybody: no markup, no emoji codes, no colouring of numbers.
    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    drawable = console.is_terminal and console.is_interactive and not console.is_dumb_terminal
    return console if drawable else None


class Bars:
    """Draws what a command does, and writes what is to stay; several threads may call it.

    Args:
        console: Where to draw.
        clock: Tells the time in seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._watch = console, Stopwatch(clock)
        self._lock = threading.Lock()
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            # Results are not for this stream; what libraries say goes above the bar.
            redirect_stdout=False,
        )
        self._live.start()
        # A killed process could not bring a hidden cursor back.
        console.show_cursor(True)

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        self._console.print(Text(write_line(line)), soft_wrap=True)

    def show(self, step: Step) -> None:
        """Move the bar; what is complete stays as a line."""
        with self._lock:
            was_complete = self._watch.step is not None and self._watch.step.complete
            begins = self._watch.follow(step)
            now = self._watch.step
        assert now is not None, "it was followed just now"
        ends = now.complete and (begins or not was_complete)
        if begins or ends:
            self._live.refresh()
        if ends and not now.passing:
            self.say(str(now))

    def close(self) -> None:
        """Take the bar away and leave the lines."""
        self._live.stop()

    def _draw(self) -> RenderableType:
        with self._lock:
            return draw_step(self._watch, self._console.width)


def draw_step(watch: Stopwatch, width: int) -> RenderableType:
    """Draw the step that a command is at as one line, with as much of it as fits.

    Args:
        watch: Which step, and since when.
        width: Columns of the terminal.
    """
    step = watch.step
    if step is None:
        return Text("")
    left = watch.seconds_left
    passed = write_duration(watch.seconds)
    times = passed if left is None else f"{passed}, {write_duration(left)} left"
    # Some terminals begin a new line once the last column is filled.
    room = width - 1
    task = Text(write_line(step.task))
    task.truncate(max(1, room // 2, room - len(step.counts) - 1), overflow="ellipsis")
    room -= task.cell_len
    told = []
    # What matters most comes first; what does not fit is left out.
    for text in map(Text, filter(None, (step.counts, times, write_line(step.figures)))):
        if text.cell_len < room:
            told.append(text)
            room -= text.cell_len + 1
    cells = [task, *_draw_bar(step, watch.seconds, min(WIDEST_BAR, room - 1)), *told]
    grid = Table.grid(padding=(0, 1, 0, 0))
    for _ in cells:
        grid.add_column(no_wrap=True, overflow="crop")
    grid.add_row(*cells)
    return grid


def _draw_bar(step: Step, seconds: float, width: int) -> list[RenderableType]:
    if width < NARROWEST_BAR:
        return []
    done = 1.0 if step.total == 0 else step.done
    total = None if step.total is None else max(step.total, 1)
    return [ProgressBar(total=total, completed=done, width=width, animation_time=seconds)]

"""Where the progress of a command goes: chosen once, when the command starts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from app.commands import terminal
from app.commands.progress.lines import Heartbeat, Lines
from app.progress import WARNING, Say, Step, say_nothing

FIRST = Step("loading libraries", passing=True)


@contextmanager
def showing(*, quiet: bool) -> Iterator[Say]:
    """Show the progress of a command on standard error until it ends, however it ends.

    Something is shown at once: what follows may import for seconds. On a terminal there is a bar,
    elsewhere lines; of the processes of ``torchrun`` the first one shows it.

    Args:
        quiet: Show warnings alone.

    Yields:
        What the job is given to tell it.
    """
    if not terminal.speaks() or sys.stderr is None:
        yield say_nothing
    elif quiet:
        yield _warn
    elif sys.stderr.isatty():
        with _drawing() as say:
            yield say
    else:
        with _writing() as say:
            yield say


@contextmanager
def _writing() -> Iterator[Say]:
    lines = Lines(terminal.say)
    lines.show(FIRST)
    heartbeat = Heartbeat(lines)
    try:
        yield lambda fact: lines.show(fact) if isinstance(fact, Step) else lines.say(fact)
    finally:
        heartbeat.stop()


@contextmanager
def _drawing() -> Iterator[Say]:
    # Rich takes a tenth of a second, which only what is drawn is worth.
    from app.commands.progress.bars import Bars, open_console

    console = open_console(sys.stderr)
    if console is None:
        with _writing() as say:
            yield say
        return
    bars = Bars(console)
    bars.show(FIRST)
    try:
        yield lambda fact: bars.show(fact) if isinstance(fact, Step) else bars.say(fact)
    finally:
        bars.close()


def _warn(fact: str | Step) -> None:
    if isinstance(fact, str) and fact.startswith(WARNING):
        terminal.say(fact)

"""Thousands of hostile command lines: each is done or refused in one sentence, and harms nothing.

The default suite draws a small sample; the whole, ten thousand and more, is ``-m slow``. A case is
drawn by its number alone, so that one that failed is tried again by

    python -m pytest -n 0 -m slow tests/app/test_fuzz.py
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import pytest

from app.commands import errors, main
from app.commands.plain_text import MOST_IN_LINE
from app.evaluation.log import find_architecture
from app.runs.directory import open_run
from app.runs.trained import build
from tests.app.hostile import (
    Line,
    Sandbox,
    draw_architecture,
    draw_configuration,
    draw_limit_line,
    draw_line,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="alarms and pipes are POSIX")
SECONDS = 60
MOST_SHOWN = 12


class Hung(BaseException):
    """A case took too long; no handler of exceptions of the product takes it."""


@dataclass
class Guard:
    """What a case writes to, as Python's audit events tell.

    Args:
        allowed: Folders that it may write to.
        watching: Whether a case runs.
        strayed: What it wrote elsewhere.
    """

    allowed: list[str] = field(default_factory=list)
    watching: bool = False
    strayed: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        """Take an audit event."""
        if not self.watching or event not in _WRITES:
            return
        if event == "open" and not _opens_to_write(arguments):
            return
        for position in _WRITES[event]:
            path = arguments[position]
            # A path that is relative to an open folder belongs to a tree whose removal was told.
            if isinstance(path, (str, bytes, os.PathLike)) and not _is_below_open(event, arguments):
                full = os.path.realpath(os.fsdecode(path))
                if not any(full == a or full.startswith(a + os.sep) for a in self.allowed):
                    self.strayed.append(f"{event} {full}")


# Which arguments of an event are paths that change.
_WRITES = {
    "open": (0,),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "shutil.rmtree": (0,),
}
_HARMLESS = ("/dev/null", "/dev/tty")


def _is_below_open(event: str, arguments: tuple[object, ...]) -> bool:
    folder = arguments[-1] if event in ("os.remove", "os.rmdir") else -1
    return isinstance(folder, int) and folder >= 0


def _opens_to_write(arguments: tuple[object, ...]) -> bool:
    path, _, flags = arguments
    writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return writes and path not in _HARMLESS


@pytest.fixture(scope="session")
def guard() -> Guard:
    """The one guard of this process: an audit hook stays for ever."""
    found = Guard()
    sys.addaudithook(found)
    return found


@pytest.fixture
def sandbox(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    """A finished run and what else hostile lines name, with the working directory inside."""
    box = Sandbox(tmp_path, tmp_path / "run")
    shutil.copytree(finished_run, box.run)
    box.fill()
    monkeypatch.chdir(box.here)
    monkeypatch.setenv("HOME", str(box.root / "home"))
    monkeypatch.setenv("TMPDIR", str(box.root / "temporary"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    yield box
    signal.signal(signal.SIGALRM, before)


@dataclass
class Tally:
    """What became of all cases."""

    codes: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def check(self, count: int) -> None:
        """Fail with the first faults, unless there is none."""
        assert sum(self.codes.values()) + len(self.faults) >= count
        shown = "\n\n".join(self.faults[:MOST_SHOWN])
        assert not self.faults, f"{len(self.faults)} of {count} cases:\n\n{shown}"
        assert self.codes[errors.BAD_INPUT] > count / 2, "most are refused"


def judge(line: Line, sandbox: Sandbox, guard: Guard, tally: Tally, label: str) -> None:
    """Run a command line in this process and note what is wrong about it."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
    guard.allowed, guard.strayed = [*_list_given(line, sandbox)], []
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    guard.watching = True
    fault, code = "", -1
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.run(line.arguments)
    except Hung:
        fault = f"no end after {SECONDS} s"
    except BaseException:  # whatever comes out of a command is a fault
        fault = traceback.format_exc()
    finally:
        guard.watching = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    said, shown = (stream.buffer.getvalue().decode() for stream in (err, out))  # type: ignore[attr-defined]
    fault = fault or _find_fault(line, code, said, shown) or ", ".join(guard.strayed)
    if fault:
        words = [word if len(word) < 100 else f"{word[:80]}..." for word in line.arguments]
        tally.faults.append(f"{label}: {words}\nexit code {code}\n{fault}\n{said[-1500:]}")
    else:
        tally.codes[code] += 1


def _find_fault(line: Line, code: int, said: str, shown: str) -> str:
    if "Traceback" in said:
        return "a trace"
    wanted = (errors.OK, errors.BAD_INPUT)
    if code not in wanted and not (code == errors.FAILED and "doctor" in line.arguments):
        return "an exit code that says nothing"
    if code != errors.BAD_INPUT:
        return ""
    lines = said.splitlines()
    if shown or not lines or not lines[-1].startswith("error: ") or said.count("error: ") != 1:
        return f"not one sentence; on standard output: {shown!r}"
    long = [one for one in lines if len(one) > MOST_IN_LINE + len("error: ")]
    return "a line too long" if long or not all(map(str.isprintable, lines)) else ""


def _list_given(line: Line, sandbox: Sandbox) -> Iterator[str]:
    yield str(sandbox.root / "temporary")
    yield os.path.realpath(sandbox.run)
    for path in line.paths:
        bare = path.partition(":")[2] if path.startswith(("folder:", "text:")) else path
        # Others are refused before anything is written.
        with contextlib.suppress(ValueError):
            yield os.path.realpath(bare)


def _run_all(
    draw: Callable[[int, Sandbox], Line], count: int, sandbox: Sandbox, guard: Guard
) -> Tally:
    tally = Tally()
    for number in range(count):
        judge(draw(number, sandbox), sandbox, guard, tally, f"case {number}")
    return tally


def sizes(sample: int, whole: int) -> pytest.MarkDecorator:
    """A sample by default, and all of it among the slow tests."""
    return pytest.mark.parametrize("count", [sample, pytest.param(whole, marks=pytest.mark.slow)])


@sizes(60, 4_500)
def test_command_lines(sandbox: Sandbox, guard: Guard, count: int) -> None:
    _run_all(draw_line, count, sandbox, guard).check(count)


@sizes(40, 3_000)
def test_limits_budgets_and_weights(sandbox: Sandbox, guard: Guard, count: int) -> None:
    _run_all(draw_limit_line, count, sandbox, guard).check(count)


@sizes(30, 1_500)
def test_configuration_files(sandbox: Sandbox, guard: Guard, count: int) -> None:
    _run_all(draw_configuration, count, sandbox, guard).check(count)


@sizes(100, 2_000)
def test_architecture_files(sandbox: Sandbox, count: int) -> None:
    """Read as every command reads them; a few through a whole command."""
    run = open_run(sandbox.run)
    space = build(run).space
    good, tally = space.largest.to_json(), Tally()
    for number in range(count):
        file = draw_architecture(number, good, sandbox)
        try:
            found = find_architecture(run, space, file)
        except Exception as error:
            code = errors.exit_code(error)
            sentence = errors.sentence(error)
            if code != errors.BAD_INPUT or not sentence.isprintable():
                tally.faults.append(f"case {number}: {traceback.format_exc()}")
            else:
                tally.codes[code] += 1
        else:
            assert space.architecture(json.loads(json.dumps(found.to_dict()))) == found
            tally.codes[errors.OK] += 1
    tally.check(count)


@sizes(5, 100)
def test_architecture_files_of_a_command(sandbox: Sandbox, guard: Guard, count: int) -> None:
    good, tally = build(open_run(sandbox.run)).space.largest.to_json(), Tally()
    for number in range(count):
        file = draw_architecture(number, good, sandbox)
        line = Line(("evaluate", "--run", str(sandbox.run), "--arch", file), ())
        judge(line, sandbox, guard, tally, f"case {number}")
    tally.check(count)

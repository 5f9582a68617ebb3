"""Commands as processes: signs of life in pipes, a bar on a terminal, results that are equal."""

from __future__ import annotations

import fcntl
import json
import os
import re
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.app.conftest import Command
from tests.benchmarks.loading import load_benchmark

termios = pytest.importorskip("termios", reason="terminals are POSIX")

ROOT = Path(__file__).parents[2]
# Seconds that a user's own function takes without telling anything, and of them at full load.
BUSY, COMPUTING = 12, 4
OWN_DATA = f"""
import time
import torch

def make():
    begin = time.monotonic()
    while time.monotonic() < begin + {COMPUTING}:
        sum(range(20_000))
    time.sleep({BUSY - COMPUTING})
    draw = torch.Generator().manual_seed(0)
    return [[(torch.rand(1, 8, 8, generator=draw), i % 2) for i in range(40)] for _ in range(3)]
"""
TRAIN = ("train", "--data", "digits", "--steps", "2", "--json")
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


def start(*arguments: object, cwd: Path, stderr: int) -> subprocess.Popen[bytes]:
    """Start a command in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    # Those that run tests in processes may say how wide their own terminal is.
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", "supernet", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        # A suite that runs in the background of a shell ignores Ctrl-C, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@contextmanager
def open_terminal(columns: int) -> Iterator[tuple[int, int]]:
    """Both ends of a terminal of so many columns: what it shows, and what is written to."""
    shown, written = os.openpty()
    fcntl.ioctl(written, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        yield shown, written
    finally:
        os.close(shown)


def read_terminal(
    process: subprocess.Popen[bytes], shown: int, on_text: Callable[[bytes], None] | None = None
) -> bytes:
    """Read what a terminal shows until the process is gone."""
    text, limit = b"", time.monotonic() + 120
    with selectors.DefaultSelector() as selector:
        selector.register(shown, selectors.EVENT_READ)
        while time.monotonic() < limit:
            if not selector.select(0.2):
                if process.poll() is not None:
                    return text
                continue
            try:
                text += os.read(shown, 1 << 16)
            except OSError:
                # Linux says so that nobody holds the other end any more.
                return text
            if on_text is not None:
                on_text(text)
    raise AssertionError(f"still running: {text!r}")


def test_a_busy_command_shows_that_it_lives_and_its_output_is_json(tmp_path: Path) -> None:
    (tmp_path / "slow_data.py").write_text(OWN_DATA)
    read_signs = load_benchmark("first_sign_of_life").read_signs
    began = time.monotonic()
    process = start(
        *("train", "--data", "slow_data:make", "--steps", 2, "--batch-size", 16),
        *("--out", tmp_path / "run", "--json"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = read_signs(began, (process.stderr,))
    assert process.stdout is not None
    result = json.loads(process.stdout.read())
    assert process.wait() == 0, said
    assert result["steps"] == 2
    times = [0.0, *(at for at, _ in said), time.monotonic() - began]
    assert times[1] <= 3
    assert max(after - before for before, after in pairwise(times)) <= 10
    text = b"".join(line for _, line in said).decode()
    assert re.search(r"^reading slow_data:make, [2-4] s so far$", text, re.MULTILINE)
    assert re.search(r"^reading slow_data:make, 1\d s so far$", text, re.MULTILINE)
    assert re.search(r"^train: 2/2 steps, loss", text, re.MULTILINE)
    assert "\x1b" not in text
    assert "\r" not in text


def test_a_terminal_shows_a_bar_and_the_result_is_the_same(
    command: Command, tmp_path: Path
) -> None:
    with open_terminal(60) as (shown, written):
        process = start(*TRAIN, "--out", tmp_path / "drawn", cwd=tmp_path, stderr=written)
        os.close(written)
        text = read_terminal(process, shown)
    assert process.stdout is not None
    drawn = json.loads(process.stdout.read())
    assert process.wait() == 0, text
    assert "loading libraries ━" in strip(text)
    assert re.search(r"train [━╸╺]{8,} \d/2 steps", strip(text))
    assert "train: 2/2 steps, loss sampled" in strip(text)
    # Every frame is one line, so that the bar never has to climb over lines that wrapped.
    frames = re.split(r"[\r\n]+", strip(text))
    assert max(len(frame) for frame in frames if "━" in frame) < 60
    assert text.index(SHOW) - text.index(HIDE) < 20, "a killed process leaves a cursor"
    assert text.rindex(SHOW) > text.rindex(HIDE)
    written_as_lines = json.loads(command(*TRAIN, "--out", tmp_path / "lines").out)
    silent = json.loads(command(*TRAIN, "--out", tmp_path / "silent", "--quiet").out)
    for other in (written_as_lines, silent):
        assert other["checkpoint"] == drawn["checkpoint"]
        assert other.keys() == drawn.keys()
    assert records(tmp_path / "drawn") == records(tmp_path / "lines")


def test_ctrl_c_takes_the_bar_away_and_says_how_to_go_on(tmp_path: Path) -> None:
    with open_terminal(80) as (shown, written):
        process = start(
            *("train", "--data", "digits", "--steps", 100_000, "--out", tmp_path / "run"),
            cwd=tmp_path,
            stderr=written,
        )
        os.close(written)
        sent: list[bool] = []

        def interrupt(text: bytes) -> None:
            if not sent and "/100,000 steps" in strip(text):
                sent.append(True)
                process.send_signal(signal.SIGINT)

        text = read_terminal(process, shown, interrupt)
    assert process.wait() == 130
    assert strip(text).rstrip().endswith("interrupted; the same command continues where it stopped")
    assert text.rindex(SHOW) > text.rindex(HIDE)
    assert "Traceback" not in strip(text)


def test_results_stand_alone_where_standard_error_is_closed(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", 'exec "$0" -m supernet families --json 2>&-', sys.executable],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert done.returncode == 0
    assert "ofa_mobilenetv3" in {family["name"] for family in json.loads(done.stdout)}


def strip(text: bytes) -> str:
    """What is seen: no colours and no movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode(errors="replace"))


def records(run: Path) -> list[dict[str, object]]:
    """The training log without times."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    timed = ("seconds", "samples_per_second", "sha256", "checksum")
    return [{name: v for name, v in line.items() if name not in timed} for line in lines]

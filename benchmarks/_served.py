"""Servers of pages as processes, what they take, and a headless Chromium that looks at them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
_WAIT_MS = 60_000
_PAUSE = 0.01


def find_free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
        return port


@contextlib.contextmanager
def started(command: Sequence[str]) -> Iterator[int]:
    """Run a server while the block lasts; gives the number of its process."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process.pid
    finally:
        # The command may have started others.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def wait_for_answer(address: str, seconds: float = 300) -> None:
    """Wait until a server answers at all.

    Raises:
        TimeoutError: It does not.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(_PAUSE)
    raise TimeoutError(f"no answer from {address} in {seconds:.0f} s")


@contextlib.contextmanager
def chromium(name: str) -> Iterator[Any]:
    """A Chromium that opens pages, by its name or path."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(name) or name, args=_FLAGS
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def new_page(browser: Any) -> Iterator[Any]:
    """A page of a size that laptops have, with nothing remembered."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(_WAIT_MS)
    try:
        yield page
    finally:
        context.close()


def measure_memory(pid: int) -> dict[str, float]:
    """Megabytes of a process and all that it started: resident, and with shared pages divided."""
    found = {"rss_mb": 0.0, "pss_mb": 0.0, "peak_rss_mb": 0.0}
    for process in (pid, *_list_children(pid)):
        with contextlib.suppress(OSError):
            rollup = _read_kilobytes(Path(f"/proc/{process}/smaps_rollup"))
            status = _read_kilobytes(Path(f"/proc/{process}/status"))
            found["rss_mb"] += rollup["Rss"] / 1024
            found["pss_mb"] += rollup["Pss"] / 1024
            found["peak_rss_mb"] += status["VmHWM"] / 1024
    return {name: round(value, 1) for name, value in found.items()}


def measure_processor(pid: int) -> float:
    """Seconds of processor time that a process and all that it started have taken."""
    ticks = 0
    for process in (pid, *_list_children(pid)):
        with contextlib.suppress(OSError):
            # The name of the program may hold spaces; times come 11 entries after it.
            entries = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(entries[11]) + int(entries[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _read_kilobytes(path: Path) -> dict[str, int]:
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if line.endswith(" kB"))
    return {name: int(rest.split()[0]) for name, rest in pairs}


def _list_children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_list_children(child)]
    return found

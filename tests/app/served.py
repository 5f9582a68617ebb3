"""An explorer that is served as a user serves it, for tests in a real browser."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.explorer.launch import explore_command

# Where pictures of what was tested are left, if somewhere.
PICTURES = os.environ.get("EXPLORER_PICTURES")


@contextmanager
def serve_runs(runs: Sequence[Path], folder: Path) -> Iterator[str]:
    """Serve runs until the end of the block; gives the address.

    Args:
        runs: What is shown.
        folder: Where the server is started and leaves its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            explore_command(runs, port=port, headless=True),
            stdout=log, stderr=subprocess.STDOUT, cwd=folder,
            env={**os.environ, "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"},
        )  # fmt: skip
        try:
            _wait_until_healthy(process, f"http://localhost:{port}/_stcore/health")
            yield f"http://localhost:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_until_idle(page: Any) -> None:
    """Wait until the script of a page has run and nothing of it is left to be drawn."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.wait_for_timeout(150)
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def keep_picture(page: Any, name: str) -> None:
    """Keep a picture of a page, all of it, where somebody wants some."""
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        size = page.viewport_size
        block = "document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight"
        page.set_viewport_size({**size, "height": int(page.evaluate(block)) + 60})
        wait_until_idle(page)
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"))
        page.set_viewport_size(size)


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended by itself"
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    pytest.fail("the server did not answer within a minute")

"""Serving the explorer: a Streamlit process on this machine, for runs that exist."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from app.explorer.launch import explore_command
from app.runs.run_view import find_runs
from supernet.errors import InputError

DEFAULT = Path("runs")


def prepare(runs: Sequence[Path], port: int | None, headless: bool) -> list[str]:
    """The command that serves the explorer.

    Args:
        runs: Run directories or folders of runs; by default ``runs`` in the working directory.
        port: TCP port; Streamlit's own choice without it.
        headless: Open no browser.

    Raises:
        ValueError: There is no run to show, or an impossible port.
    """
    wanted = list(runs) or [DEFAULT]
    for path in wanted:
        if not find_runs([path]):
            raise InputError(
                f"there is no run in {path}; `supernet quickstart` makes one"
                if path == DEFAULT
                else f"{path} is not a run directory and holds none"
            )
    if port is not None and not 1 <= port <= 65535:
        raise InputError(f"port {port} cannot work; use 1 to 65535")
    return explore_command([path.resolve() for path in wanted], port=port, headless=headless)


def explore_job(command: Sequence[str]) -> int:
    """Serve the explorer until it is stopped; returns its exit code."""
    return subprocess.run(command, check=False).returncode

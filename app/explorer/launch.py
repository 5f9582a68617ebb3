"""How the explorer is started: a Streamlit process on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def explore_command(
    runs: Sequence[Path], *, port: int | None = None, headless: bool = False
) -> list[str]:
    """The process that serves the explorer on this machine, ready for ``subprocess.run``.

    Args:
        runs: Run directories, or folders that contain some.
        port: TCP port; Streamlit's default (8501, or the next free one) without it.
        headless: Do not open a browser.
    """
    options = {
        "server.address": "localhost",
        "server.headless": "true" if headless else "false",
        # On a first start Streamlit would wait for an e-mail address on the terminal.
        "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    if port is not None:
        options["server.port"] = str(port)
    script = Path(__file__).with_name("page.py")
    flags = [f"--{name}={value}" for name, value in options.items()]
    names = [str(run) for run in runs]
    return [sys.executable, "-m", "streamlit", "run", str(script), *flags, "--", *names]

"""How the explorer is started: a server of its own, for browsers on this machine alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# What stands before the directory that the user types commands in.
START = "--start"


def explore_command(
    runs: Sequence[Path], *, port: int | None = None, headless: bool = False
) -> list[str]:
    """The process that serves the explorer on this machine, ready for ``subprocess.run``.

    What protects the page is said by flags, which win over every configuration file and over the
    environment.

    Args:
        runs: Run directories, or folders that contain some.
        port: TCP port; Streamlit's default (8501, or the next free one) without it.
        headless: Do not open a browser.
    """
    options = {
        "server.address": "localhost",
        "server.headless": "true" if headless else "false",
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "server.enableStaticServing": "false",
        "server.baseUrlPath": "",
        # The page takes no files; the least that can be said is a megabyte.
        "server.maxUploadSize": "1",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        # On a first start Streamlit would wait for an e-mail address on the terminal.
        "server.showEmailPrompt": "false",
        "browser.serverAddress": "localhost",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "global.developmentMode": "false",
        # A range has a default that makes it one, besides what the address says of it.
        "global.disableWidgetStateDuplicationWarning": "true",
    }
    if port is not None:
        options["server.port"] = options["browser.serverPort"] = str(port)
    script = Path(__file__).with_name("serve.py")
    flags = [f"--{name}={value}" for name, value in options.items()]
    names = [str(run.absolute()) for run in runs]
    return [sys.executable, str(script), *flags, "--", START, str(Path.cwd()), *names]

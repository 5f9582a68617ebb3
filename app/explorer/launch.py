"""How the explorer is started: a server of its own, for browsers on this machine unless asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.explorer.local_requests import is_everywhere

# What stands before the directory that the user types commands in, and before the address that
# others than browsers on this machine may use.
START, ADMIT = "--start", "--admit"
LOCAL = "localhost"


@dataclass(frozen=True)
class PageArguments:
    """What the page and its server are told.

    Args:
        runs: Run directories, or folders that contain some.
        start: The directory that the user types commands in; ``None`` where nobody said.
        admitted: The address that is served besides those of this machine alone; empty for none.
    """

    runs: tuple[str, ...]
    start: Path | None = None
    admitted: str = ""


def read_arguments(arguments: Sequence[str]) -> PageArguments:
    """What :func:`explore_command` wrote after ``--``."""
    rest = list(arguments)
    found = {}
    while len(rest) > 1 and rest[0] in (START, ADMIT):
        found[rest[0]] = rest[1]
        del rest[:2]
    start = found.get(START)
    return PageArguments(tuple(rest), Path(start) if start else None, found.get(ADMIT, ""))


def explore_command(
    runs: Sequence[Path], *, port: int | None = None, headless: bool = False, host: str = LOCAL
) -> list[str]:
    """The process that serves the explorer, ready for ``subprocess.run``.

    What protects the page is said by flags, which win over every configuration file and over the
    environment.

    Args:
        runs: Run directories, or folders that contain some.
        port: TCP port; Streamlit's default (8501, or the next free one) without it.
        headless: Do not open a browser.
        host: The address to serve at; without it, only this machine is served.
    """
    options = {
        "server.address": host,
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
        "browser.serverAddress": LOCAL if is_everywhere(host) else host,
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
    admitted = [] if host == LOCAL else [ADMIT, host]
    return [sys.executable, str(script), *flags, "--", START, str(Path.cwd()), *admitted, *names]

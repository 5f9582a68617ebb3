"""Serving the explorer: a Streamlit process for runs that exist, on this machine unless asked."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from app.explorer.launch import LOCAL, explore_command
from app.runs.run_folders import find_runs
from supernet.errors import InputError

DEFAULT = Path("runs")


def prepare(
    runs: Sequence[Path], port: int | None, headless: bool, host: str | None = None
) -> list[str]:
    """The command that serves the explorer.

    Args:
        runs: Run directories or folders of runs; by default ``runs`` in the working directory.
        port: TCP port; Streamlit's own choice without it.
        headless: Open no browser.
        host: The address to serve at; without it, only this machine is served.

    Raises:
        InputError: There is no run to show, an address that is none of this machine, or a port
            that is impossible or in use.
    """
    wanted = list(runs) or [DEFAULT]
    for path in wanted:
        if not find_runs([path]):
            raise InputError(
                f"there is no run in {path}; `supernet quickstart` makes one"
                if path == DEFAULT
                else f"{path} is not a run directory and holds none"
            )
    host = LOCAL if host is None else host
    _check_host(host)
    if port is not None:
        _check_port(host, port)
    found = [path.resolve() for path in wanted]
    return explore_command(found, port=port, headless=headless, host=host)


def warn_of_host(host: str) -> str:
    """What somebody should know who serves the explorer to other machines."""
    return (
        f"warning: with --host {host} everybody who reaches this machine can see these runs, write "
        "notes in them and export from them; there is no password. Without --host only this "
        "machine is served."
    )


def explore_job(command: Sequence[str]) -> int:
    """Serve the explorer until it is stopped; returns its exit code.

    Where the system allows it, this process becomes the server, so that whatever ends the command
    ends the server, and nothing is returned.
    """
    if os.name == "posix":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(command[0], list(command))
    return subprocess.run(command, check=False).returncode


def _check_host(host: str) -> None:
    """Refuse an address that the server could not listen on."""
    try:
        addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except (OSError, UnicodeError):
        addresses = []
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as tried:
            try:
                tried.bind(address)
            except OSError:
                continue
        return
    raise InputError(
        f"host {host!r} is no address of this machine; use one that it has, such as 0.0.0.0 for "
        "all of them, or leave --host out to serve this machine alone"
    )


def _check_port(host: str, port: int) -> None:
    """Refuse a port that the server could not listen on."""
    if not 1 <= port <= 65535:
        raise InputError(f"port {port} cannot work; use 1 to 65535")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        with socket.socket(family, kind, protocol) as tried:
            if os.name == "posix":
                # As the server does: what an ended one leaves for some seconds does not matter.
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise InputError(
                        f"port {port} is in use by another program; choose another --port, or "
                        "leave it out for the next free one"
                    ) from None
                if error.errno == errno.EACCES:
                    raise InputError(
                        f"port {port} is reserved for the system; choose a --port from 1024 on"
                    ) from None
                # Another address family that this machine lacks is not needed.

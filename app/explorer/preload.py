"""What the first page will need, made ready while a browser is still on its way to it."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

# What the page imports when somebody looks at it, in the order it does so.
_MODULES = ("app.explorer.page", "app.explorer.screens.front")
# What most other screens take for their tables and charts.
_LATER = "pandas"
# Streamlit tells by it whether the icon of a page is an emoji.
_EMOJIS = "streamlit.emojis"
# Python lets a thread that computes go on for 5 ms before another gets a turn, and the server needs
# hundreds of turns to hand out the files of a page.
_TURN = 0.0005
# Seconds until nobody waits any more for a server to start, and between two looks at it.
_PATIENCE, _PAUSE = 5.0, 0.01
_MOMENT = 0.1
# Seconds after which the first page is drawn on a machine of today.
_DRAWN = 3.0


def preload(runs: Sequence[str]) -> threading.Thread:
    """Import what the page needs and read the run it opens with, beside everything else.

    Whatever fails here fails again where the page can say so, or costs no more than time.

    Args:
        runs: What the page was given: run directories, or folders that contain some.
    """
    thread = threading.Thread(target=_preload, args=(runs,), name="preload", daemon=True)
    thread.start()
    return thread


def _preload(runs: Sequence[str]) -> None:
    try:
        _make_ready(runs)
    # What the page needs may fail in any way, and no trace of it is for whoever starts a server.
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"warning: the first page may take longer ({reason})", file=sys.stderr)


def _make_ready(runs: Sequence[str]) -> None:
    _wait_for_server()
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        _import_page()
        _read_first(runs)
    finally:
        sys.setswitchinterval(usual)
    time.sleep(_DRAWN)
    import_module(_LATER)


def _wait_for_server() -> None:
    """Let the server start first: what a browser takes longest with is files that it hands out."""
    from streamlit import runtime
    from streamlit.runtime import RuntimeState

    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if runtime.exists() and runtime.get_instance().state != RuntimeState.INITIAL:
            # It listens in a moment.
            time.sleep(_MOMENT)
            return
        time.sleep(_PAUSE)


def _import_page() -> None:
    for name in _MODULES:
        import_module(name)
    if find_spec(_EMOJIS) is not None:
        import_module(_EMOJIS)
    # Streamlit asks once who called it, which takes a look at every module at first.
    inspect.stack()


def _read_first(runs: Sequence[str]) -> None:
    from app.explorer.opened import open_run
    from app.runs.run_folders import find_runs

    # The first one is shown where an address names no other.
    for path in find_runs([Path(name) for name in runs])[:1]:
        open_run(path)

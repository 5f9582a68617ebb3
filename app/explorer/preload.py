"""What the first page will need, made ready while a browser is still on its way to it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

# What the page imports when somebody looks at it, in the order it does so; Streamlit takes pandas
# to tell what a chart is given.
_MODULES = ("app.explorer.page", "app.explorer.screens.front", "pandas")


def preload(runs: Sequence[str]) -> threading.Thread:
    """Import what the page needs and read the run it opens with, beside everything else.

    Whatever fails here fails again where the page can say so.

    Args:
        runs: What the page was given: run directories, or folders that contain some.
    """
    thread = threading.Thread(target=_preload, args=(runs,), name="preload", daemon=True)
    thread.start()
    return thread


def _preload(runs: Sequence[str]) -> None:
    for name in _MODULES:
        import_module(name)
    from app.explorer.opened import open_run
    from app.runs.run_view import find_runs

    # The first one is shown where an address names no other.
    for path in find_runs([Path(name) for name in runs])[:1]:
        open_run(path)

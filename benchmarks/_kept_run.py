"""A benchmark whose trainings are kept in a folder: planned, carried out, measured and printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from app.runs.directory import writing
from supernet import files
from supernet.errors import DivergedError, InputError

_Plan = TypeVar("_Plan")


def run_kept(
    folder: Path,
    make_plan: Callable[[], _Plan],
    measure: Callable[[_Plan], dict[str, Any]],
    write: Callable[[dict[str, Any]], str] | None,
) -> int:
    """Run a benchmark, and say in one sentence what is wrong where something is.

    Args:
        folder: Of what is kept; locked while it is written to, and made if the plan is possible.
        make_plan: Plans the work, without writing anything.
        measure: Carries out what is not kept yet, and measures all.
        write: Writes what was found for readers; JSON without one.

    Returns:
        The exit code.
    """
    try:
        plan = make_plan()
        files.make_folder(folder)
        with writing(folder):
            found = measure(plan)
    except (InputError, DivergedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from what is finished", file=sys.stderr)
        return 130
    print(json.dumps(found, allow_nan=False) if write is None else write(found))
    return 0

"""Exports that a page may make: into the run's own folder of exports, and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from app.progress import Say, say_nothing
from supernet.errors import InputError

# Names of folders that mean the same on every system, and no other folder.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Exported:
    """How an export ended.

    Args:
        folder: What was written; ``None`` where nothing was.
        message: A sentence about it.
    """

    folder: Path | None
    message: str


def export(run: Path, digest: str, folder: str, say: Say = say_nothing) -> Exported:
    """Run the export job in this process.

    Args:
        run: The run directory.
        digest: Of the architecture.
        folder: What the user typed: a folder of the run's exports, or its name alone.
        say: Told about progress.
    """
    try:
        out = find_export_folder(run, folder)
    except InputError as error:
        return Exported(None, str(error))
    try:
        # The page opens where torch is not installed; exporting alone needs it.
        from app.jobs.export import export_job
    except ImportError as error:
        return Exported(
            None,
            f"Exporting needs {error.name or 'torch'}, which is not installed here; "
            "run the command above on the machine that trained the run",
        )
    try:
        done = export_job(run, digest, out, say)
    except (OSError, InputError, RuntimeError) as error:
        return Exported(None, str(error))
    return Exported(
        done.folder,
        f"Written to {done.folder}; the largest difference between torch and ONNX Runtime "
        f"over real inputs is {done.max_abs_difference:.2g}",
    )


def find_export_folder(run: Path, folder: str) -> Path:
    """The folder that a page may write: one of the run's own exports, and no link to elsewhere.

    Args:
        run: The run directory.
        folder: What the user typed: its path, or its name alone.

    Raises:
        InputError: It is another folder.
    """
    exports = run / "exports"
    found = exports / folder
    if found.parent != exports or not _NAME.fullmatch(found.name):
        raise InputError(
            f"{folder} is no folder of {exports}, the only place that a page may write to; "
            "run the command above to export to another one"
        )
    for place in (exports, found):
        if place.is_symlink():
            raise InputError(
                f"{place} is a link; run the command above to export to where it leads"
            )
    return found

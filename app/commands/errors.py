"""From exceptions to exit codes: one sentence for what a user can put right, a trace for a bug."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback

from app.commands.plain_text import write_line
from app.jobs.failures import SaidElsewhereError
from supernet.errors import DivergedError, InputError, MissingPackageError

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
OUR_PACKAGES = ("app", "supernet", "search", "predictors", "hardware")
# Conditions of the file system that a sentence explains and a user can change.
_FILE_SYSTEM = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENXIO,
    errno.ENODEV,
    errno.EBUSY,
    errno.EFBIG,
    errno.EIO,
    errno.EILSEQ,
)
# How torch says it, of the processor's memory and of a GPU's.
_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)


def exit_code(error: BaseException) -> int:
    """130 for Ctrl-C, 2 for what the user can put right, 1 for anything else."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return BAD_INPUT if is_bad_input(error) else FAILED


def is_bad_input(error: BaseException) -> bool:
    """Whether the message alone tells the user what to do.

    This project raises an :class:`~supernet.errors.InputError` for it, so that a plain
    ``ValueError`` is a bug, whoever raised it, and its trace must be seen. A user's own module
    may raise a ``ValueError`` of its own.
    """
    if _lacks_memory(error):
        return True
    if isinstance(error, OSError):
        return error.errno in _FILE_SYSTEM
    if isinstance(error, SaidElsewhereError):
        return error.bad_input
    if isinstance(error, (InputError, MissingPackageError, DivergedError)):
        return True
    return isinstance(error, ValueError) and _raised_by_own_module(error)


def sentence(error: BaseException) -> str:
    """The message as one line of bounded length."""
    if _lacks_memory(error):
        asked = re.search(r"allocate ([\d.]+ ?[a-z]+)\b", str(error), re.IGNORECASE)
        return (
            f"not enough memory{f' for another {asked[1]}' if asked else ''}; use smaller batches "
            "or images, fewer workers, or a machine with more"
        )
    if isinstance(error, OSError) and error.strerror == os.strerror(errno.ENOSPC):
        where = f" while writing {error.filename}" if error.filename else ""
        text = f"no space left on the disk{where}; free some and run the same command again"
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{error.strerror}: {error.filename}"
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    else:
        text = str(error) or type(error).__name__
    return write_line(text)


def report(error: BaseException, *, continues: bool = True) -> int:
    """Say on standard error what went wrong; returns the exit code.

    Args:
        error: What went wrong.
        continues: Whether the command, interrupted, would go on from what it has done.
    """
    code = exit_code(error)
    if isinstance(error, SaidElsewhereError):
        return code
    if code == INTERRUPTED:
        next_time = "continues where it stopped" if continues else "begins anew"
        print(f"\ninterrupted; the same command {next_time}", file=sys.stderr)
    elif code == BAD_INPUT:
        print(f"error: {sentence(error)}", file=sys.stderr)
    else:
        traceback.print_exception(error, file=sys.stderr)
    return code


def _lacks_memory(error: BaseException) -> bool:
    """Whether an allocation failed, in Python, NumPy or torch."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
    )


def _raised_by_own_module(error: BaseException) -> bool:
    """Whether a module of the user's own raised it, outside this project and every library."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = str(trace.tb_frame.f_globals.get("__name__", ""))
    file = trace.tb_frame.f_code.co_filename
    return module.split(".")[0] not in OUR_PACKAGES and not (
        "site-packages" in file or file.startswith((sys.base_prefix, sys.prefix, "<"))
    )

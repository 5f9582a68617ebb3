"""Modules that a user names by a dotted path."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType

from supernet.errors import InputError, MissingPackageError


class NoSuchModuleError(InputError):
    """A dotted path leads nowhere; nothing else is wrong with it."""


def import_user_module(path: str, purpose: str, *, working_directory: bool) -> ModuleType:
    """Import a module by its dotted path.

    Args:
        path: The dotted path (``"package.module"``).
        purpose: What messages say the module is for (``"the sampler"``).
        working_directory: Whether it may lie in the working directory, too: right for a name that
            was typed, wrong for one that a file brought along.

    Raises:
        NoSuchModuleError: There is no such module.
        InputError: Python cannot read it, or it ends the program.
        ModuleNotFoundError: It needs another module, which is not installed.
    """
    # Importing runs every package on the way, so that a path that leads nowhere is not begun.
    if not all(part.isidentifier() for part in path.split(".")):
        raise NoSuchModuleError(f"there is no module {path!r} for {purpose}")
    if working_directory and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not missing or not (path == missing or path.startswith(missing + ".")):
            raise MissingPackageError(
                f"{purpose} {path!r} needs {missing or error}, which is not installed", name=missing
            ) from error
        raise NoSuchModuleError(f"there is no module {path!r} for {purpose}") from None
    except SyntaxError as error:
        raise InputError(
            f"module {path!r} for {purpose} is no Python that can be read: {error.msg} in line "
            f"{error.lineno} of {error.filename}"
        ) from None
    except SystemExit:
        raise InputError(f"module {path!r} for {purpose} ends the program when imported") from None

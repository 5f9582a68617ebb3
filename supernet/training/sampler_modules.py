"""Samplers by name: modules of the folder ``samplers``, or a user's own by dotted path."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from types import ModuleType

from supernet.errors import InputError
from supernet.user_modules import import_user_module

FOLDER = Path(__file__).parent / "samplers"


def list_samplers() -> tuple[str, ...]:
    """List the samplers of the folder, sorted; a leading underscore marks helpers."""
    found = (module.name for module in pkgutil.iter_modules([str(FOLDER)]))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load_sampler(name: str) -> ModuleType:
    """Import a sampler.

    Args:
        name: The name of a module of the folder, or the dotted path of a module elsewhere.

    Raises:
        InputError: A dotted path leads nowhere, or to a module without ``build``.
    """
    path = name if "." in name else f"{__package__}.{FOLDER.name}.{name}"
    module = import_user_module(path, "the sampler", working_directory=False)
    if not hasattr(module, "build"):
        raise InputError(f"module {path!r} is no sampler: it lacks build")
    return module

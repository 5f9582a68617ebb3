"""That ``import search`` means this project's package, and not a file of that name elsewhere.

Four top-level packages have short names, which files of a user's own may have as well. Python takes
whichever it finds first: the folder of the script, the working directory, ``PYTHONPATH``.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder

from supernet.errors import InputError

# Besides `supernet` itself, beside which they lie.
PACKAGES = ("app", "search", "predictors", "hardware")
_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def leave_working_directory() -> None:
    """Take the working directory off the path, where ``python -m`` has put it first.

    Files in it would be run in the place of this project's packages and of every library. Modules
    that a user names are looked for there nevertheless
    (:func:`supernet.user_modules.import_user_module`).
    """
    here = os.path.realpath(os.getcwd())
    if here != _ROOT and sys.path and os.path.realpath(sys.path[0]) == here:
        del sys.path[0]


def require_own_packages(names: Sequence[str] = PACKAGES) -> None:
    """Refuse to go on where another file would be imported in the place of a package.

    Nothing is imported to find that out.

    Raises:
        InputError: There is such a file, which the message names.
    """
    for name in names:
        loaded = sys.modules.get(name)
        origin = _get_origin(_find_spec(name)) if loaded is None else _get_file(loaded)
        if _is_foreign(name, origin):
            raise InputError(_explain(name, origin))


class ShadowWatch:
    """An import hook that imports nothing: it warns of the wrong file before it is imported."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Leave the import to others, with a warning if they will find another file."""
        if name in PACKAGES:
            origin = _get_origin(PathFinder.find_spec(name))
            if _is_foreign(name, origin):
                warnings.warn(_explain(name, origin), stacklevel=2)
        return None


def watch_imports() -> None:
    """Warn when a script imports a file of its own where it may have meant a package of ours."""
    if ShadowWatch not in sys.meta_path:
        sys.meta_path.insert(0, ShadowWatch)


def _find_spec(name: str) -> ModuleSpec | None:
    """Find what an import would find, without the warning."""
    finders = (finder for finder in sys.meta_path if finder is not ShadowWatch)
    return next((spec for finder in finders if (spec := finder.find_spec(name, None))), None)


def _get_origin(spec: ModuleSpec | None) -> str:
    return "" if spec is None else spec.origin or ""


def _get_file(module: object) -> str:
    return getattr(module, "__file__", None) or ""


def _is_foreign(name: str, origin: str) -> bool:
    # A folder without an `__init__.py` has no origin; Python prefers a package to it.
    return bool(origin) and os.path.dirname(os.path.realpath(origin)) != os.path.join(_ROOT, name)


def _explain(name: str, origin: str) -> str:
    return (
        f"{origin} is found in the place of supernet's package {name!r}; rename it, or take its "
        "folder off Python's path (PYTHONPATH, or the folder of the script)"
    )

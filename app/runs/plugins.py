"""What is found by its name in a folder, or by dotted path when it is a user's own.

A name that was typed may lead to a module in the working directory. A name that a file brought
along, such as the family in a ``run.json``, may come from anybody: it leads to this project's own
folders, and to other code only where the user has named that code in the same command.
"""

from __future__ import annotations

import ast
import pkgutil
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.abc import SourceLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from supernet.errors import InputError, MissingPackageError
from supernet.space import nearest
from supernet.user_modules import import_user_module


@dataclass(frozen=True)
class Kind:
    """One kind of module that is found by its name.

    Args:
        word: What it is, for messages.
        plural: Several of them.
        folder: The package that holds this project's own.
        parts: Names that such a module has.
    """

    word: str
    plural: str
    folder: str
    parts: tuple[str, ...]


FAMILY = Kind(
    "family",
    "families",
    "supernet.families",
    ("TASK", "PRESETS", "DEFAULT_PRESET", "configure", "build"),
)
STRATEGY = Kind("strategy", "strategies", "search.strategies", ("build",))
PREDICTOR = Kind("predictor", "predictors", "predictors.models", ("fit",))
# What else a backend has is checked where it is used.
BACKEND = Kind("device backend", "device backends", "hardware.devices", ("load", "describe"))
_EXTRAS = {
    "transformers": "hf",
    "playwright": "browser",
    "numba": "evolution",
    "cmaes": "evolution",
}


def list_names(kind: Kind) -> tuple[str, ...]:
    """List the modules of a folder, sorted; those with a leading underscore are helpers."""
    package = import_module(kind.folder)
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load_module(kind: Kind, name: str) -> ModuleType:
    """Load the module called ``name``, or a user's own by dotted path.

    A dotted path is looked up from the working directory, too.

    Raises:
        InputError: There is no such module (the nearest valid name is in the message), or it
            lacks what such a module has.
        ModuleNotFoundError: It needs an optional package that is not installed.
    """
    known = list_names(kind)
    if name in known:
        return _check_parts(_import(f"{kind.folder}.{name}", name, kind.word), kind, name)
    if not is_own(name):
        raise InputError(
            f"unknown {kind.word} {name!r}{nearest(name, known)}; {kind.plural} are "
            f"{', '.join(known)}, or the dotted path of a module of your own"
        )
    return load_own(name, kind.word, kind.parts)


def load_own(path: str, word: str, parts: Sequence[str]) -> ModuleType:
    """Load a user's own module, looked up from the working directory, too.

    Args:
        path: Dotted path.
        word: What it is, for messages.
        parts: Names that it must have.

    Raises:
        InputError: There is no such module, or it lacks a part.
        ModuleNotFoundError: It needs an optional package that is not installed.
    """
    return _check_parts(_import(path, path, word), Kind(word, "", "", tuple(parts)), path)


def load_own_sampler(name: str) -> None:
    """Load a sampler of the user's own, so that training finds it; it was typed or is trusted.

    Args:
        name: Of a sampler; nothing happens for those of this project.
    """
    if is_own(name):
        load_own(name, "sampler", ("build", "LARGEST_FIRST"))


def load_family(name: str) -> ModuleType:
    """Load the family module ``name``; :data:`FAMILY` says what it has."""
    return load_module(FAMILY, name)


def load_strategy(name: str) -> ModuleType:
    """Load the search strategy module ``name``; it has ``build``."""
    return load_module(STRATEGY, name)


def load_predictor(name: str) -> ModuleType:
    """Load the prediction method ``name``; its ``fit`` is a :class:`predictors.predictor.Fit`."""
    return load_module(PREDICTOR, name)


def load_backend(name: str) -> ModuleType:
    """Load the device backend ``name``; it is a :class:`hardware.backend.Backend`."""
    return load_module(BACKEND, name)


def is_own(name: str) -> bool:
    """Whether a name leads out of this project: ``package.module``, ``module:function``."""
    parts = name.replace(":", ".", 1).split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def require_trust(word: str, name: str, trusted: Collection[str], file: Path) -> None:
    """Refuse code of a user's own that only a file names.

    Args:
        word: What it is, for the message.
        name: The name as the file has it.
        trusted: What the user has named in this command.
        file: Which names it.

    Raises:
        InputError: It is no module of this project and was not named.
    """
    # A plain word leads to the project's own folders and nowhere else; whatever is no plain word
    # might lead out, so that it is not asked what it looks like.
    if name.isidentifier() or name in trusted:
        return
    said = f"{file} names the {word} {name!r}, which is not part of supernet"
    if not is_own(name):
        raise InputError(f"{said} and cannot be a module of your own; it was damaged or edited")
    raise InputError(
        f"{said} and would run as a program; if it is yours, run the same command with --trust "
        f"{shlex.quote(name)}"
    )


def list_strategies() -> list[str]:
    """List every strategy with its summary, one line each.

    Read from the sources: some need optional packages, and others load large libraries.
    """
    found = {name: read_summary(STRATEGY, name) for name in list_names(STRATEGY)}
    width = max(map(len, found))
    return [f"{name.ljust(width)}  {summary}" for name, summary in found.items()]


def read_summary(kind: Kind, name: str) -> str:
    """Read the ``SUMMARY`` of a module in a folder without importing it."""
    path = f"{kind.folder}.{name}"
    spec = find_spec(path)
    loader = None if spec is None else spec.loader
    source = loader.get_source(path) if isinstance(loader, SourceLoader) else None
    for node in ast.parse(source or "").body:
        if isinstance(node, ast.Assign) and "SUMMARY" in map(ast.unparse, node.targets):
            return str(ast.literal_eval(node.value))
    return ""


def _import(path: str, name: str, word: str) -> ModuleType:
    try:
        return import_user_module(path, f"the {word}", working_directory=path == name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        extra = _EXTRAS.get(missing)
        if extra is None:
            raise
        raise MissingPackageError(
            f"{word} {name!r} needs {missing}, which is not installed; "
            f"run: pip install 'supernet[{extra}]'",
            name=error.name,
        ) from None


def _check_parts(module: ModuleType, kind: Kind, name: str) -> ModuleType:
    lacks = [part for part in kind.parts if not hasattr(module, part)]
    if lacks:
        # A module may call itself otherwise, as `os.path` does.
        raise InputError(f"module {name!r} is no {kind.word}: it lacks {', '.join(lacks)}")
    return module

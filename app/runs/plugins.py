"""Families, strategies and device backends by module name, or by dotted path to a user's own."""

from __future__ import annotations

import ast
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import SourceLoader
from importlib.util import find_spec
from types import ModuleType

from supernet.space import nearest

FAMILIES, STRATEGIES, BACKENDS = "supernet.families", "search.strategies", "hardware.devices"
_WORDS = {FAMILIES: "family", STRATEGIES: "strategy", BACKENDS: "device backend"}
_PLURALS = {FAMILIES: "families", STRATEGIES: "strategies", BACKENDS: "device backends"}
_PARTS = {
    FAMILIES: ("TASK", "PRESETS", "DEFAULT_PRESET", "configure", "build", "from_json"),
    STRATEGIES: ("build",),
    BACKENDS: (),
}
_EXTRAS = {
    "transformers": "hf",
    "playwright": "browser",
    "numba": "evolution",
    "cmaes": "evolution",
}


def names(folder: str) -> tuple[str, ...]:
    """What a folder offers: its modules, sorted; those with a leading underscore are helpers."""
    package = import_module(folder)
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(folder: str, name: str) -> ModuleType:
    """The module called ``name`` in ``folder``, or a user's own by dotted path.

    A dotted path is looked up from the working directory, too.

    Raises:
        ValueError: There is no such module (the nearest valid name is in the message), or it
            lacks what such a module has.
        ModuleNotFoundError: It needs an optional package that is not installed.
    """
    word = _WORDS[folder]
    known = names(folder)
    dotted = "." in name and all(part.isidentifier() for part in name.split("."))
    if not dotted and name not in known:
        raise ValueError(
            f"unknown {word} {name!r}{nearest(name, known)}; {_PLURALS[folder]} are "
            f"{', '.join(known)}, or the dotted path of a module of your own"
        )
    if name not in known:
        return load_own(name, word, _PARTS[folder])
    return _import_checked(f"{folder}.{name}", name, word, _PARTS[folder])


def load_own(path: str, word: str, parts: Sequence[str]) -> ModuleType:
    """A user's own module, looked up from the working directory, too.

    Args:
        path: Dotted path.
        word: What it is, for messages.
        parts: Names that it must have.

    Raises:
        ValueError: There is no such module, or it lacks a part.
        ModuleNotFoundError: It needs an optional package that is not installed.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return _import_checked(path, path, word, parts)


def _import_checked(path: str, name: str, word: str, parts: Sequence[str]) -> ModuleType:
    try:
        module = import_module(path)
        lacks = [part for part in parts if not hasattr(module, part)]
        if lacks:
            raise ValueError(f"module {path!r} is no {word}: it lacks {', '.join(lacks)}")
        return module
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing and (path == missing or path.startswith(missing + ".")):
            raise ValueError(f"there is no module {path!r} for the {word}") from None
        extra = _EXTRAS.get(missing.split(".")[0])
        if extra is None:
            raise
        raise ModuleNotFoundError(
            f"{word} {name!r} needs {missing.split('.')[0]}, which is not installed; "
            f"run: pip install 'supernet[{extra}]'",
            name=missing,
        ) from None


def family(name: str) -> ModuleType:
    """The family module ``name``; its parts are in ``_PARTS`` and ``docs/extending.md``."""
    return load(FAMILIES, name)


def strategy(name: str) -> ModuleType:
    """The search strategy module ``name``; it has ``build``."""
    return load(STRATEGIES, name)


def strategy_lines() -> list[str]:
    """Every strategy with its summary, one line each.

    Read from the sources: some need optional packages, and others load large libraries.
    """
    found = {name: _summary(f"{STRATEGIES}.{name}") for name in names(STRATEGIES)}
    width = max(map(len, found))
    return [f"{name.ljust(width)}  {summary}" for name, summary in found.items()]


def _summary(path: str) -> str:
    spec = find_spec(path)
    loader = None if spec is None else spec.loader
    source = loader.get_source(path) if isinstance(loader, SourceLoader) else None
    for node in ast.parse(source or "").body:
        if isinstance(node, ast.Assign) and "SUMMARY" in map(ast.unparse, node.targets):
            return str(ast.literal_eval(node.value))
    return ""

"""Which versions of other packages this project declares that it needs, and which are installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from supernet.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NAME = "supernet"
# What nobody needs who does not change this project.
_FOR_DEVELOPERS = "dev"
_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@dataclass(frozen=True)
class Declared:
    """What is declared, without what is for other versions of Python.

    Args:
        needed: What every command may need.
        extras: What each extra adds, by its name.
    """

    needed: tuple[Requirement, ...]
    extras: dict[str, tuple[Requirement, ...]]


def read_declared() -> Declared:
    """Read what is declared: in a checkout by its ``pyproject.toml``, else by the installation.

    An installation that only points to a checkout remembers what it said when it was installed.

    Raises:
        InputError: Neither is there.
    """
    return _read_checkout() or _read_installation()


def find_version(name: str) -> str | None:
    """Find the installed version of a package; ``None`` without one."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def explain_misfit(requirement: Requirement) -> str | None:
    """Say in a clause what is wrong with the installed version, if anything is."""
    found = find_version(requirement.name)
    wanted = f"{requirement.name}{requirement.specifier}"
    if found is None:
        return f"{requirement.name} is not installed; run: pip install '{wanted}'"
    try:
        installed = Version(found)
    except InvalidVersion:
        return None
    broken = [part for part in requirement.specifier if not part.contains(installed, True)]
    if not broken:
        return None
    lower = any(part.operator in (">=", ">", "~=") for part in broken)
    upper = any(part.operator in ("<=", "<") for part in broken)
    word = "too old" if lower else "too new" if upper else "of another version"
    return f"{requirement.name} {found} is {word}; run: pip install '{wanted}'"


def explain_misfits(requirements: Sequence[Requirement]) -> tuple[str, ...]:
    """Say what is wrong with installed versions, one clause each."""
    return tuple(filter(None, map(explain_misfit, requirements)))


def _read_checkout() -> Declared | None:
    if not _PROJECT.is_file():
        return None
    project = tomllib.loads(_PROJECT.read_text(encoding="utf-8")).get("project", {})
    if project.get("name") != _NAME:
        return None
    added = project.get("optional-dependencies", {}).items()
    extras = {extra: _select(lines) for extra, lines in added if extra != _FOR_DEVELOPERS}
    return Declared(_select(project["dependencies"]), extras)


def _read_installation() -> Declared:
    try:
        lines = requires(_NAME) or []
        names = metadata(_NAME).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        raise InputError(
            f"{_NAME} runs from {_PROJECT.parent}, but is not installed, so that nothing says what "
            "it needs; install it with pip"
        ) from None
    needed = _select(lines)
    extras = {
        extra: tuple(line for line in _select(lines, extra) if line not in needed)
        for extra in names
        if extra != _FOR_DEVELOPERS
    }
    return Declared(needed, extras)


def _select(lines: Sequence[str], extra: str = "") -> tuple[Requirement, ...]:
    """What applies to this Python, with an extra or without."""
    read = map(Requirement, lines)
    return tuple(r for r in read if r.marker is None or r.marker.evaluate({"extra": extra}))

"""Engines by name: what evolves on predictions inside ``predictor_guided`` and ``linas``.

Besides the names of :data:`ENGINES` the dotted path of something of one's own is an engine:

- a subclass of pymoo's ``Algorithm``, such as ``pymoo.algorithms.moo.spea2.SPEA2``, constructed
  with the population size and our operators, and with reference directions where it takes them;
- a function ``build_algorithm(population, objectives, **operators)`` that returns such an
  algorithm, for all others (see :mod:`search.engines.pymoo_evolution`);
- a module with a function of that name;
- a module with a function ``evolve(space, score, seeds, *, population, generations, rng)``, an
  :class:`Engine` that does without pymoo.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import partial
from inspect import Parameter, isclass, ismodule, signature
from pathlib import Path
from typing import TYPE_CHECKING

from search.engines.contract import Engine
from supernet.errors import InputError, MissingPackageError
from supernet.space import nearest
from supernet.user_modules import NoSuchModuleError, import_user_module

if TYPE_CHECKING:
    from search.engines.algorithms import BuildAlgorithm

__all__ = ["ENGINES", "Engine", "find_engine"]

_ALGORITHMS = "search.engines.algorithms"
# The first is the default. Listing the folder loads no library.
ENGINES: tuple[str, ...] = (
    "array",
    *sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent / "algorithms")])),
)
_EXTRAS = {"numba": "evolution"}
_OFFERED = ("sampling", "crossover", "mutation", "eliminate_duplicates")


def find_engine(name: str) -> Engine:
    """The engine called ``name``.

    Args:
        name: One of :data:`ENGINES`, or a dotted path as the module describes. Whether the working
            directory is looked at is up to the caller, who decides what is on ``sys.path``.

    Returns:
        What strategies take as ``build(fit, engine=...)``.

    Raises:
        InputError: There is no such engine (the nearest name and the list are in the message), or
            what the path names is none.
        ModuleNotFoundError: It needs an optional package that is not installed.
    """
    if name == "array":
        from search.engines.array_nsga2 import evolve

        return evolve
    dotted = "." in name and all(part.isidentifier() for part in name.split("."))
    if name not in ENGINES and not dotted:
        raise InputError(
            f"unknown engine {name!r}{nearest(name, ENGINES)}; engines are {', '.join(ENGINES)}, "
            "or the dotted path of an algorithm of pymoo or a module of your own"
        )
    try:
        found = _import(f"{_ALGORITHMS}.{name}" if name in ENGINES else name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in _EXTRAS:
            raise
        raise MissingPackageError(
            f"engine {name!r} needs {missing}, which is not installed; "
            f"run: pip install 'supernet[{_EXTRAS[missing]}]'",
            name=missing,
        ) from None
    return _engine_of(name, found)


def _import(path: str) -> object:
    """The module or the member of a module that a dotted path names.

    Raises:
        InputError: There is none.
    """
    for name, member in ((path, ""), path.rpartition(".")[::2]):
        try:
            module = import_user_module(name, "the engine", working_directory=False)
        except NoSuchModuleError:
            continue
        if not member:
            return module
        if hasattr(module, member):
            found: object = getattr(module, member)
            return found
        raise InputError(f"module {name!r} has no {member!r} that could be an engine")
    raise InputError(f"there is no module {path!r} for the engine")


def _engine_of(name: str, found: object) -> Engine:
    from pymoo.core.algorithm import Algorithm

    from search.engines import pymoo_evolution

    if ismodule(found) and hasattr(found, "evolve"):
        engine: Engine = found.evolve
        return engine
    if isclass(found) and issubclass(found, Algorithm):
        return partial(pymoo_evolution.evolve, build=_constructor(name, found))
    build = getattr(found, "build_algorithm", None) if ismodule(found) else found
    if isclass(build) or not callable(build) or not _takes_operators(build):
        raise InputError(
            f"{name!r} is no engine; it must be a subclass of pymoo's Algorithm, a function "
            "build_algorithm(population, objectives, **operators), or a module with a function "
            "build_algorithm or evolve"
        )
    return partial(pymoo_evolution.evolve, build=build)


def _takes_operators(build: Callable[..., object]) -> bool:
    """Whether a function can be called as ``build(population, objectives, **operators)``."""
    try:
        signature(build).bind(100, 2, **dict.fromkeys(_OFFERED))
    except (TypeError, ValueError):
        # ValueError: built into Python without a signature.
        return False
    return True


def _constructor(name: str, algorithm: Callable[..., object]) -> BuildAlgorithm:
    """How to construct a class: with what its own constructor names of what we have to offer."""
    taken = signature(algorithm).parameters
    passes_on = any(each.kind is Parameter.VAR_KEYWORD for each in taken.values())
    needed = [
        each.name
        for each in taken.values()
        if each.default is Parameter.empty
        and each.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    ]
    unknown = [each for each in needed if each not in (*_OFFERED, "pop_size", "ref_dirs")]
    if unknown:
        raise InputError(
            f"engine {name!r} cannot be constructed without {', '.join(unknown)}; give the dotted "
            "path of a function build_algorithm(population, objectives, **operators) instead"
        )

    def build_algorithm(population: int, objectives: int, **operators: object) -> object:
        from search.engines.reference_directions import spread_directions

        offered = {**operators, "pop_size": population}
        if "ref_dirs" in taken:
            # Such classes decide the rest themselves, where they do not ask for it.
            handed_on = {"crossover", "mutation"}
            offered["ref_dirs"] = spread_directions(objectives, population)
        else:
            handed_on = set(offered)
        return algorithm(
            **{k: v for k, v in offered.items() if k in taken or (passes_on and k in handed_on)}
        )

    return build_algorithm

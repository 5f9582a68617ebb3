"""Data from a function of the user's: ``package.module:function``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any

from supernet.errors import InputError
from supernet.space import nearest
from supernet.user_modules import import_user_module

from .datasets import from_datasets
from .reading import Count, count_nothing
from .source import SPLITS, DataSource, fingerprint_splits

SPECIFICATION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def call_data_function(
    spec: str,
    options: Mapping[str, Any],
    *,
    working_directory: bool,
    hint: str = "",
    count: Count = count_nothing,
) -> DataSource:
    """Import a function, call it and make a data source of what it returns.

    Args:
        spec: ``"package.module:function"``.
        options: What the user asked for by name (``image_size``, ``context``, ``tokens``,
            ``vocabulary``); the function is given those, and without any it is called without
            arguments.
        working_directory: Whether the module may lie in the working directory, too.
        hint: What a message about a missing module ends with.
        count: Told how many images are read of data sets that it returns.

    Returns:
        The source under the name ``spec``; its fingerprint is that of the splits' content,
        whatever the function says.

    Raises:
        InputError: There is no such module or function, it cannot be called so, it fails, or it
            returns neither a :class:`DataSource` nor what :func:`from_datasets` takes.
    """
    function = _find_function(spec, working_directory, hint)
    _check_call(spec, function, options)
    try:
        source = _make_source(spec, function(**options), count)
    except InputError:
        raise
    # The function may fail in any way; its kind and reason are all that can be said.
    except Exception as error:
        raise InputError(f"data {spec!r} failed with {type(error).__name__}: {error}") from error
    content = {name: source.split(name) for name in SPLITS}
    return replace(source, spec=spec, fingerprint=fingerprint_splits(content))


def _find_function(spec: str, working_directory: bool, hint: str) -> Callable[..., Any]:
    path, _, name = spec.partition(":")
    purpose = f"the data {spec!r}"
    try:
        module = import_user_module(path, purpose + hint, working_directory=working_directory)
    except ModuleNotFoundError as error:
        raise InputError(
            f"module {path!r} of {purpose} needs {error.name}, which is not installed"
        ) from error
    except (ImportError, SyntaxError) as error:
        raise InputError(f"module {path!r} of {purpose} cannot be imported: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = nearest(name, [other for other in vars(module) if not other.startswith("_")])
        raise InputError(f"module {path!r} has no function {name!r}{known}")
    return function


def _check_call(spec: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """InputError unless the function can be called with these options alone."""
    parameters = signature(function).parameters.values()
    takes_all = any(p.kind is Parameter.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters if p.kind is not Parameter.POSITIONAL_ONLY}
    for option, value in options.items():
        if option not in names and not takes_all:
            raise InputError(f"data {spec!r} has no argument {option}, which {value} could go to")
    variadic = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    needed = [
        p.name
        for p in parameters
        if p.default is Parameter.empty and p.kind not in variadic and p.name not in options
    ]
    if needed:
        raise InputError(
            f"data {spec!r} needs {', '.join(needed)}; only image_size, context, tokens and "
            "vocabulary can be given, so every other argument must have a default"
        )


def _make_source(spec: str, result: object, count: Count) -> DataSource:
    if isinstance(result, DataSource):
        return result
    if isinstance(result, Mapping) and set(SPLITS) <= set(result):
        return from_datasets(**{"name": spec, "count": count, **result})
    if isinstance(result, (tuple, list)) and len(result) == len(SPLITS):
        return from_datasets(*result, name=spec, count=count)
    raise InputError(
        f"data {spec!r} returned {type(result).__name__}; it must return a DataSource, the three "
        "data sets (train, val, test), or the arguments of from_datasets by name"
    )

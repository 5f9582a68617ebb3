"""``--config FILE.toml``: the flags of a command from a file, checked before anything runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.commands.arguments import check_value
from supernet.errors import InputError
from supernet.space import nearest
from supernet.text_encoding import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Reading takes time that grows with the square of the depth of a table.
_LARGEST = 50_000
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "integer": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
    "text": ((str,), "a string"),
    "list": ((list, str), "a string or a list of strings"),
}


def read_settings(
    path: Path, command: str, commands: Sequence[str], options: Mapping[str, str]
) -> dict[str, Any]:
    """Default values for a command's options.

    The file holds the options themselves, or one table per command (``[train]``, ``[search]``),
    so that one file can describe a whole project. A list may stand where a flag takes commas.

    Args:
        path: The TOML file.
        command: The command whose options are wanted.
        commands: Names of all commands: legal tables.
        options: Legal names (as flags, without dashes in front) and their kinds (``KINDS``).

    Raises:
        InputError: No such file, not TOML, an unknown name (the nearest is given) or a wrong type.
    """
    if path.exists() and not path.is_file():
        # A pipe would be waited for, and some devices never end.
        raise InputError(f"{path} is no file that options can be read from")
    if path.exists() and path.stat().st_size > _LARGEST:
        raise InputError(f"{path} is larger than {_LARGEST:,} bytes, which no file of options is")
    try:
        content = tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise InputError(f"there is no configuration file {path}") from None
    except ValueError as error:
        # Of the syntax, of the encoding, or of a number with thousands of digits.
        raise InputError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply to be a file of options") from None
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    for name in tables:
        if name not in commands:
            raise InputError(f"{path}: unknown table [{name}]{nearest(name, commands)}")
    plain = {name: value for name, value in content.items() if name not in tables}
    chosen = {**plain, **tables.get(command, {})}
    return {
        name.replace("-", "_"): _check_option(path, name, value, options)
        for name, value in chosen.items()
    }


def _check_option(path: Path, name: str, value: Any, options: Mapping[str, str]) -> Any:
    flag = name.replace("_", "-")
    if flag not in options:
        raise InputError(f"{path}: unknown option {name!r}{nearest(flag, list(options))}")
    types, word = KINDS[options[flag]]
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str):
            check_value(text, f"{path}: {name}")
    if options[flag] == "text" and isinstance(value, list):
        return ",".join(str(part) for part in value)
    if options[flag] == "list" and isinstance(value, str):
        return [value]
    if flag == "latency-ms" and isinstance(value, (int, float)) and not isinstance(value, bool):
        # A budget may be a share such as "60%", so that its flag takes text; a number is one, too.
        return value if options[flag] == "float" else str(value)
    wrong = isinstance(value, bool) and bool not in types
    if wrong or not isinstance(value, types):
        raise InputError(f"{path}: {name} = {value!r} is impossible; it must be {word}")
    return value

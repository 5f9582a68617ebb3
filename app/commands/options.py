"""What the commands share: the application, common options, and options read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import typer
from typer.models import CommandInfo

app = typer.Typer(
    name="supernet",
    help="Train one elastic supernet, profile your device, get the subnetworks that fit it.",
    epilog="Start with: supernet quickstart",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


# Flags that are called otherwise than the parameters behind them.
_FLAGS = {"limits": "limit", "origin": "from"}


def _list_kinds(command: str) -> dict[str, str]:
    """List the flags of a command with the kind of each value, one of ``config_file.KINDS``."""
    names = {bool: "boolean", int: "integer", float: "float"}
    callback = next(c.callback for c in app.registered_commands if _name_command(c) == command)
    assert callback is not None, "every command is registered with its function"
    kinds = {}
    for name, hint in get_type_hints(callback).items():
        options = (hint, *get_args(hint))
        kind = next((names[option] for option in options if option in names), "text")
        if any(get_origin(option) is list for option in options):
            kind = "list"
        kinds[_name_flag(name)] = kind
    return {name: k for name, k in kinds.items() if name not in ("config", "json", "return")}


def _name_flag(parameter: str) -> str:
    return _FLAGS.get(parameter, parameter.replace("_", "-"))


def _read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make values of the file defaults, so that flags on the command line win."""
    if path is not None:
        from app.commands.config_file import read_settings

        command = str(ctx.info_name)
        names = [_name_command(c) for c in app.registered_commands]
        found = read_settings(path, command, names, _list_kinds(command))
        parameters = {flag: parameter for parameter, flag in _FLAGS.items()}
        ctx.default_map = {parameters.get(name, name): v for name, v in found.items()}
    return path


def _name_command(command: CommandInfo) -> str:
    return str(command.name or getattr(command.callback, "__name__", ""))


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show results and warnings alone.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=_read_config,
        metavar="FILE.toml",
        help="Read options from a TOML file; flags win.",
    ),
]
RunDir = Annotated[Path, typer.Option("--run", help="Run directory.")]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", help="Your own module that a file of the run names; repeatable."),
]
MovedData = Annotated[
    str | None, typer.Option("--data", help="Where the data of the run are now, if they moved.")
]
Seed = Annotated[int, typer.Option(help="Seed of every random decision.")]
Arch = Annotated[
    str, typer.Option("--arch", help="Digest, smallest, largest, or an architecture JSON file.")
]

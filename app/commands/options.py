"""What the commands share: the application, common options, and options read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

app = typer.Typer(
    name="supernet",
    help="Train one elastic supernet, profile your device, get the subnetworks that fit it.",
    epilog="Start with: supernet quickstart",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _kinds(command: str) -> dict[str, str]:
    """Flag names of a command, and the kind of value of each, one of ``config_file.KINDS``."""
    names = {bool: "boolean", int: "integer", float: "float"}
    callback = next(c.callback for c in app.registered_commands if _name(c) == command)
    kinds = {}
    for name, hint in get_type_hints(callback).items():
        options = (hint, *get_args(hint))
        kind = next((names[option] for option in options if option in names), "text")
        if any(get_origin(option) is list for option in options):
            kind = "list"
        kinds[_flag(name)] = kind
    return {name: k for name, k in kinds.items() if name not in ("config", "json", "return")}


def _flag(parameter: str) -> str:
    return {"limits": "limit"}.get(parameter, parameter.replace("_", "-"))


def _config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Values of the file become defaults, so that flags on the command line win."""
    if path is not None:
        from app.commands.config_file import read_settings

        command = str(ctx.info_name)
        names = [_name(c) for c in app.registered_commands]
        found = read_settings(path, command, names, _kinds(command))
        ctx.default_map = {{"limit": "limits"}.get(name, name): v for name, v in found.items()}
    return path


def _name(command: Any) -> str:
    return str(command.name or command.callback.__name__)


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", is_eager=True, callback=_config, metavar="FILE.toml",
        help="Read options from a TOML file; flags win.",
    ),
]  # fmt: skip
RunDir = Annotated[Path, typer.Option("--run", help="Run directory.")]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", help="Your own module that a file of the run names; repeatable."),
]
Seed = Annotated[int, typer.Option(help="Seed of every random decision.")]
Arch = Annotated[
    str, typer.Option("--arch", help="Digest, smallest, largest, or an architecture JSON file.")
]

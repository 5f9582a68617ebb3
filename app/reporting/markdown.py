"""Markdown from templates: every value is escaped, so that a name out of a file stays a name.

The templates lie in ``templates`` beside this module and are written with Jinja. What a template
writes with ``{{ }}`` is escaped unless it is :class:`Markdown`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from app.records.numbers import format_items

if TYPE_CHECKING:
    from jinja2 import Environment

# What means something anywhere in a line; the rest means something in some places only.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|(?<=:)//|(?<=www)\.")
_FIRST = re.compile(r"(?:[#+=-]+|\d+[.)])(?=\s|$)|-{3,}|={3,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Markdown(str):
    """Text that is Markdown already and is written as it is."""

    __slots__ = ()


def escape_markdown(text: object) -> Markdown:
    """Text that Markdown shows as it is: in one line, without markup, HTML, links or entities."""
    line = _CONTROL.sub(" ", str(text)).strip()
    first = _FIRST.match(line)
    # What opens a heading, a list or a rule does so by its last character.
    place = first.end() - 1 if first else 0
    head, tail = line[:place], _SPECIAL.sub(lambda found: "\\" + found.group(), line[place:])
    return Markdown(f"{head}\\{tail}" if first else tail)


def write_code(text: object) -> Markdown:
    """Text as code within a line, whatever backticks it contains."""
    line = _CONTROL.sub(" ", str(text))
    if not line:
        return Markdown()
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""
    return Markdown(f"{fence}{padding}{line}{padding}{fence}")


def write_link(text: object, target: str) -> Markdown:
    """A link to a file beside the document."""
    return Markdown(f"[{escape_markdown(text)}]({quote(target)})")


def write_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> Markdown:
    """A table; cells are escaped unless they are Markdown."""
    lines = [header, [Markdown("---")] * len(header), *rows]
    return Markdown("\n".join(f"| {' | '.join(map(_finish, line))} |" for line in lines))


def render_markdown(template: str, **values: object) -> str:
    """Fill in one of the templates.

    Args:
        template: Its file name.
        **values: What it needs; a name that it needs and lacks is an error.
    """
    return _environment().get_template(template).render(**values)


def _finish(value: object) -> str:
    return value if isinstance(value, Markdown) else escape_markdown(value)


@cache
def _environment() -> Environment:
    # Only the commands that write a report or a card should wait for Jinja.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("app.reporting"),
        undefined=StrictUndefined,
        finalize=_finish,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Markdown is escaped by `finalize`; HTML escaping would show as entities in code.
        autoescape=False,
    )
    environment.filters.update(code=write_code, items=format_items)
    return environment

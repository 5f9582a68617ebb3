"""HTML from templates: every value is escaped, and scripts and styles are named by their digests.

The templates lie in ``templates`` beside this module and are written with Jinja.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from app.records.numbers import format_items

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render_html(template: str, **values: object) -> str:
    """Fill in one of the templates.

    Args:
        template: Its file name.
        **values: What it needs; a name that it needs and lacks is an error.
    """
    return _environment().get_template(template).render(**values)


def trust_html(text: str) -> Markup:
    """Text that is HTML already: a script, a style or a picture of this project."""
    from markupsafe import Markup

    return Markup(text)


def write_json(data: object) -> Markup:
    """Data as JSON between the tags of a script; nothing in it ends the script or begins a tag.

    Args:
        data: Without NaN and infinity.

    Raises:
        ValueError: It holds one of them.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return trust_html(text)


def digest_source(text: str) -> str:
    """The digest by which a policy of a page lets one script or style of the page pass."""
    found = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{found}'"


def read_template(name: str) -> str:
    """A script or a style that lies among the templates."""
    return files("app.reporting").joinpath("templates").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    # Only the command that writes a page should wait for Jinja.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("app.reporting"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(items=format_items)
    return environment

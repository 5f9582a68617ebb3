"""The script and the style of the interactive chart, as text."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

# In this order they are one module of JavaScript: the explorer hands it to the browser as a text,
# and a page that opens from a file cannot import a second one.
_PARTS = ("scales.js", "geometry.js", "canvas.js", "parts.js", "gestures.js", "scatter.js")


@cache
def read_script() -> str:
    """One module of JavaScript, whose default export mounts a chart for Streamlit."""
    return "\n".join(_read(name) for name in _PARTS)


@cache
def read_style() -> str:
    """The style of a chart, which takes its colours from Streamlit's ``--st-`` variables."""
    return _read("scatter.css")


def _read(name: str) -> str:
    return files("app.reporting.scatter").joinpath(name).read_text(encoding="utf-8")

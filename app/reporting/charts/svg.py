"""Charts as SVG pictures, drawn without a browser and without a network."""

from __future__ import annotations

import re
from html import escape
from typing import Any

import altair as alt
import vl_convert

INK, GRID = "#24292f", "#e4e7ea"
# What refers to another part of the picture, such as what cuts a line off at the frame.
_REFERENCE = re.compile(r'(\bid="|url\(#|href="#)')


def _configure(ink: str, background: str, grid: str, faintness: float) -> dict[str, Any]:
    """The look of a picture; a chart itself has no colours for what surrounds its data."""
    return {
        "background": background,
        "font": "Helvetica, Arial, sans-serif",
        "padding": 12,
        "view": {"stroke": None},
        "axis": {
            "labelColor": ink, "titleColor": ink, "domainColor": ink, "tickColor": ink,
            "gridColor": grid, "gridOpacity": faintness, "labelFontSize": 12, "titleFontSize": 12,
            "titleFontWeight": "normal", "titlePadding": 10,
        },
        "legend": {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12,
                   "titleFontWeight": "normal", "labelLimit": 320},
        "title": {"color": ink, "subtitleColor": ink, "fontSize": 15, "subtitleFontSize": 12,
                  "anchor": "start", "offset": 10},
        "text": {"fill": ink},
    }  # fmt: skip


# A page of paper, and a page of HTML that may be light or dark.
_PRINTED = _configure(INK, "white", GRID, 1.0)
_INLINE = _configure("currentColor", "transparent", "currentColor", 0.15)


def render_svg(
    chart: alt.LayerChart, title: str, *, subtitle: str = "", width: int = 760, height: int = 440
) -> str:
    """A complete SVG document of a chart, the same one for the same data.

    Args:
        chart: What to draw.
        title: A line above the picture, which is also what screen readers say.
        subtitle: A smaller line below it.
        width: Width of the whole picture, in pixels.
        height: Likewise.
    """
    heading = alt.TitleParams(text=title, subtitle=subtitle or alt.Undefined)
    return _render(chart.properties(title=heading), title, _PRINTED, width, height)


def render_inline_svg(
    chart: alt.LayerChart, title: str, name: str, *, width: int = 540, height: int = 320
) -> str:
    """A chart as a part of a page of HTML, in the colours of the page, without a line above it.

    Args:
        chart: What to draw.
        title: What screen readers say.
        name: Letters, digits and dashes that no other picture of the page has.
        width: Width of the whole picture, in pixels.
        height: Likewise.
    """
    drawn = _render(chart, title, _INLINE, width, height)
    # Pictures of one page share their identifiers.
    return _REFERENCE.sub(rf"\g<1>{name}-", drawn)


def _render(
    chart: alt.LayerChart, title: str, config: dict[str, Any], width: int, height: int
) -> str:
    page = chart.properties(
        width=width,
        height=height,
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
    )
    # Altair refuses tables of more than 5,000 rows, for the sake of notebooks.
    with alt.data_transformers.enable("default", max_rows=None):
        specification = page.to_dict()
    specification["config"] = {}
    drawn = vl_convert.vegalite_to_svg(specification, config=config, allowed_base_urls=[])
    head, _, body = drawn.partition(">")
    return f'{head} role="img"><title>{escape(title)}</title>{body}\n'

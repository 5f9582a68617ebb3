"""Charts as SVG pictures, drawn without a browser and without a network."""

from __future__ import annotations

from html import escape

import altair as alt
import vl_convert

INK, GRID = "#24292f", "#e4e7ea"
# Colours of a page of paper; on screen a chart takes the colours of the page around it.
_PRINTED = {
    "background": "white",
    "font": "Helvetica, Arial, sans-serif",
    "padding": 12,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": INK, "domainColor": INK, "tickColor": INK,
        "gridColor": GRID, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "titlePadding": 10,
    },
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12,
               "titleFontWeight": "normal", "labelLimit": 320},
    "title": {"color": INK, "subtitleColor": INK, "fontSize": 15, "subtitleFontSize": 12,
              "anchor": "start", "offset": 10},
    "text": {"fill": INK},
}  # fmt: skip


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
    page = chart.properties(
        title=heading,
        width=width,
        height=height,
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
    )
    # Altair refuses tables of more than 5,000 rows, for the sake of notebooks.
    with alt.data_transformers.enable("default", max_rows=None):
        specification = page.to_dict()
    specification["config"] = {}
    drawn = vl_convert.vegalite_to_svg(specification, config=_PRINTED, allowed_base_urls=[])
    head, _, body = drawn.partition(">")
    return f'{head} role="img"><title>{escape(title)}</title>{body}\n'

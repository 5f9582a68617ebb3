"""What a Vega-Lite chart draws, read from its specification: layers, rows and axes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pyarrow as pa
from streamlit.testing.v1 import AppTest

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Layer:
    """One layer: its mark with options, its encoding by channel and the rows it draws."""

    mark: Mapping[str, Any]
    encoding: Mapping[str, Any]
    rows: Sequence[Row]

    def column(self, channel: str) -> list[Any]:
        """The values that a channel places, in the order of drawing."""
        return [row[self.encoding[channel]["field"]] for row in self.rows]


@dataclass(frozen=True)
class Drawn:
    """A chart taken apart."""

    spec: Mapping[str, Any]
    layers: Sequence[Layer]

    def all(self, mark: str) -> list[Layer]:
        """The layers of one mark, bottom first."""
        return [layer for layer in self.layers if layer.mark["type"] == mark]

    def one(self, mark: str) -> Layer:
        """The only layer of a mark."""
        (found,) = self.all(mark)
        return found

    @property
    def kinds(self) -> dict[str, list[Row]]:
        """The points of a front chart by what the legend says."""
        return by_kind(self.one("point").rows)

    def titles(self, channel: str) -> set[str]:
        """What stands beside an axis."""
        axes = [layer.encoding.get(channel, {}).get("axis") or {} for layer in self.layers]
        return {axis["title"] for axis in axes if axis.get("title")}


def by_kind(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by what the legend says of them."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["kind"], []).append(row)
    return found


def take_apart(chart: alt.LayerChart) -> Drawn:
    """A chart as Altair describes it."""
    spec = chart.to_dict()
    return _read(spec, spec["datasets"])


def charts_on(page: AppTest) -> list[Drawn]:
    """The charts of an explorer page in their order; the first one is the front."""
    found = []
    for element in page.get("vega_lite_chart"):
        tables = {
            table.name: pa.ipc.open_stream(io.BytesIO(table.data.data)).read_all().to_pylist()
            for table in element.proto.datasets
        }
        found.append(_read(json.loads(element.proto.spec), tables))
    return found


def chart_with(page: AppTest, title: str) -> Drawn:
    """The only chart of an explorer page whose vertical axis has a title."""
    (found,) = [chart for chart in charts_on(page) if title in chart.titles("y")]
    return found


def _read(spec: Mapping[str, Any], tables: Mapping[str, Sequence[Row]]) -> Drawn:
    layers = []
    for layer in spec["layer"]:
        rows = tables[(layer.get("data") or spec["data"])["name"]]
        kept = (step["filter"].removeprefix("datum.") for step in layer.get("transform", ()))
        for field in kept:
            rows = [row for row in rows if row[field]]
        layers.append(Layer(layer["mark"], layer["encoding"], rows))
    return Drawn(spec, layers)

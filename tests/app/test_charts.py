"""Figures hold the points, intervals and marks of the front they are drawn from."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from app.explorer import front_chart, layers, progress_chart
from app.records.front import Front, parse_front
from app.records.trace import Hypervolume
from app.reporting import figures
from tests.app.explorer_fixture import front_json, small_space


@pytest.fixture
def front() -> Front:
    return parse_front(front_json(small_space()), "front.json", "default")


def draw(front: Front, **marks: Any) -> dict[str | None, Any]:
    figure = front_chart.front_figure(front, front.cost, front.quality, front_chart.Marks(**marks))
    return {trace.name: trace for trace in figure.data}


def test_verified_and_predicted_marks_are_where_the_file_says(front: Front) -> None:
    traces = draw(front)
    members = front.on_front()
    verified, predicted = traces["verified (measured)"], traces["predicted"]
    assert list(verified.x) == [p.estimates["latency_ms"].value for p in members]
    assert list(verified.y) == pytest.approx([100 * p.estimates["accuracy"].value for p in members])
    assert list(predicted.y) == pytest.approx(
        [100 * p.estimates["accuracy"].predicted for p in members]
    )
    first = members[0].estimates["accuracy"]
    assert verified.error_y.array[0] == pytest.approx(100 * (first.high - first.value))
    assert verified.error_y.arrayminus[0] == pytest.approx(100 * (first.value - first.low))


def test_a_line_joins_every_pair(front: Front) -> None:
    figure = front_chart.front_figure(front, front.cost, front.quality)
    joins = next(t for t in figure.data if t.mode == "lines" and None in t.x)
    assert list(joins.x).count(None) == len(front.on_front())
    first = front.on_front()[0].estimates["latency_ms"]
    assert joins.x[:2] == (first.predicted, first.value)


def test_points_behind_the_front_come_on_demand(front: Front) -> None:
    name = "evaluated, not on the front"
    assert name not in draw(front)
    behind = draw(front, dominated=True)[name]
    assert len(behind.x) == sum(not p.on_front for p in front.points)


def test_chosen_compared_and_budget_are_marked(front: Front) -> None:
    first, second = front.on_front()[:2]
    traces = draw(front, chosen=first.digest, compared=second.digest)
    assert traces["chosen"].customdata[0][0] == first.digest
    assert traces["compared"].customdata[0][0] == second.digest
    figure = front_chart.front_figure(
        front, front.cost, front.quality, front_chart.Marks(budget=0.2)
    )
    assert figure.layout.shapes[0].x0 == pytest.approx(0.2)
    other = front_chart.front_figure(
        front, front.named("macs"), front.quality, front_chart.Marks(budget=0.2)
    )
    assert not other.layout.shapes


def test_axes_carry_units(front: Front) -> None:
    figure = front_chart.front_figure(front, front.cost, front.quality)
    assert figure.layout.xaxis.title.text == "latency (ms)"
    assert figure.layout.yaxis.title.text == "accuracy (%)"


def test_other_fronts_are_drawn_beside_it(front: Front) -> None:
    other = parse_front(front_json(small_space(), seed=4), "front.json", "other")
    trace = draw(front, overlays=[("other run", other)])["other run"]
    assert len(trace.x) == len(other.on_front())


def test_the_breakdown_adds_up(front: Front) -> None:
    first, second = front.on_front()[0], front.on_front()[-1]
    figure = front_chart.breakdown_figure(first, second)
    assert sum(figure.data[0].x) == pytest.approx(sum(cost for _, cost in first.breakdown))
    assert sum(figure.data[1].x) == pytest.approx(sum(cost for _, cost in second.breakdown))


def test_the_genome_frames_the_chosen_column(front: Front) -> None:
    members = front.on_front()
    genome = layers.genome(small_space(), members)
    figure = front_chart.genome_figure(genome, front, members[3].digest)
    assert len(figure.data[0].z) == len(small_space())
    assert (figure.layout.shapes[0].x0, figure.layout.shapes[0].x1) == (2.5, 3.5)


def test_progress_and_parity(front: Front) -> None:
    progress = progress_chart.hypervolume_figure([Hypervolume(10, 0.1), Hypervolume(20, 0.3)])
    assert list(progress.data[0].y) == [0.1, 0.3]
    parity = progress_chart.parity_figure(front, front.quality)
    assert parity is not None
    assert len(parity.data[1].x) == len(front.points)
    assert progress_chart.parity_figure(front, front.named("macs")) is None


def test_the_picture_is_svg_with_every_front_point(front: Front) -> None:
    chosen = front.on_front()[2]
    text = figures.front_svg(front, chosen=chosen.digest, title="A <b> & c")
    tree = ElementTree.fromstring(text)
    circles = [
        e for e in tree.iter() if e.tag.endswith("circle") and e.get("stroke") == figures.BLUE
    ]
    assert len(circles) == len(front.on_front())
    assert text == figures.front_svg(front, chosen=chosen.digest, title="A <b> & c")
    assert "A &lt;b&gt; &amp; c" in text
    for circle in circles:
        assert 74 <= float(circle.get("cx") or 0) <= 740


def test_a_front_of_one_point_can_be_drawn() -> None:
    payload = front_json(small_space())
    payload["points"] = payload["points"][:1]
    front = parse_front(payload, "front.json", "default")
    assert "<svg" in figures.front_svg(front)
    payload["points"][0]["on_front"] = False
    behind = parse_front(payload, "front.json", "default")
    with pytest.raises(ValueError, match="nothing to draw"):
        figures.front_svg(behind)


@pytest.mark.parametrize("span", [3e-5, 0.31, 1.0, 47.0, 2e6])
def test_axis_ticks_are_few_and_inside(span: float) -> None:
    axis = figures.Axis(0.1 * span, 1.1 * span, 0, 100)
    ticks = axis.ticks()
    assert 3 <= len(ticks) <= 10
    assert all(axis.low <= tick <= axis.high for tick in ticks)

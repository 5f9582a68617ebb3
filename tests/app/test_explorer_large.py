"""Fronts of thousands of points: what is drawn of them, and what an interaction costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.explorer.architecture_charts import MOST_CELLS, choose_columns
from app.records.searches import picking
from app.records.searches.front import Front, Point, parse_front
from app.reporting.charts import progress_charts
from app.reporting.charts.chart_style import MOST_DRAWN, spread_evenly
from app.reporting.charts.front_chart import Emphasis, draw_front
from tests.app.chart_reading import take_apart
from tests.app.test_explorer import chosen, open_page, points_drawn
from tests.toys.explored_runs import front_json, small_space, write_run

COUNT = 1400


def large_payload() -> dict[str, Any]:
    """A front on which half of many points are, as with three objectives and more."""
    payload = front_json(small_space(), count=COUNT)
    for place, point in enumerate(payload["points"]):
        point["on_front"] = point["verified"] = place % 2 == 0
        latency = point["objectives"]["latency_ms"]
        latency.update(value=latency["predicted"] * 1.01, source="measured")
        latency.update(low=0.99 * latency["value"], high=1.01 * latency["value"])
    return payload


@pytest.fixture(scope="module")
def front() -> Front:
    return parse_front(large_payload(), "front.json", "default")


def test_an_interaction_reads_as_many_points_as_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path)
    (tmp_path / "searches/default/front.json").write_text(json.dumps(large_payload()))
    page = open_page(monkeypatch, tmp_path)
    reads = 0
    estimate = Point.estimate

    def count(point: Point, name: str) -> Any:
        nonlocal reads
        reads += 1
        return estimate(point, name)

    monkeypatch.setattr(Point, "estimate", count)
    before = chosen(page)
    slider = page.slider[0]
    slider.set_value(slider.min + (slider.max - slider.min) / 10).run()
    assert not page.exception
    assert chosen(page) != before
    # A point that is drawn is read for its texts on two axes; the rest comes from columns.
    drawn = sum(len(rows) for rows in points_drawn(page).values())
    assert 0 < reads < 4 * drawn


def test_a_large_front_is_thinned_out_and_keeps_its_shape(front: Front) -> None:
    members = front.list_front()
    ringed, framed = members[3].digest, members[-2].digest
    drawn = take_apart(
        draw_front(front, front.cost, front.quality, Emphasis(chosen=ringed, compared=framed))
    )
    (name,) = [kind for kind in drawn.kinds if kind.startswith("verified")]
    marks = drawn.kinds[name]
    assert MOST_DRAWN <= len(marks) <= MOST_DRAWN + 2
    assert name == f"verified (measured) ({len(marks):,} of {len(members):,} drawn)"
    assert {ringed, framed} <= {row["digest"] for row in marks}
    assert [row["digest"] for row in drawn.kinds["chosen"]] == [ringed]
    assert len(drawn.kinds["predicted"]) == len(marks)
    # The staircase is of all of them.
    assert len(drawn.one("line").rows) == len(members)
    wanted = np.quantile([p.best("latency_ms") for p in members], [0.1, 0.5, 0.9])
    assert np.quantile([row["across"] for row in marks], [0.1, 0.5, 0.9]) == pytest.approx(
        wanted, rel=0.02
    )


def test_predictions_and_columns_of_a_large_front_are_thinned_out(front: Front) -> None:
    drawn = progress_charts.draw_parity(front, front.quality)
    assert drawn is not None
    assert len(take_apart(drawn).one("circle").rows) == MOST_DRAWN
    assert drawn.to_dict()["title"] == f"{MOST_DRAWN:,} of {len(front.points):,} points drawn"
    members = front.list_front()
    columns = choose_columns(members, 50, members[1].digest)
    assert len(columns) == MOST_CELLS // 50 + 1
    assert members[1] in columns
    assert columns == [p for p in members if p in columns], "the cheapest stays on the left"
    assert choose_columns(members[:60], 50) == list(members[:60])


def test_what_is_spread_evenly_begins_at_the_first() -> None:
    assert spread_evenly(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread_evenly("abc", 5) == ["a", "b", "c"]


def test_columns_hold_what_the_points_say(front: Front) -> None:
    for name in ("accuracy", "latency_ms", "macs", "nothing"):
        column = front.column(name)
        for i, point in enumerate(front.points[:50]):
            estimate = point.estimate(name)
            for key in ("value", "predicted", "low", "high", "best"):
                found = float(getattr(column, key)[i])
                assert (None if np.isnan(found) else found) == getattr(estimate, key)
            assert column.looked_up[i] == (estimate.source == "table")
    assert front.column("macs") is front.column("macs")


def test_ties_are_those_that_cannot_be_told_apart_from_the_best(front: Front) -> None:
    budget = float(np.median(front.column("latency_ms").value))
    answer = picking.pick(front, budget)
    assert answer.point is not None
    assert answer.best is not None
    highest = answer.best.estimate("accuracy")

    def spread(point: Point) -> float:
        estimate = point.estimate("accuracy")
        return ((estimate.high or 0) - (estimate.low or 0)) / (2 * 1.96)

    alike = [
        p for p in front.points
        if p.verified and (p.best("latency_ms") or 9) <= budget
        and abs((p.best("accuracy") or 0) - (highest.value or 0))
        <= 0.431 * float(np.hypot(spread(p), spread(answer.best)))
    ]  # fmt: skip
    assert {p.digest for p in (answer.point, *answer.ties)} == {p.digest for p in alike}
    assert answer.point == min(alike, key=lambda p: p.best("latency_ms") or 9)
    assert len(alike) > 1

"""What the explorer shows of a search: noise, random search beside, learning curve, devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.explorer import markup
from app.explorer.networks.figures import HEADER, list_figures
from app.records.quantities import ACCURACY
from app.records.searches import picking
from app.records.searches.front import CardRecord, parse_front
from app.runs import run_view
from tests.app.chart_reading import by_kind, chart_with
from tests.app.test_explorer import open_page, points_drawn, press, switch, text
from tests.toys.explored_runs import front_json, small_space, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "digits-run")
    return tmp_path / "digits-run"


def rewrite(run: Path, payload: dict[str, Any]) -> None:
    (run / "searches/default/front.json").write_text(json.dumps(payload))


def test_points_behind_within_noise_have_a_mark_of_their_own(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = front_json(small_space())
    behind = [p for p in payload["points"] if not p["on_front"]][:3]
    for point in behind:
        point["indistinguishable"] = True
    payload["failed"], payload["stopped"] = 2, "stagnation"
    rewrite(run, payload)
    page = open_page(monkeypatch, run)
    assert "behind by less than noise" not in points_drawn(page)
    press(page, "Within noise")
    close = points_drawn(page)["behind by less than noise"]
    assert {row["digest"] for row in close} == {p["digest"] for p in behind}
    shown = text(switch(page, "Search"))
    assert "3 further points are behind the front by less than the noise" in shown
    assert "2 evaluations failed and are left out" in shown
    assert "ended by a front that stood still" in shown


def test_random_search_is_drawn_beside(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run / "searches/default/hypervolume.csv"
    path.write_text("evaluations,hypervolume,random_search\n1,0.1,0.05\n2,0.2,0.1\n3,,0.12\n")
    page = open_page(monkeypatch, run, screen="Search")
    drawn = chart_with(page, "hypervolume")
    places = {
        kind: [(row["evaluations"], row["hypervolume"]) for row in rows]
        for kind, rows in by_kind(drawn.one("line").rows).items()
    }
    assert places == {
        "this search": [(1, 0.1), (2, 0.2)],
        "random search": [(1, 0.05), (2, 0.1), (3, 0.12)],
    }


def test_the_card_shows_learning_curve_and_what_is_missing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = front_json(small_space())
    payload["report"] = {
        "accuracy": {**payload["report"], "curve": [[12, 0.5], [24, 0.7], [48, 0.8]],
                     "needed": 90, "aim": 0.9, "regret": 0.001}
    }  # fmt: skip
    rewrite(run, payload)
    page = open_page(monkeypatch, run, screen="Predictors")
    curve = chart_with(page, "Kendall tau, held out").one("line")
    assert (curve.column("x"), curve.column("y")) == ([12, 24, 48], [0.5, 0.7, 0.8])
    assert "90 more" in text(page)
    entries = markup.list_card(CardRecord(model="ridge", needed=0, aim=0.9), ACCURACY)
    assert [entry[1] for entry in entries] == ["ridge", "reached"]


def test_a_search_over_devices(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = front_json(small_space())
    payload["objectives"][1] = {"name": "worst_latency", "unit": "fraction",
                                "direction": "minimize"}  # fmt: skip
    payload["devices"], payload["unmeasured_devices"] = ["cpu", "phone"], ["phone"]
    for point in payload["points"]:
        entry = point["objectives"].pop("latency_ms")
        point["objectives"]["latency_ms@cpu"] = entry
        point["objectives"]["latency_ms@phone"] = {**entry, "source": "table"}
        point["objectives"]["worst_latency"] = {**entry, "source": "table"}
    rewrite(run, payload)
    front = parse_front(payload, "front.json", "default")
    assert front.cost.name == "latency_ms@cpu"
    assert front.cost.title == "latency on cpu"
    assert front.quality.name == "accuracy"
    assert front.cost.show(0.0213) == "0.0213 ms"
    names = [axis.name for axis in front.axes]
    assert names[:4] == ["accuracy", "worst_latency", "latency_ms@cpu", "latency_ms@phone"]
    page = open_page(monkeypatch, run)
    assert "measured on cpu" in page.slider[0].label
    assert picking.pick(front, 1e9).point is not None


def test_the_raw_evaluation_stays_visible_beside_what_is_expected(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = front_json(small_space())
    for place, point in enumerate(payload["points"]):
        quality = point["objectives"]["accuracy"]
        if place % 2:
            quality.update(
                posterior=quality["value"] - 0.01, posterior_low=quality["value"] - 0.02,
                posterior_high=quality["value"], posterior_error=0.003, samples=540,
            )  # fmt: skip
    rewrite(run, payload)
    front = run_view.load_run(run).fronts["default"]
    assert "Evaluated" in [box.label for box in open_page(monkeypatch, run).checkbox]
    page = press(open_page(monkeypatch, run), "Evaluated")
    drawn = points_drawn(page)
    members = {row["digest"]: row["up"] for row in drawn["verified (measured)"]}
    raw = {row["digest"]: row["up"] for row in drawn["evaluated alone"]}
    known = [p for p in front.points if p.on_front and p.estimate("accuracy").posterior]
    assert len(known) > 2
    assert raw == pytest.approx({p.digest: p.estimate("accuracy").value for p in known})
    for point in known:
        assert members[point.digest] == pytest.approx(raw[point.digest] - 0.01)
    page = open_page(monkeypatch, run, screen="Network", chosen=known[0].digest)
    assert ">Expected accuracy<" in text(page)
    (row,) = [row for row in list_figures(front, known[0]) if row[0] == "accuracy"]
    shown = dict(zip(HEADER, row, strict=True))
    low, high = (f"{100 * value:.2f} %" for value in known[0].estimate("accuracy").interval or ())
    assert shown["95 % interval"] == f"{low} to {high}"
    assert shown["source"] == "expected from all evaluations, 540 samples"
    assert shown["evaluated"] == f"{100 * raw[known[0].digest]:.2f} %"
    assert f"<td>{shown['95 % interval']}</td><td>{shown['source']}</td>" in text(page)

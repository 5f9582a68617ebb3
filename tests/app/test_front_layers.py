"""Random search and failed evaluations as layers of the screen Front."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.explorer.context import STATE
from tests.app.screen_reading import rewrite
from tests.app.test_explorer import open_page, payload, points_drawn, press, switch, text
from tests.toys.explored_runs import HOSTILE, write_run

FAILURES = [
    {"digest": "a" * 12, "values": {"latency_ms": 0.2, "macs": 5e5}, "reason": HOSTILE},
    {"digest": "b" * 12, "values": {}, "reason": "out of memory"},
]
BASELINE = {
    "strategy": "random_search",
    "evaluations": 60,
    "hypervolume": 0.03,
    "front": [
        {"digest": "c" * 12, "values": {"latency_ms": 0.1, "accuracy": 0.93}},
        {"digest": "d" * 12, "values": {"latency_ms": 0.3, "accuracy": 0.95}},
    ],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "digits-run")
    return tmp_path / "digits-run"


def test_random_search_is_drawn_by_one_click(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(run, baseline=BASELINE)
    page = open_page(monkeypatch, run)
    assert "random search" not in points_drawn(page)
    assert "Its front is that of single evaluations." in text(page)
    press(page, "Random search")
    drawn = points_drawn(page)["random search"]
    assert [(row["across"], row["up"]) for row in drawn] == [(0.1, 0.93), (0.3, 0.95)]
    assert "random search" in page.query_params["shown"]
    # The address shows the same in another browser.
    shown = page.session_state[STATE].shown
    again = open_page(monkeypatch, run, shown=sorted(shown))  # type: ignore[arg-type]
    assert "random search" in points_drawn(again)


def test_an_earlier_search_has_no_front_of_random_search(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(run, baseline={**BASELINE, "front": None})
    page = open_page(monkeypatch, run)
    assert "Random search" not in [box.label for box in page.checkbox]
    assert "Random search with as many evaluations reaches" in text(page)
    assert "single evaluations" not in text(page)


def test_failed_evaluations_are_drawn_at_their_cost_with_the_reason(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(run, failed=3, failures=FAILURES)
    page = open_page(monkeypatch, run)
    assert "failed" not in points_drawn(page)
    press(page, "Failed")
    (group,) = [g for g in payload(page)["groups"] if g["kind"] == "failed"]
    assert (group["x"], group["y"]) == ([0.2], [None])
    assert (group["names"], group["ids"]) == (["a" * 12], [""])
    assert group["reasons"] == [HOSTILE[:300]]
    assert payload(page)["notes"] == [
        "1 failed evaluation is drawn, at the edge where a value is not known.",
        "2 evaluations failed and have no place.",
    ]
    # On other axes, and in other places of the page, a reason is nowhere made into anything.
    next(box for box in page.selectbox if box.label == "Across").set_value("macs").run()
    (group,) = [g for g in payload(page)["groups"] if g["kind"] == "failed"]
    assert group["x"] == [5e5]
    assert "evil" not in text(page)
    assert "3 evaluations failed and are left out" in text(switch(page, "Search"))


def test_an_earlier_search_counts_what_failed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run / "searches/default/front.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "failed": 2}))
    page = press(open_page(monkeypatch, run), "Failed")
    assert "failed" not in points_drawn(page)
    assert payload(page)["notes"] == ["2 evaluations failed and have no place."]

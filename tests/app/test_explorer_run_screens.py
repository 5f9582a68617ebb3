"""The screens on searches, training and runs, by Streamlit's driver."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.records import notes
from app.records.audit import read_audit
from app.records.notes import mark_favourite, read_notes, write_note
from app.runs import run_view
from tests.app.chart_reading import by_kind, charts_on
from tests.app.screen_reading import chart_across, table, write_log
from tests.app.test_explorer import front_of, open_page, switch, text
from tests.app.test_explorer_hostile import list_texts
from tests.toys.explored_runs import HOSTILE, write_run

RECORDED = Path(__file__).parent / "recorded_run"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "digits-run")
    return tmp_path / "digits-run"


# -- Search ----------------------------------------------------------------------------------------


def test_the_population_is_in_the_order_of_the_log(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = json.loads((run / "searches/default/front.json").read_text())["points"]
    order = [points[i] for i in np.random.default_rng(0).permutation(len(points))]
    write_log(run, order)
    page = open_page(monkeypatch, run, screen="Search")
    (population,) = [c for c in charts_on(page) if "accuracy (%)" in c.titles("y")]
    numbers = {row["digest"]: row["number"] for row in population.one("circle").rows}
    assert numbers == {p["digest"]: place for place, p in enumerate(order, start=1)}
    best = np.maximum.accumulate([p["objectives"]["accuracy"]["value"] for p in order])
    line = population.one("line")
    assert line.column("y")[-1] == pytest.approx(100 * best[-1])
    assert line.column("y") == sorted(line.column("y"))
    tried = chart_across_rect(page)
    ends = {row["end"] for row in tried}
    assert max(ends) == len(order)
    for end in ends:
        part = [row for row in tried if row["end"] == end]
        assert sum(row["high"] - row["low"] for row in part) == pytest.approx(100)


def chart_across_rect(page: AppTest) -> list[Any]:
    (found,) = [c for c in charts_on(page) if "share of the evaluated (%)" in c.titles("y")]
    return list(found.one("rect").rows)


def test_a_log_without_the_evaluations_has_no_order(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(monkeypatch, run, screen="Search")
    assert "does not hold what this search evaluated" in text(page)
    assert "Random search was not run beside it" in text(page)


def begin_search(run: Path, **changes: Any) -> None:
    plan = {
        "format": 1, "space": "s", "checkpoint": "c0ffee", "status": "running",
        "updated": "2026-01-01T10:00:00+00:00",
        "config": {"device": "cpu", "latency_ms": None, "strategy": "random_search", "seed": 0,
                   "objectives": ["accuracy", "latency_ms"], "evaluations": 200},
        **changes,
    }  # fmt: skip
    folder = run / "searches/second"
    folder.mkdir(exist_ok=True)
    (folder / "search.json").write_text(json.dumps(plan))


def test_a_running_search_is_watched_until_it_ends(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = json.loads((run / "searches/default/front.json").read_text())["points"]
    write_log(run, points[:3], at="2026-01-01T09:00:00+00:00")
    begin_search(run)
    old = (run / "evaluations.jsonl").read_text()
    page = open_page(monkeypatch, run, screen="Search")
    assert "**Search second is running**" in text(page)
    assert "0 of at most 200 evaluations" in read_progress(page)
    write_log(run, points[3:10])
    fresh = (run / "evaluations.jsonl").read_text()
    # A torn line, and one that was written by another hand.
    (run / "evaluations.jsonl").write_text(old + fresh + '{"at": "2027"}\n' + fresh[:40])
    page.run()
    assert not page.exception
    assert "7 of at most 200 evaluations" in read_progress(page)
    shown = [c for c in charts_on(page) if "accuracy (%)" in c.titles("y")]
    assert len(shown[0].one("circle").rows) == 7
    begin_search(run, status="complete")
    page.run()
    assert "is running" not in text(page)


def read_progress(page: AppTest) -> str:
    return " ".join(str(element.proto.text) for element in page.get("progress"))


def test_a_search_that_fell_silent_may_have_been_killed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    begin_search(run)
    os.utime(run / "evaluations.jsonl", (0, 0))
    page = open_page(monkeypatch, run, screen="Search")
    assert "goes on from here when it is run again" in text(page)


# -- Training --------------------------------------------------------------------------------------


def write_metrics(run: Path, count: int) -> None:
    lines = [
        {"step": 10 * n, "steps": 400, "loss_largest": 2.0 / n, "loss_smallest": 3.0 / n,
         "learning_rate": 0.1 / n, "seconds": float(n), "samples_per_second": 500.0}
        for n in range(1, count + 1)
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_losses_are_those_of_the_log(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_metrics(run, 40)
    page = open_page(monkeypatch, run, screen="Training")
    (losses,) = [c for c in charts_on(page) if "training loss (nats)" in c.titles("y")]
    marks = by_kind(losses.one("circle").rows)
    assert [row["loss"] for row in marks["largest network"]] == [2.0 / n for n in range(1, 41)]
    assert [row["step"] for row in marks["smallest network"]] == [10 * n for n in range(1, 41)]
    (rate,) = [c for c in charts_on(page) if "learning rate" in c.titles("y")]
    assert rate.one("line").column("y") == [0.1 / n for n in range(1, 41)]
    assert "of 400, complete" in text(page)
    assert "median of the last 4 reports" in text(page)


def test_a_training_of_sampled_networks_alone_has_its_losses(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single-path training, as the quickstart's: the ends are hardly ever in a step."""
    lines = [{"step": n, "steps": 40, "loss_sampled": 2.0 / n} for n in range(1, 41)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = open_page(monkeypatch, run, screen="Training")
    (losses,) = [c for c in charts_on(page) if "training loss (nats)" in c.titles("y")]
    marks = by_kind(losses.one("circle").rows)
    assert set(marks) == {"sampled networks"}
    assert [row["loss"] for row in marks["sampled networks"]] == [2.0 / n for n in range(1, 41)]
    assert "Loss of sampled ones" in text(page)


def test_a_log_without_losses_is_not_described_as_if_it_had_some(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = {"step": 10, "steps": 40, "learning_rate": 0.1}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    page = open_page(monkeypatch, run, screen="Training")
    assert any("holds no losses" in box.value for box in page.info)
    assert "Losses on the batch" not in text(page)


def test_an_audit_is_drawn_with_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(RECORDED, tmp_path / "run")
    page = open_page(monkeypatch, tmp_path / "run", screen="Training")
    found = read_audit(tmp_path / "run/audits/default")
    (chart,) = charts_on(page)
    assert {row["digest"] for row in chart.one("circle").rows} == {n.digest for n in found.networks}
    effects = table(page, "probability moved")
    assert set(effects["choice"]) == {effect.name for effect in found.choices}
    largest = max(found.choices, key=lambda effect: effect.absolute_change)
    assert effects["mean size"][0] == f"{100 * largest.absolute_change:.2f} points"
    sizes = table(page, "multiply-adds")
    assert sizes["mean gap"].tolist() == [
        f"{100 * s.gap.value:+.2f} points".replace("-", "\N{MINUS SIGN}") for s in found.by_size
    ]
    (tmp_path / "run/audits/default/audit.json").write_text("{")
    page = open_page(monkeypatch, tmp_path / "run", screen="Training")
    assert any("audit.json is not valid JSON" in w.value for w in page.warning)


def test_damaged_lines_of_a_training_are_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_metrics(run, 3)
    whole = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(whole + '{"step": "x"}\n' + whole[:20])
    page = open_page(monkeypatch, run, screen="Training")
    (warning,) = [w.value for w in page.warning if "metrics" in w.value]
    assert "line 4" in warning
    assert "found anew" not in warning
    (losses,) = [c for c in charts_on(page) if "training loss (nats)" in c.titles("y")]
    assert len(losses.one("circle").rows) == 6


def test_a_running_training_is_looked_at_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((run / "run.json").read_text())
    record["stages"] = {"train": {"status": "running"}}
    (run / "run.json").write_text(json.dumps(record))
    write_metrics(run, 5)
    page = open_page(monkeypatch, run, screen="Training")
    assert "of 400, running" in text(page)
    write_metrics(run, 9)
    page.run()
    assert '<span class="value">90' in text(page)


# -- Runs ------------------------------------------------------------------------------------------


def press_save(page: AppTest, about: str) -> None:
    next(b for b in page.button if b.key.startswith("save") and about in b.key).click()
    page.run()
    assert not page.exception


def test_runs_and_searches_are_listed_and_drawn_over_each_other(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "other", seed=3)
    write_run(tmp_path / "unsearched", searched=False)
    write_note(tmp_path / "other", None, "Seed 3,\n\nfor comparison", "")
    page = open_page(monkeypatch, run, tmp_path / "other", tmp_path / "unsearched", screen="Runs")
    listed = table(page, "strategy")
    assert listed["run"].tolist() == ["digits-run", "other", "unsearched"]
    assert listed["search"].tolist() == ["default", "default", "none yet"]
    front = front_of(run)
    members = [p for p in front.points if p.on_front]
    best = max(p.best("accuracy") or 0 for p in members)
    assert listed["best"][0] == front.quality.show(best)
    assert listed["note"][1] == "Seed 3, for comparison"
    assert "3 runs with 2 searches" in text(page)
    label = "other / default (cpu)"
    page.multiselect[0].select(label)
    page.run()
    assert page.query_params["beside"] == label
    marks = chart_across(page, "latency (ms)").one("point").rows
    drawn = {row["digest"] for row in marks if row["search"] == label}
    other = run_view.load_run(tmp_path / "other").fronts["default"]
    assert drawn == {p.digest for p in other.points if p.on_front}


def test_a_note_is_kept_in_the_run_and_shown_as_text(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(monkeypatch, run, screen="Runs")
    page.text_area[0].set_value(HOSTILE)
    press_save(page, "of the run")
    assert read_notes(run).read(None) == HOSTILE
    again = open_page(monkeypatch, run, screen="Runs")
    assert again.text_area[0].value == HOSTILE
    for found in [t for root in (again.main, again.sidebar) for t in list_texts(root)]:
        assert "evil" not in found


def test_two_browsers_do_not_lose_each_others_note(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (open_page(monkeypatch, run, screen="Runs") for _ in range(2))
    first.text_area[0].set_value("of the first")
    press_save(first, "of the run")
    second.text_area[0].set_value("of the second")
    press_save(second, "of the run")
    assert read_notes(run).read(None) == "of the first", "nothing is lost silently"
    assert "Somebody else changed this note" in text(second)
    assert [element.value for element in second.get("text")] == ["of the first"]
    assert second.text_area[0].value == "of the second", "what was typed stays"
    press_save(second, "of the run")
    assert read_notes(run).read(None) == "of the second"
    first.run()
    assert first.text_area[0].value == "of the second", "who typed nothing sees what is new"


def test_a_note_is_there_again_after_a_look_elsewhere(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(monkeypatch, run, screen="Runs")
    page.text_area[0].set_value("kept")
    press_save(page, "of the run")
    for _ in range(2):
        switch(page, "Training")
        switch(page, "Runs")
        assert page.text_area[0].value == "kept"
    press_save(page, "of the run")
    assert read_notes(run).read(None) == "kept"


def test_a_favourite_leads_to_its_network(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    front = front_of(run)
    digest = front.list_front()[2].digest
    page = open_page(monkeypatch, run, screen="Runs", chosen=digest)
    page.toggle[0].set_value(True)
    page.run()
    assert read_notes(run).favourites == (digest,)
    shown = table(page, "favourite")
    assert shown["network"].tolist() == [digest]
    assert shown["latency"].tolist() == [
        front.cost.show(front.find_point(digest).best("latency_ms"))
    ]
    mark_favourite(run, "0" * 12, True)
    page = open_page(monkeypatch, run, screen="Runs")
    assert table(page, "favourite")["network"].tolist() == [digest, "0" * 12]
    next(b for b in page.button if b.label == "Look at it").click()
    page.run()
    assert page.query_params["chosen"] == digest
    assert page.query_params["screen"] == "Network"


def test_a_run_that_cannot_be_written_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page(monkeypatch, run, screen="Runs")
    # The administrator may write everywhere, whatever the mode says.
    monkeypatch.setattr(notes.os, "access", lambda *_: False)
    page.text_area[0].set_value("mine")
    press_save(page, "of the run")
    assert "cannot be written to, where notes and favourites are kept" in page.error[0].value
    assert page.text_area[0].value == "mine"
    assert not (run / "notes.json").exists()


def test_damaged_notes_are_named_and_left_alone(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "notes.json").write_text("{")
    page = open_page(monkeypatch, run, screen="Runs")
    assert any("notes.json is not valid JSON" in w.value for w in page.warning)
    assert not page.text_area
    assert (run / "notes.json").read_text() == "{"

"""The explorer page itself, run by Streamlit's own test driver on made-up run directories."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.explorer.context import STATE
from app.explorer.views.view_state import ViewState
from app.records.quantities import ACCURACY
from app.records.searches import picking
from app.records.searches.front import Front
from app.reporting.scatter.component import NAME as SCATTER
from app.runs import run_view
from supernet.errors import InputError
from tests.app.chart_reading import Row
from tests.toys.explored_runs import front_json, small_space, write_run

SCRIPT = Path(__file__).resolve().parents[2] / "app" / "explorer" / "page.py"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "digits-run")
    return tmp_path / "digits-run"


def open_page(
    monkeypatch: pytest.MonkeyPatch, *arguments: Path, screen: str = "Front", **query: str
) -> AppTest:
    """The page as a browser opens it whose address names a screen and more."""
    monkeypatch.setattr(sys, "argv", ["explorer.py", *map(str, arguments)])
    page = AppTest.from_file(str(SCRIPT), default_timeout=60)
    for name, value in {"screen": screen, **query}.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def switch(page: AppTest, screen: str) -> AppTest:
    """The same browser after a click on the tab of another screen."""
    page.session_state[STATE] = replace(page.session_state[STATE], screen=screen)
    page.run()
    assert not page.exception
    return page


def text(page: AppTest) -> str:
    parts = [*page.markdown, *page.caption, *page.info, *page.warning, *page.error, *page.code]
    return "\n".join(str(part.value) for part in parts)


def chosen(page: AppTest) -> str:
    lines = [m.value for m in page.markdown if "Recommended within the budget" in m.value]
    return lines[0].split("`")[1] if lines else ""


def front_of(run: Path) -> Front:
    return run_view.load_run(run).fronts["default"]


def payload(page: AppTest) -> dict[str, Any]:
    """What the chart of the front on a page is given."""
    (chart,) = [c for c in page.get("bidi_component") if c.proto.component_name == SCATTER]
    found: list[dict[str, Any]] = json.loads(chart.proto.json)
    return found[0]


def points_drawn(page: AppTest) -> dict[str, list[Row]]:
    """The points of the chart of the front, by what the legend says."""
    return {
        group["name"]: [
            {"digest": digest, "across": x, "up": y}
            for digest, x, y in zip(group["ids"], group["x"], group["y"], strict=True)
        ]
        for group in payload(page)["groups"]
    }


def press(page: AppTest, label: str) -> AppTest:
    """The page after a click on a button or a box of this label."""
    found = [widget for widget in (*page.button, *page.checkbox) if widget.label == label]
    assert len(found) == 1, [widget.label for widget in (*page.button, *page.checkbox)]
    widget = found[0]
    (widget.click() if widget in page.button else widget.set_value(not widget.value)).run()
    assert not page.exception
    return page


def test_the_network_that_a_page_opens_with_is_explained(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = front_of(run)
    knee = picking.pick_knee(front)
    assert knee is not None
    page = open_page(monkeypatch, run)
    assert chosen(page) == knee.digest
    assert "at the knee of the front" in text(page)
    page.slider[0].set_value(page.slider[0].max)
    page.run()
    assert chosen(page) != knee.digest
    assert "at the knee of the front" not in text(page)


def test_the_budget_slider_names_the_best_subnetwork(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(monkeypatch, run)
    slider = page.slider[0]
    front = front_of(run)
    seen = set()
    for budget in (0.08, 0.15, slider.max):
        slider.set_value(budget)
        page.run()
        assert not page.exception
        expected = picking.pick(front, budget).point
        assert expected is not None
        assert chosen(page) == expected.digest
        seen.add(expected.digest)
        shown = text(switch(page, "Network"))
        assert f"supernet pick --run {run} --latency-ms {budget:.6g}" in shown
        assert f"--arch {expected.digest} --out " in shown
        slider = switch(page, "Front").slider[0]
    assert len(seen) == 3


def test_the_default_budget_is_the_one_searched_for(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = front_json(small_space())
    payload["constraints"] = [{"objective": "latency_ms", "at_most": 0.12}]
    (run / "searches/default/front.json").write_text(json.dumps(payload))
    assert open_page(monkeypatch, run).slider[0].value == pytest.approx(0.12)


def test_a_budget_below_the_fastest_names_the_nearest_feasible(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(monkeypatch, run)
    page.slider[0].set_value(page.slider[0].min).run()
    assert not page.exception
    assert "No verified subnetwork meets" in page.error[0].value
    assert picking.list_measured(front_of(run))[0].digest in page.error[0].value
    assert chosen(page) == ""


def test_points_behind_the_front_are_shown_on_demand(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(monkeypatch, run)
    assert "dominated" not in points_drawn(page)
    press(page, "Dominated")
    behind = {p.digest for p in front_of(run).points if not p.on_front}
    assert {row["digest"] for row in points_drawn(page)["dominated"]} == behind
    assert page.query_params["shown"] == ["intervals", "knee", "references", "dominated"]


def test_the_header_says_what_the_run_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = text(open_page(monkeypatch, run))
    for part in ("ofa_mobilenetv3 (tiny)", "digits", "148,176", "99.17 %", "94.72 %",
                 "MAPE 3.1 %", "within 10 % 98.0 %", "Kendall τ 0.94",
                 "noise floor 1.2 %"):  # fmt: skip
        assert part in shown


def test_an_untrustworthy_table_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, trusted=False)
    page = open_page(monkeypatch, tmp_path)
    assert any("Not trustworthy" in warning.value for warning in page.warning)
    assert "24.0 %" in page.warning[0].value


def test_comparing_shows_the_difference(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page(monkeypatch, run, screen="Compare")
    other = front_of(run).list_front()[0]
    page.multiselect[0].select(other.digest).run()
    assert not page.exception
    mine = page.session_state[STATE]
    assert mine.compared == (other.digest,)
    ours = picking.pick_knee(front_of(run))
    assert ours is not None
    one = small_space().architecture(dict(ours.choices))
    two = small_space().architecture(dict(other.choices))
    count = len(one.diff(two))
    assert f"against **`{other.digest}`**: {count} choice" in text(page)
    assert "(compared: " in text(page)
    (table,) = [m.value for m in page.markdown if 'class="figures"' in m.value]
    ours_text, theirs_text = (ACCURACY.show(p.best("accuracy")) for p in (ours, other))
    difference = ACCURACY.show_difference(other.best("accuracy"), ours.best("accuracy"))
    assert f"<td>{ours_text}</td><td>{theirs_text} ({difference})</td>" in table
    assert table.count("<tr>") == 6
    drawn = points_drawn(switch(page, "Front"))
    assert [row["digest"] for row in drawn["compared"]] == [other.digest]
    assert [row["digest"] for row in drawn["chosen"]] == [ours.digest]


def test_other_axes_can_be_chosen(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page(monkeypatch, run)
    for label, name in (("Across", "size_bytes"), ("Colour", "macs")):
        next(b for b in page.selectbox if b.label == label).set_value(name).run()
    press(page, "Logarithmic across")
    places = {row["digest"]: row["across"] for row in points_drawn(page)["verified (measured)"]}
    sizes = {p.digest: p.best("size_bytes") for p in front_of(run).list_front()}
    assert places == pytest.approx(sizes)
    drawn = payload(page)
    assert (drawn["x"]["label"], drawn["x"]["log"], drawn["y"]["log"]) == ("size (KB)", True, False)
    assert drawn["color"]["label"] == "multiply-adds (M)"
    # A budget limits the latency, which is on neither axis.
    assert drawn["budgets"] is None
    assert {name: page.query_params[name] for name in ("x", "color", "x_log")} == {
        "x": "size_bytes", "color": "macs", "x_log": "1"
    }  # fmt: skip


def test_budgets_are_added_priced_and_removed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = press(open_page(monkeypatch, run), "Add a budget")
    first, second = page.session_state[STATE].budgets
    assert second == pytest.approx(0.75 * first)
    assert payload(page)["budgets"]["values"] == pytest.approx([first, second])
    bought = picking.pick(front_of(run), 0.1).point
    assert bought is not None
    page.number_input[0].set_value(0.1).run()
    assert f"`{bought.digest}`" in text(page)
    assert page.query_params["budgets"] == [repr(first), "0.1"]
    page.number_input[0].set_value(0.0).run()
    assert not page.number_input
    press(press(page, "Add a budget"), "Remove this budget")
    assert not page.exception
    assert page.session_state[STATE].budgets == (first,)


@pytest.mark.parametrize("budget", ["1e-300", "1e300", "0.0001", "7"])
def test_any_budget_of_an_address_opens(
    run: Path, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    page = open_page(monkeypatch, run, budgets=["0.1", budget])  # type: ignore[arg-type]
    assert chosen(page)
    assert not any("cannot be shown" in error.value for error in page.error)
    named = [w.value for w in page.warning if "The address named what is not here" in w.value]
    assert len(named) == (budget in ("1e-300", "1e300"))


def test_a_network_chosen_by_hand_stays_until_a_budget_moves(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = front_of(run).list_front()[0]
    page = open_page(monkeypatch, run, chosen=other.digest)
    assert f"Chosen by hand: **`{other.digest}`**" in text(page)
    assert f"--arch {other.digest} --out " in text(switch(page, "Network"))
    assert "supernet pick" not in text(page), "no budget picks what was chosen by hand"
    switch(page, "Front").slider[0].set_value(0.15).run()
    assert chosen(page) == picking.pick(front_of(run), 0.15).point.digest  # type: ignore[union-attr]


def test_a_selection_says_what_is_best_in_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    front = front_of(run)
    limits = json.dumps(["stage1.depth", 1, 1])
    page = open_page(monkeypatch, run, filters=limits, budgets="0.3")
    kept = [p for p in front.points if p.choices["stage1.depth"] == 1]
    assert f"{len(kept)} of {len(front.points)} points are selected, by 1 choice" in text(page)
    within = [p for p in picking.list_measured(front)
              if p in kept and (p.best("latency_ms") or 9) <= 0.3]  # fmt: skip
    best = max(within, key=lambda p: p.best("accuracy") or 0)
    press(page, "Choose the best of them")
    assert f"Chosen by hand: **`{best.digest}`**" in text(page)
    faint = {digest for group in payload(page)["groups"] if group.get("faint")
             for digest in (group["ids"][place] for place in group["faint"])}  # fmt: skip
    assert faint == {p.digest for p in front.list_front() if p not in kept}
    press(page, "Clear selection")
    assert "are selected" not in text(page)
    assert "filters" not in page.query_params


def test_an_address_may_leave_out_what_follows(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = front_json(small_space(), seed=4)
    (run / "searches/on-phone").mkdir()
    (run / "searches/on-phone/front.json").write_text(json.dumps({**phone, "device": "phone"}))
    write_run(tmp_path / "other", seed=3)
    page = open_page(monkeypatch, run, tmp_path / "other", search="on-phone", x="size_bytes")
    assert [box.value for box in page.sidebar.selectbox] == [run, "phone", "on-phone"]
    assert not page.warning
    # What another run does not have is left out without a word: nobody named it there.
    page.session_state[STATE] = replace(page.session_state[STATE], filters={"gone": (0.0, 1.0)})
    page.sidebar.selectbox[0].set_value(tmp_path / "other").run()
    assert not page.warning
    assert page.session_state[STATE] == ViewState(run="other", x="size_bytes")
    page = open_page(monkeypatch, run, tmp_path / "other", beside="no such front")
    assert "as usual in this: beside" in page.warning[0].value


def test_a_language_model_shows_its_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, loss=True)
    page = open_page(monkeypatch, tmp_path)
    assert "nats/token" in text(page)
    assert chosen(page)


def test_two_runs_can_be_switched_and_drawn_together(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "other", seed=3)
    page = open_page(monkeypatch, run, tmp_path / "other")
    page.multiselect[0].select("other / default (cpu)").run()
    assert page.query_params["beside"] == "other / default (cpu)"
    beside = run_view.load_run(tmp_path / "other").fronts["default"].list_front()
    drawn = points_drawn(page)["other / default (cpu)"]
    assert [row["across"] for row in drawn] == pytest.approx([p.best("latency_ms") for p in beside])
    next(b for b in page.selectbox if b.label == "Run").set_value(tmp_path / "other").run()
    assert not page.exception
    assert "### other" in text(page)
    assert not page.multiselect[0].value, "what is beside one search stays with it"


@pytest.mark.parametrize(
    ("profiled", "command"), [(False, "supernet profile --run"), (True, "supernet search --run")]
)
def test_an_unfinished_run_says_what_to_run_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profiled: bool, command: str
) -> None:
    write_run(tmp_path, profiled=profiled, searched=False)
    page = open_page(monkeypatch, tmp_path)
    assert page.code[0].value.startswith(command)
    assert not page.slider


def test_no_run_and_no_such_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page(monkeypatch, tmp_path / "nothing")
    assert "is not a run directory" in page.error[0].value
    assert "supernet quickstart" in page.code[0].value
    monkeypatch.chdir(tmp_path)
    assert "supernet quickstart" in open_page(monkeypatch).code[0].value


def test_damaged_files_become_sentences(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    front = run / "searches/default/front.json"
    front.write_text(front.read_text()[:500])
    page = open_page(monkeypatch, run)
    assert any("is not valid JSON" in warning.value for warning in page.warning)
    (run / "run.json").write_text("{")
    assert "is not valid JSON" in open_page(monkeypatch, run).error[0].value


def test_a_search_without_verified_points_still_opens(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = front_json(small_space())
    for entry in payload["points"]:
        entry["verified"] = False
    path = run / "searches/default/front.json"
    path.write_text(json.dumps(payload))
    page = open_page(monkeypatch, run)
    assert any("verified by measurement" in warning.value for warning in page.warning)
    path.write_text(json.dumps({**payload, "points": []}))
    assert "has not evaluated anything" in open_page(monkeypatch, run).info[0].value


def test_sparse_files_still_open(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space, evaluations, progress, breakdown, report, predictions and counts may be missing."""
    payload = front_json(small_space())
    payload = {key: payload[key] for key in ("version", "device", "objectives", "points")}
    for entry in payload["points"]:
        for key in ("breakdown", "parameters", "macs", "size_bytes"):
            entry.pop(key)
        for estimate in entry["objectives"].values():
            for key in ("predicted", "low", "high"):
                estimate[key] = None
    shutil.rmtree(run / "searches/default")
    (run / "searches/default").mkdir()
    (run / "searches/default/front.json").write_text(json.dumps(payload))
    for name in ("space.json", "evaluations.jsonl"):
        (run / name).unlink()
    page = open_page(monkeypatch, run)
    assert chosen(page)
    assert "stored no latency of single units" in text(switch(page, "Network"))


@pytest.mark.parametrize("works", [True, False])
def test_the_export_button_runs_the_job(
    run: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    calls = []

    def export_job(path: Path, digest: str, out: Path, say: object) -> SimpleNamespace:
        calls.append((path, digest, out))
        if not works:
            raise InputError("folder holds other files")
        return SimpleNamespace(folder=out, max_abs_difference=1.5e-7)

    module = ModuleType("app.jobs.export")
    module.export_job = export_job  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "app.jobs.export", module)
    page = open_page(monkeypatch, run, screen="Network")
    next(b for b in page.button if b.label == "Export now").click().run()
    assert not page.exception
    digest = chosen(page)
    assert calls == [(run, digest, run / "exports" / digest)]
    if works:
        assert "1.5e-07" in page.success[0].value
    else:
        assert "folder holds other files" in page.error[0].value


def test_exporting_without_torch_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("app.jobs.export", "app.jobs.export_files", "app.jobs.parity"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    page = open_page(monkeypatch, run, screen="Network")
    next(b for b in page.button if b.label == "Export now").click().run()
    assert not page.exception
    assert "Exporting needs torch" in page.error[0].value

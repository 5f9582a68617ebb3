"""The screens on space, devices, predictors, search, training and runs, by Streamlit's driver."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.analysis.importance import fit_main_effects
from app.analysis.positions import encode_choices
from app.records import notes
from app.records.audit import read_audit
from app.records.notes import mark_favourite, read_notes, write_note
from app.runs import run_view
from supernet.space import Choice, SearchSpace
from tests.app.chart_reading import Drawn, by_kind, charts_on
from tests.app.test_explorer import front_of, open_page, switch, text
from tests.app.test_explorer_hostile import list_texts
from tests.toys.explored_runs import HOSTILE, front_json, small_space, write_run

RECORDED = Path(__file__).parent / "recorded_run"
OURS = ("Space", "Devices", "Predictors", "Search", "Training", "Runs")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "digits-run")
    return tmp_path / "digits-run"


def chart_across(page: AppTest, title: str) -> Drawn:
    """The only chart whose horizontal axis has a title."""
    (found,) = [chart for chart in charts_on(page) if title in chart.titles("x")]
    return found


def table(page: AppTest, column: str) -> Any:
    """The table that has a column."""
    (found,) = [frame.value for frame in page.dataframe if column in frame.value.columns]
    return found


def rewrite(run: Path, **changes: Any) -> dict[str, Any]:
    """Change entries of ``front.json``; its new content."""
    path = run / "searches/default/front.json"
    payload = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(payload))
    return payload


@pytest.mark.parametrize("screen", OURS)
def test_every_screen_opens_on_a_recorded_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, screen: str
) -> None:
    shutil.copytree(RECORDED, tmp_path / "run")
    before = sorted((p, p.read_bytes()) for p in (tmp_path / "run").rglob("*") if p.is_file())
    page = open_page(monkeypatch, tmp_path / "run", screen=screen)
    assert not page.error
    after = sorted((p, p.read_bytes()) for p in (tmp_path / "run").rglob("*") if p.is_file())
    assert before == after, "looking changes nothing"


@pytest.mark.parametrize(
    ("screen", "sentence"),
    [
        ("Space", "Run next:"),
        ("Devices", "No device has been profiled for this run"),
        ("Predictors", "Run next:"),
        ("Search", "Run next:"),
        ("Training", "No training was logged in this run"),
        ("Runs", "1 run with 0 searches"),
    ],
)
def test_a_run_that_lacks_the_thing_says_so_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: str, sentence: str
) -> None:
    write_run(tmp_path, profiled=False, searched=False)
    page = open_page(monkeypatch, tmp_path, screen=screen)
    assert not page.error
    assert sentence in text(page)
    assert not page.get("vega_lite_chart")


# -- Space -----------------------------------------------------------------------------------------


def test_importance_is_that_of_the_evaluated_networks(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(monkeypatch, run, screen="Space")
    front, space = front_of(run), small_space()
    found = fit_main_effects(
        space, encode_choices(space, front.choices), front.column("accuracy").value
    )
    assert found is not None
    bars = chart_across(page, "share of the variance (%)").one("bar")
    ranked = found.rank()[:12]
    assert [row["choice"] for row in bars.rows] == [effect.name for effect in ranked]
    assert bars.column("x") == pytest.approx([max(100 * e.share, 0) for e in ranked])
    assert f"explain {100 * found.explained:.1f} % of the variance" in text(page)
    effects = chart_across(page, "expected accuracy (%)").one("circle")
    shown = {row["name"]: row["mean"] for row in effects.rows}
    for value, mean in zip(ranked[0].values, ranked[0].means, strict=True):
        assert shown[f"{ranked[0].name} = {value}"] == pytest.approx(100 * mean)


def test_a_filter_leaves_what_passes_on_every_screen(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(monkeypatch, run, screen="Space")
    slider = next(s for s in page.select_slider if s.label == "stage1.block1.expand")
    slider.set_range(3, 4)
    page.run()
    assert not page.exception
    assert page.query_params["filters"] == '["stage1.block1.expand",3.0,4.0]'
    front = front_of(run)
    passing = [p for p in front.points if float(p.choices["stage1.block1.expand"]) >= 3]
    assert f"{len(passing):,} of {len(front.points):,} points are selected" in text(page)
    genome = chart_across(page, "latency, cheapest on the left").all("rect")[0]
    assert {row["digest"] for row in genome.rows} == {p.digest for p in passing if p.on_front}
    bars = chart_across(page, "share of the variance (%)").one("bar")
    assert "stage1.block1.expand" in {row["choice"] for row in bars.rows}
    # The same address in another browser.
    again = open_page(
        monkeypatch, run, screen="Predictors", filters='["stage1.block1.expand",3.0,4.0]'
    )
    assert f"{len(passing):,} of {len(front.points):,} points are selected" in text(again)
    parity = [c for c in charts_on(again) if "evaluated accuracy (%)" in c.titles("y")]
    assert {row["digest"] for row in parity[0].one("circle").rows} == {p.digest for p in passing}


def test_a_filter_of_the_address_is_on_its_slider_and_can_be_widened(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(monkeypatch, run, screen="Space", filters='["stage1.depth",1.0,1.0]')
    slider = next(s for s in page.select_slider if s.label == "stage1.depth")
    assert slider.value == (1, 1)
    slider.set_range(1, 2)
    page.run()
    assert "filters" not in page.query_params
    assert "points are selected" not in text(page)


def test_what_a_front_shares_is_counted_against_what_was_evaluated(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = json.loads((run / "searches/default/front.json").read_text())
    for point in payload["points"]:
        point["on_front"] = point["architecture"]["stage2.depth"] == 2
    rewrite(run, points=payload["points"])
    page = open_page(monkeypatch, run, screen="Space")
    front = front_of(run)
    count = int(front.on_front.sum())
    assert f"All front networks ({count}) have stage2.depth = 2" in text(page)
    marks = by_kind(chart_across(page, "networks with the value (%)").one("point").rows)
    shares = {row["name"]: row["share"] for row in marks["evaluated"]}
    assert shares["stage2.depth = 2"] == pytest.approx(100 * count / len(front.points))
    assert next(iter(marks["on the front"]))["name"] == "stage2.depth = 2"


def test_another_space_or_none_is_said_and_the_genomes_stay(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(run, space="0" * 16)
    page = open_page(monkeypatch, run, screen="Space")
    assert "made in another space than space.json holds" in text(page)
    assert not page.select_slider
    assert len(charts_on(page)) == 1
    (run / "space.json").unlink()
    page = open_page(monkeypatch, run, screen="Space")
    assert "has no space.json that can be read" in text(page)


@pytest.mark.parametrize("screen", ["Space", "Search"])
def test_names_of_choices_stay_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: str
) -> None:
    write_run(tmp_path)
    odd = HOSTILE.replace("\n", " ")
    plain = small_space()
    renamed = [
        Choice(f"{odd}.kernel" if c.name == "stage1.block1.kernel" else c.name, c.values, c.kind,
               c.needs)
        for c in plain.choices
    ]  # fmt: skip
    named = [Choice(odd, (odd, "int8"), "precision")]
    space = SearchSpace((*renamed, *named))
    (tmp_path / "space.json").write_text(json.dumps(space.to_json()))
    payload = json.loads((tmp_path / "searches/default/front.json").read_text())
    for number, point in enumerate(payload["points"]):
        choices = point["architecture"]
        choices[f"{odd}.kernel"] = choices.pop("stage1.block1.kernel")
        choices[odd] = (odd, "int8")[number % 2]
    rewrite(tmp_path, points=payload["points"], space=space.digest)
    write_log(tmp_path, payload["points"])
    page = open_page(monkeypatch, tmp_path, screen=screen)
    assert not page.error
    texts = [found for root in (page.main, page.sidebar) for found in list_texts(root)]
    assert screen == "Search" or sum("evil" in found for found in texts) >= 2
    for found in texts:
        if "evil" in found:
            for meant in ("://", "www.", "@evil", ":red", "<img"):
                assert meant not in found.replace("\\<img", "")
            for special in ("[", "$"):
                assert found.count(special) == found.count(f"\\{special}")


def test_too_few_networks_have_no_importance(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(run, points=front_json(small_space(), count=6)["points"])
    page = open_page(monkeypatch, run, screen="Space")
    assert "This takes 12 evaluated networks with more than one accuracy" in text(page)


# -- Devices ---------------------------------------------------------------------------------------


def compare(digests: list[str], factor: float) -> list[dict[str, Any]]:
    return [
        {
            "digest": digest,
            "predicted_ms": 1.0 + number,
            "measured_ms": factor * (1.0 + number),
            "low_ms": 0.9 * factor * (1.0 + number),
            "high_ms": 1.1 * factor * (1.0 + number),
            "calibration": number % 2 == 0,
        }
        for number, digest in enumerate(digests)
    ]


def test_a_table_is_drawn_against_its_measurements_and_drift_against_the_one_before(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run / "devices/cpu"
    digests = [f"{number:012x}" for number in range(6)]
    report = json.loads((folder / "report.json").read_text())
    (folder / "previous").mkdir()
    for place, factor in ((folder, 1.2), (folder / "previous", 1.0)):
        content = {**report, "points": compare(digests, factor)}
        (place / "report.json").write_text(json.dumps(content))
    rewrite(run, latency_ratios={"cpu": 1.0625})
    page = open_page(monkeypatch, run, screen="Devices")
    marks = by_kind(chart_across(page, "predicted latency (ms)").one("point").rows)
    judged, fitted = marks["judges the table"], marks["the table was fitted to it"]
    assert [row["digest"] for row in judged] == digests[1::2]
    assert [row["y"] for row in fitted] == pytest.approx([1.2, 3.6, 6.0])
    assert "networks take 1.200 times as long on cpu" in text(page)
    assert "median of 6 networks measured for both" in text(page)
    assert "networks took 1.062 times as long on cpu" in text(page)
    shown = table(page, "mean error")
    assert shown["device"].tolist() == ["cpu"]
    assert shown["mean error"].tolist() == ["3.1 %"]


def test_devices_are_correlated_over_the_networks_of_a_search_on_several(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scipy import stats

    payload = json.loads((run / "searches/default/front.json").read_text())
    rng = np.random.default_rng(0)
    cpu, phone = [], []
    for point in payload["points"]:
        latency = point["objectives"].pop("latency_ms")
        beside = {**latency, "source": "table", "low": None, "high": None}
        beside["predicted"] = beside["value"] = latency["predicted"] * float(rng.uniform(1, 3))
        point["objectives"] |= {"latency_ms@cpu": latency, "latency_ms@phone": beside}
        cpu.append(latency["predicted"])
        phone.append(beside["predicted"])
    payload["objectives"][1]["name"] = "latency_ms@cpu"
    rewrite(run, **payload, devices=["cpu", "phone"], unmeasured_devices=["phone"])
    page = open_page(monkeypatch, run, screen="Devices")
    (matrix,) = [c for c in charts_on(page) if c.all("rect")]
    cells = {(row["row"], row["column"]): row for row in matrix.one("rect").rows}
    assert cells["cpu", "phone"]["spearman"] == pytest.approx(stats.spearmanr(cpu, phone).statistic)
    assert cells["cpu", "phone"]["networks"] == f"{len(cpu)} networks"
    assert cells["cpu", "cpu"]["text"] == "1"
    bars = by_kind(chart_across(page, "latency (ms)").one("bar").rows)
    assert [row["device"] for row in bars["measured"]] == ["cpu"]
    assert [row["device"] for row in bars["predicted by the table"]] == ["cpu", "phone"]


def test_units_are_shares_that_add_up(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page(monkeypatch, run, screen="Devices")
    bars = by_kind(chart_across(page, "share of the latency (%)").one("bar").rows)
    for rows in bars.values():
        assert sum(row["share"] for row in rows) == pytest.approx(100)
    members = [p for p in front_of(run).list_front() if p.breakdown]
    stem = [dict(p.breakdown)["stem"] / sum(c for _, c in p.breakdown) for p in members]
    (drawn,) = [r["share"] for r in bars["mean along the front"] if r["unit"] == "stem"]
    assert drawn == pytest.approx(100 * np.mean(stem))


def test_formats_have_their_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path)
    payload = json.loads((tmp_path / "searches/default/front.json").read_text())
    for point in payload["points"]:
        point["architecture"]["stem.precision"] = "int8"
        point["architecture"]["head.precision"] = "fp32"
    rewrite(tmp_path, points=payload["points"])
    shown = table(open_page(monkeypatch, tmp_path, screen="Devices"), "format")
    assert shown["format"].tolist() == ["int8", "fp32", "no choice (float)"]
    assert shown["units"].tolist()[:2] == ["1 of 2", "1 of 2"]
    assert shown["of units along the front"].tolist()[:2] == ["50.0 %", "50.0 %"]


# -- Predictors ------------------------------------------------------------------------------------


def test_predictions_residuals_and_coverage_are_of_the_evaluated(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = json.loads((run / "searches/default/front.json").read_text())
    for number, point in enumerate(payload["points"]):
        quality = point["objectives"]["accuracy"]
        half = 0.001 if number % 4 == 0 else 0.1
        quality["predicted_low"] = quality["predicted"] - half
        quality["predicted_high"] = quality["predicted"] + half
        if number == 3:
            quality.update(source="stopped early", low=None, high=None)
    rewrite(run, points=payload["points"])
    page = open_page(monkeypatch, run, screen="Predictors")
    whole = [p for n, p in enumerate(payload["points"]) if n != 3]
    pairs = {
        p["digest"]: (q["predicted"], q["value"], q["predicted_low"], q["predicted_high"])
        for p in whole
        for q in [p["objectives"]["accuracy"]]
    }
    (parity,) = [c for c in charts_on(page) if "evaluated accuracy (%)" in c.titles("y")]
    drawn = {row["digest"]: (row["x"], row["y"]) for row in parity.one("circle").rows}
    assert drawn == {d: pytest.approx((100 * p[0], 100 * p[1])) for d, p in pairs.items()}
    (residuals,) = [c for c in charts_on(page) if "evaluated less predicted (points)" in
                    c.titles("y")]  # fmt: skip
    left = {row["digest"]: row["y"] for row in residuals.one("circle").rows}
    assert left == {d: pytest.approx(100 * (p[1] - p[0])) for d, p in pairs.items()}
    share = np.mean([low <= value <= high for _, value, low, high in pairs.values()])
    assert f"Intervals for 90 % hold {100 * share:.1f} % of {len(pairs)} values" in text(page)
    coverage = chart_across(page, "share that is wanted (%)").one("circle")
    (own,) = [row for row in coverage.rows if row["wanted"] == pytest.approx(90)]
    assert own["share"] == pytest.approx(100 * share)
    shares = [row["share"] for row in coverage.rows]
    assert shares == sorted(shares), "wider intervals hold more"


def test_the_same_networks_with_other_figures_are_drawn_anew(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page(monkeypatch, run, screen="Predictors")
    payload = json.loads((run / "searches/default/front.json").read_text())
    for point in payload["points"]:
        point["objectives"]["accuracy"]["value"] -= 0.2
    rewrite(run, points=payload["points"])
    page = open_page(monkeypatch, run, screen="Predictors")
    (parity,) = [c for c in charts_on(page) if "evaluated accuracy (%)" in c.titles("y")]
    values = {p["digest"]: 100 * p["objectives"]["accuracy"]["value"] for p in payload["points"]}
    drawn = {row["digest"]: row["y"] for row in parity.one("circle").rows}
    assert drawn == {digest: pytest.approx(value) for digest, value in values.items()}


def test_a_search_without_a_predictor_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = json.loads((run / "searches/default/front.json").read_text())
    for point in payload["points"]:
        point["objectives"]["accuracy"]["predicted"] = None
    rewrite(run, points=payload["points"], report={})
    page = open_page(monkeypatch, run, screen="Predictors")
    assert "This search used no predictor" in text(page)


# -- Search ----------------------------------------------------------------------------------------


def write_log(run: Path, order: list[dict[str, Any]], **facts: Any) -> None:
    rows = [
        {"architecture": p["architecture"], "digest": p["digest"], "objective": "accuracy",
         "value": p["objectives"]["accuracy"]["value"], "unit": "fraction", "split": "val",
         "checkpoint": "c0ffee", "at": "2026-01-01T10:05:00+00:00", **facts}
        for p in order
    ]  # fmt: skip
    (run / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


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

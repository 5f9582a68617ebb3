"""The screens on space, devices, predictors, search, training and runs, by Streamlit's driver."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.analysis.importance import fit_main_effects
from app.analysis.positions import encode_choices
from supernet.space import Choice, SearchSpace
from tests.app.chart_reading import by_kind, charts_on
from tests.app.screen_reading import chart_across, rewrite, table, write_log
from tests.app.test_explorer import front_of, open_page, text
from tests.app.test_explorer_hostile import list_texts
from tests.toys.explored_runs import HOSTILE, front_json, small_space, write_run

RECORDED = Path(__file__).parent / "recorded_run"
OURS = ("Space", "Devices", "Predictors", "Search", "Training", "Runs")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "digits-run")
    return tmp_path / "digits-run"


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

"""The report as one page of HTML: what it holds, that names stay names, and that it is the same."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from app.jobs.report import PAGE, report_job
from app.records.audit import read_audit
from app.records.searches import picking
from app.records.searches.front import Front, parse_front
from app.reporting.audit_verdict import describe_worth
from app.reporting.html import write_json
from app.reporting.static_data import describe_search
from app.runs.directory import read_space
from supernet.space import SearchSpace
from tests.app.conftest import Command
from tests.toys.explored_runs import HOSTILE, front_json, small_space, write_hostile_run, write_run

RECORDED = Path(__file__).parent / "recorded_run"


class Page(HTMLParser):
    """Tags with their attributes, the text of scripts and styles, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sources: list[tuple[str, dict[str, str | None], str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag in ("script", "style"):
            self.sources.append((tag, attributes, data))
            self.tags.append(("", {}))
        else:
            self.text += data

    @property
    def searches(self) -> list[dict[str, Any]]:
        found = []
        for tag, attributes, source in self.sources:
            if tag == "script" and attributes.get("type") == "application/json":
                found.append(json.loads(source))
        return found


def report(run: Path, out: Path) -> str:
    report_job(run, lambda _line: None, out=out, baseline=False)
    return (out / PAGE).read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "digits-run")
    return tmp_path / "digits-run"


def make_front() -> Front:
    return parse_front(front_json(small_space()), "front.json", "default")


def describe(front: Front, most: int = 1000, space: SearchSpace | None = None) -> dict[str, Any]:
    return describe_search(front, space, lambda digest: f"export {digest}", most)


# -- what it holds ---------------------------------------------------------------------------------


def test_every_point_is_there_with_its_figures_and_choices(run: Path, tmp_path: Path) -> None:
    (data,) = Page(report(run, tmp_path / "out")).searches
    front = parse_front(
        json.loads((run / "searches/default/front.json").read_text()), "front.json", "default"
    )
    assert {point["id"] for point in data["points"]} == {p.digest for p in front.points}
    assert data["axes"] == [axis.title for axis in front.axes]
    names = [choice["name"] for choice in data["choices"]]
    for entry in data["points"]:
        point = front.find_point(entry["id"])
        assert entry["figures"] == [axis.show(point.best(axis.name)) for axis in front.axes]
        choices = {
            name: data["choices"][n]["values"][gene]
            for n, (name, gene) in enumerate(zip(names, entry["genes"], strict=True))
            if gene >= 0
        }
        assert choices == {name: str(value) for name, value in point.choices.items()}
        command = f"supernet export --run digits-run --arch {point.digest}"
        assert entry["export"] == f"{command} --out exported-{point.digest}"
        assert entry["front"] == point.on_front
    order = [p["id"] for p in data["points"] if p["front"]]
    assert order == [p.digest for p in front.list_front()]
    knee = picking.pick_knee(front)
    assert knee is not None
    assert data["chosen"] == knee.digest


def test_figures_say_their_interval_their_source_and_the_test_split() -> None:
    front = make_front()
    entry = describe(front)["points"][0]
    point = front.find_point(entry["id"])
    estimate, quality = point.estimate("accuracy"), front.quality
    low, high = quality.show(estimate.low), quality.show(estimate.high)
    assert entry["notes"][0] == f"{low} to {high}, evaluated; test {quality.show(estimate.test)}"
    assert entry["notes"][front.axes.index(front.find_axis("macs"))] == "analytic"


def test_latencies_of_units_are_those_of_the_point() -> None:
    front = make_front()
    data = describe(front)
    assert set(data["latencies"]) == {p.digest for p in front.list_front()}
    for digest, latencies in data["latencies"].items():
        found = {
            unit: latency
            for unit, latency in zip(data["units"], latencies, strict=True)
            if latency is not None
        }
        assert found == pytest.approx(dict(front.find_point(digest).breakdown), rel=1e-3)


def test_without_a_space_choices_have_the_values_that_occur() -> None:
    front, space = make_front(), small_space()
    known, unknown = describe(front, space=space), describe(front)
    assert [c["name"] for c in known["choices"]] == list(space.names)
    values = {choice["name"]: choice["values"] for choice in unknown["choices"]}
    assert values["stage1.block1.expand"] == ["2", "3", "4"]


def test_a_large_front_is_thinned_out_and_stays_within_its_size(tmp_path: Path) -> None:
    front = parse_front(front_json(small_space(), count=4000), "front.json", "default")
    data = describe(front, most=300)
    ids = [point["id"] for point in data["points"]]
    assert len(ids) == 300
    assert {p.digest for p in front.list_front()} <= set(ids)
    assert len(json.dumps(data)) < 400_000
    write_run(tmp_path / "run")
    path = tmp_path / "run/searches/default/front.json"
    path.write_text(json.dumps(front_json(small_space(), count=4000)))
    assert len(report(tmp_path / "run", tmp_path / "out")) < 2_000_000


def test_failed_evaluations_are_in_the_chart_and_no_points_of_the_page(
    run: Path, tmp_path: Path
) -> None:
    path = run / "searches/default/front.json"
    failures = [{"digest": "a" * 12, "values": {"latency_ms": 0.2}, "reason": HOSTILE}]
    content = {**json.loads(path.read_text()), "failed": 2, "failures": failures}
    path.write_text(json.dumps(content))
    page = Page(report(run, tmp_path / "out"))
    (data,) = page.searches
    (drawn,) = [group for group in data["scatter"]["groups"] if group["kind"] == "failed"]
    assert (drawn["x"], drawn["y"], drawn["reasons"]) == ([0.2], [None], [HOSTILE[:300]])
    assert "1 evaluation failed and has no place." in data["scatter"]["notes"]
    assert "a" * 12 not in {point["id"] for point in data["points"]}
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_searches_devices_and_audits_of_a_run_are_on_one_page(run: Path, tmp_path: Path) -> None:
    second = run / "searches/second"
    second.mkdir()
    (second / "front.json").write_text(json.dumps(front_json(small_space(), seed=4)))
    page = Page(report(run, tmp_path / "out"))
    assert [data["scatter"]["label"] for data in page.searches] == [
        "accuracy over latency, search default", "accuracy over latency, search second",
    ]  # fmt: skip
    for said in ("Search second", "Some Processor (6/1/1)", "Trustworthy: on 24 unseen networks",
                 "Kendall tau", "0.0405", "No progress was recorded."):  # fmt: skip
        assert said in page.text, said
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)


def test_a_recorded_run_has_its_audit(tmp_path: Path) -> None:
    page = Page(report(RECORDED, tmp_path / "out"))
    assert "Audits" in page.text
    assert describe_worth(read_audit(RECORDED / "audits/default")) in page.text
    assert read_space(RECORDED / "space.json").names[0] in json.dumps(page.searches)


def test_losses_of_the_training_are_drawn_where_they_were_logged(run: Path, tmp_path: Path) -> None:
    assert "Losses on the batch" not in Page(report(run, tmp_path / "without")).text
    lines = [
        json.dumps({"step": step, "steps": 40, "loss_largest": 2 / step, "loss_smallest": 3 / step})
        for step in (10, 20, 30, 40)
    ]
    (run / "metrics.jsonl").write_text("\n".join([*lines, "{]"]) + "\n")
    said: list[str] = []
    report_job(run, said.append, out=tmp_path / "with", baseline=False)
    page = Page((tmp_path / "with" / PAGE).read_text(encoding="utf-8"))
    assert "Losses on the batch" in page.text
    assert "training loss (nats)" in page.text
    labels = [str(attributes.get("aria-label")) for _, attributes in page.tags]
    assert any("0.2" in label and "10" in label for label in labels if "loss of the" in label)
    assert [line for line in said if "metrics.jsonl, line 5" in line and line[:8] == "warning:"]


def test_what_the_front_has_in_common_needs_the_space(run: Path, tmp_path: Path) -> None:
    page = Page(report(run, tmp_path / "with"))
    assert "networks with the value (%)" in page.text
    (run / "space.json").unlink()
    assert "networks with the value (%)" not in Page(report(run, tmp_path / "without")).text


def test_what_cannot_be_read_is_said(run: Path, tmp_path: Path) -> None:
    (run / "space.json").write_text("{")
    page = Page(report(run, tmp_path / "out"))
    assert "space.json" in page.text
    assert page.searches[0]["choices"], "from the points instead"


def test_the_page_is_listed_and_written_again_only_if_it_differs(
    command: Command, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = command("report", "--run", run, "--no-baseline", "--out", out, "--json")
    assert PAGE in json.loads(outcome.out)["written"]
    before = (out / PAGE).stat()
    text = command("report", "--run", run, "--no-baseline", "--out", out).out
    assert str(out / PAGE) in text
    after = (out / PAGE).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_whoever_switched_scripts_off_is_told(run: Path, tmp_path: Path) -> None:
    (said,) = re.findall("<noscript><p class=.warning.>(.*?)</p></noscript>", report(run, tmp_path))
    assert said == (
        "Charts and tables of points need JavaScript, which is switched off here; report.md and "
        "the files beside it say the same in words."
    )


def test_nothing_of_the_place_of_a_run_is_told(run: Path, tmp_path: Path) -> None:
    assert str(tmp_path) not in report(run, tmp_path / "out")


# -- safety ----------------------------------------------------------------------------------------


def test_the_policy_lets_its_own_script_and_style_run_and_nothing_else(
    run: Path, tmp_path: Path
) -> None:
    page = Page(report(run, tmp_path / "out"))
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for kind, name in (("script", "script-src"), ("style", "style-src")):
        (source,) = [s for tag, a, s in page.sources if tag == kind and "data-search" not in a]
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    # What would load something, or what the policy would refuse with an error.
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form"), tag
        assert not {"src", "style", "srcset"} & set(attributes), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#"), (tag, attributes)


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    write_hostile_run(tmp_path / "stranger")
    text = report(tmp_path / "stranger", tmp_path / "out")
    page = Page(text)
    assert not [a for tag, a in page.tags if tag in ("img", "a") and "evil" in str(a)]
    assert "<img" not in text
    assert HOSTILE.split("\n")[0] in page.text
    (data,) = page.searches
    assert data["scatter"]["y"]["name"] == HOSTILE
    assert any(HOSTILE in unit for unit in data["units"])


@pytest.mark.parametrize(
    "name", ["</script><script>alert(1)</script>", "<!--<script>", "]]>", "&lt;", "\u2028", '"\\']
)
def test_data_never_end_their_script(name: str) -> None:
    written = write_json({"name": name, name: [name]})
    assert not re.search(r"[<>&\u2028]", written)
    assert json.loads(written) == {"name": name, name: [name]}
    page = Page(f'<script type="application/json">{written}</script><p>after</p>')
    assert page.searches == [{"name": name, name: [name]}]
    assert page.text == "after"


def test_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json([float("nan")])


def test_the_same_run_makes_the_same_page(run: Path, tmp_path: Path) -> None:
    assert report(run, tmp_path / "a") == report(run, tmp_path / "b")

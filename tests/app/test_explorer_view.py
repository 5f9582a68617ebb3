"""Reading runs, choosing within a budget, layers and wording of the explorer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.explorer import layers, markup
from app.explorer.launch import START, explore_command
from app.records import numbers
from app.records.columns.front_columns import make_column
from app.records.quantities import ACCURACY, LATENCY
from app.records.searches import picking
from app.records.searches.front import Estimate, Front, parse_front
from app.records.searches.trace import read_trace
from app.runs import run_view
from app.runs.run_folders import find_runs
from supernet.space import SearchSpace
from tests.toys.explored_runs import front_json, small_space, write_run

ROOT = Path(__file__).resolve().parents[2]


def front_of(payload: dict[str, Any]) -> Front:
    return parse_front(payload, "front.json", "default")


@pytest.fixture
def front() -> Front:
    return front_of(front_json(small_space()))


def test_pick_is_the_best_verified_point_within_every_budget(front: Front) -> None:
    verified = [p for p in front.points if p.verified]
    latency = {p.digest: p.estimates["latency_ms"].value for p in verified}
    accuracy = {p.digest: p.estimates["accuracy"].value for p in verified}
    assert len(verified) > 5
    for budget in latency.values():
        chosen = picking.pick(front, budget).point
        assert chosen is not None
        assert latency[chosen.digest] <= budget
        within = {d: accuracy[d] for d in latency if latency[d] <= budget}
        best = picking.pick(front, budget).best
        assert best is not None
        assert accuracy[best.digest] == max(within.values())
        # What is recommended is the cheapest of those that may as well be the best.
        deviation = (0.006 + 0.005) / 2 / 1.96
        alike = [d for d in within if within[best.digest] - within[d] <= 0.431 * 2**0.5 * deviation]
        assert chosen.digest == min(alike, key=lambda d: latency[d] or 0.0)


def test_pick_ignores_unverified_points(front: Front) -> None:
    payload = front_json(small_space())
    tempting = next(p for p in payload["points"] if not p["verified"])
    tempting["objectives"]["accuracy"]["value"] = 0.9999
    tempting["objectives"]["latency_ms"]["value"] = 0.0001
    chosen = picking.pick(front_of(payload), 1e9).point
    assert chosen is not None
    assert chosen.digest != tempting["digest"]


def test_pick_ignores_latencies_that_were_not_measured() -> None:
    payload = front_json(small_space())
    best = max((p for p in payload["points"] if p["verified"]),
               key=lambda p: p["objectives"]["accuracy"]["value"])  # fmt: skip
    best["objectives"]["latency_ms"]["source"] = "table"
    chosen = picking.pick(front_of(payload), 1e9).point
    assert chosen is not None
    assert chosen.digest != best["digest"]


def test_latency_limits_the_budget_even_when_it_was_not_searched_for() -> None:
    payload = front_json(small_space())
    payload["objectives"][1] = {"name": "size_bytes", "unit": "bytes", "direction": "minimize"}
    front = front_of(payload)
    assert front.cost.name == "latency_ms"
    assert [a.name for a in front.axes][:3] == ["accuracy", "size_bytes", "latency_ms"]
    assert picking.pick(front, 1e9).point is not None


def test_pick_takes_the_cheaper_of_equals() -> None:
    payload = front_json(small_space())
    verified = [p for p in payload["points"] if p["verified"]][-2:]
    for entry in verified:
        entry["objectives"]["accuracy"]["value"] = 0.999
    chosen = picking.pick(front_of(payload), 1e9).point
    assert chosen is not None
    assert chosen.digest == verified[0]["digest"]


def test_a_budget_below_the_fastest_names_the_nearest(front: Front) -> None:
    fastest = picking.list_measured(front)[0]
    answer = picking.pick(front, (fastest.best("latency_ms") or 0) * 0.99)
    assert answer.point is None
    assert answer.nearest == fastest


def test_a_loss_is_minimised() -> None:
    front = front_of(front_json(small_space(), loss=True))
    chosen = picking.pick(front, 1e9).best
    assert chosen is not None
    assert front.quality.name == "loss"
    assert chosen.best("loss") == min(p.best("loss") for p in picking.list_measured(front))


def test_the_knee_lies_strictly_between_the_ends(front: Front) -> None:
    chosen = picking.pick_knee(front)
    members = [p for p in picking.list_measured(front) if p.on_front]
    assert chosen is not None
    assert chosen not in (members[0], members[-1])


def test_axes_add_counts_once(front: Front) -> None:
    assert [a.name for a in front.axes] == [
        "accuracy", "latency_ms", "parameters", "macs", "size_bytes",
    ]  # fmt: skip


def test_intervals_are_drawn_only_around_what_they_contain() -> None:
    inside = Estimate(predicted=0.5, value=0.97, source="evaluated", low=0.96, high=0.99)
    assert inside.interval == (0.96, 0.99)
    assert inside.replace(value=0.95).interval is None
    assert Estimate(predicted=0.5, low=0.4, high=0.6).interval is None
    known = inside.replace(posterior=0.95, posterior_low=0.93, posterior_high=0.965)
    assert (known.best, known.interval) == (0.95, (0.93, 0.965))
    assert known.replace(posterior_high=0.94).interval is None


def test_columns_are_what_single_estimates_say() -> None:
    known = Estimate(value=0.97, low=0.96, high=0.99, posterior=0.95, posterior_low=0.93,
                     posterior_high=0.965, posterior_error=0.004)  # fmt: skip
    estimates = [known, Estimate(value=0.8, low=0.7, high=0.9), Estimate(predicted=0.6)]
    column = make_column(estimates)
    assert column.best.tolist() == [e.best for e in estimates]
    assert (column.low[0], column.high[0], column.error[0]) == (0.93, 0.965, 0.004)
    assert (column.low[1], column.high[1]) == (0.7, 0.9)
    assert np.isnan(column.error[1:]).all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.update(version=9), "version 9"),
        (lambda p: p.pop("points"), "lacks 'points'"),
        (lambda p: p["points"][0].pop("digest"), "lacks 'digest'"),
        (lambda p: p.update(objectives=[]), "no objectives"),
        (lambda p: p.update(points=[1]), r"points\[0\] is 1, but must be an object"),
    ],
)
def test_a_damaged_front_is_refused_in_a_sentence(
    damage: Callable[[dict[str, Any]], object], message: str
) -> None:
    payload = front_json(small_space())
    damage(payload)
    with pytest.raises(ValueError, match=message):
        front_of(payload)


# -- run directories -------------------------------------------------------------------------------


def test_load_run_reads_everything_and_writes_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    run = run_view.load_run(tmp_path / "run")
    assert run.problems == ()
    report = run.devices["cpu"].report
    assert report is not None
    assert report.verdict == "Trustworthy: on 24 unseen networks its mean error is 3.1%."
    assert (report.trustworthy, report.mape, report.within_5, report.within_10) == (
        True,
        0.031,
        0.85,
        0.98,
    )
    assert (report.kendall_tau, report.floor_mape, report.networks) == (0.94, 0.012, 24)
    assert run.devices["cpu"].description == "Some Processor (6/1/1), CPU, 1 thread, fp32"
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_run_opens_without_torch(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from app.runs import run_view;"
        "from app.reporting.charts.front_chart import draw_front;"
        "front = run_view.load_run(Path(sys.argv[1])).fronts['default'];"
        "draw_front(front, front.cost, front.quality);"
        "heavy = {'torch', 'onnxruntime', 'pymoo', 'sklearn'} & set(sys.modules); assert not heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True, cwd=ROOT)


def test_the_test_split_comes_before_validation(tmp_path: Path) -> None:
    write_run(tmp_path)
    run = run_view.load_run(tmp_path)
    quality = run_view.find_quality(run, small_space().smallest.digest)
    assert quality is not None
    assert (quality.objective, quality.unit) == ("accuracy", "fraction")
    assert (quality.split, quality.value) == ("test", 0.9472)
    assert run_view.find_quality(run, "unknown") is None


@pytest.mark.parametrize(
    "file",
    ["space.json", "devices/cpu/device.json", "devices/cpu/report.json",
     "searches/default/front.json"],
)  # fmt: skip
def test_a_torn_file_becomes_one_problem(tmp_path: Path, file: str) -> None:
    write_run(tmp_path)
    text = (tmp_path / file).read_text()
    (tmp_path / file).write_text(text[: len(text) // 2])
    run = run_view.load_run(tmp_path)
    assert len(run.problems) == 1
    assert Path(file).name in run.problems[0]


def test_torn_last_lines_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path)
    for file in ("evaluations.jsonl", "searches/default/hypervolume.csv"):
        path = tmp_path / file
        path.write_text(path.read_text()[:-4])
    run = run_view.load_run(tmp_path)
    assert run.problems == ()
    assert len(run.evaluations) == 2
    assert [row.evaluations for row in read_trace(tmp_path / "searches/default")] == [
        10, 20, 30, 40, 50,
    ]  # fmt: skip


def test_a_damaged_progress_file_names_the_line(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "searches/default/hypervolume.csv").write_text(
        "evaluations,hypervolume\n10,0.1\n20,oops\n"
    )
    with pytest.raises(ValueError, match="line 3"):
        read_trace(tmp_path / "searches/default")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a run directory"):
        run_view.load_run(tmp_path)
    (tmp_path / "run.json").write_text('{"version": 7}')
    with pytest.raises(ValueError, match="version 7"):
        run_view.load_run(tmp_path)


def test_runs_are_found_one_level_down_and_once(tmp_path: Path) -> None:
    write_run(tmp_path / "b")
    write_run(tmp_path / "a")
    found = find_runs([tmp_path / "b", tmp_path, tmp_path / "nothing"])
    assert found == [tmp_path / "b", tmp_path / "a"]


def test_the_next_command_follows_the_stages(tmp_path: Path) -> None:
    write_run(tmp_path, profiled=False, searched=False)
    step = run_view.suggest_command(run_view.load_run(tmp_path))
    assert step is not None
    assert step[1] == f"supernet profile --run {tmp_path} --device cpu"
    write_run(tmp_path, searched=False)
    step = run_view.suggest_command(run_view.load_run(tmp_path))
    assert step is not None
    assert step[1].startswith("supernet search ")
    info = json.loads((tmp_path / "run.json").read_text())
    info["stages"] = {"train": {"status": "running"}}
    (tmp_path / "run.json").write_text(json.dumps(info))
    step = run_view.suggest_command(run_view.load_run(tmp_path))
    assert step is not None
    assert step[1] == f"supernet train --out {tmp_path} --resume"
    # A name out of a file is offered as what it is, and never as if it had been typed.
    info["family"] = "strange.family"
    (tmp_path / "run.json").write_text(json.dumps(info))
    step = run_view.suggest_command(run_view.load_run(tmp_path))
    assert step is not None
    assert step[1] == f"supernet train --out {tmp_path} --resume --trust strange.family"
    assert step[0].endswith("strange.family will run as a program: only if it is yours.")


def test_the_server_is_told_runs_by_absolute_paths() -> None:
    command = explore_command([Path("one"), Path("two")], port=8600, headless=True)
    runs = [str(Path("one").absolute()), str(Path("two").absolute())]
    assert command[-5:] == ["--", START, str(Path.cwd()), *runs]
    assert "--server.port=8600" in command
    assert "--server.showEmailPrompt=false" in command, "it would wait at the first start"
    assert Path(command[1]).is_file()


# -- layers ----------------------------------------------------------------------------------------


@pytest.fixture
def space() -> SearchSpace:
    return small_space()


def test_layers_follow_the_network_and_show_what_is_skipped(space: SearchSpace) -> None:
    rows = layers.group_layers(space, space.smallest.to_dict())
    assert [row.name for row in rows][:4] == [
        "network", "stage1", "stage1.block1", "stage1.block2",
    ]  # fmt: skip
    assert [row.level for row in rows][:4] == [0, 1, 2, 2]
    assert [row.skipped for row in rows][:4] == [False, False, False, True]
    assert layers.list_properties(rows) == ("kernel", "expand")
    assert markup.write_layers(rows).count("skipped") == 6


def test_differences_count_skipped_layers(space: SearchSpace) -> None:
    rows = layers.group_layers(space, space.smallest.to_dict(), space.largest.to_dict())
    assert {g.name for g in layers.list_changes(rows)} == set(space.smallest.diff(space.largest))
    assert "(compared: 4)" in markup.write_layers(rows)


def test_layers_without_a_space_show_the_choices(space: SearchSpace) -> None:
    rows = layers.group_layers(None, {"depth": 2, "layer1.heads": 4})
    assert [(row.name, row.level) for row in rows] == [("network", 0), ("layer1", 2)]
    assert "4" in markup.write_layers(rows)


def test_genome_places_values_between_smallest_and_largest(
    space: SearchSpace, front: Front
) -> None:
    found = layers.line_up(space, [front.find_point(space.smallest.digest),
                                  front.find_point(space.largest.digest)])  # fmt: skip
    row = found.names.index("stage1.block2.expand")
    assert found.shares[row] == (None, 1.0)
    assert found.shares[0] == (0.0, 1.0)


def test_text_from_files_cannot_become_markup() -> None:
    assert "<script>" not in markup.write_facts([("<script>", "<script>", "")])


# -- wording ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.format_milliseconds(0.021349), "0.0213 ms"),
        (numbers.format_milliseconds(9.996), "10.0 ms"),
        (numbers.format_milliseconds(1234.5), "1,230 ms"),
        (LATENCY.show(None), numbers.MISSING),
        (LATENCY.show(0.021349), "0.0213 ms"),
        (numbers.format_percent(0.97249, 2), "97.25 %"),
        (numbers.format_bytes(999), "999 B"),
        (numbers.format_bytes(999_600), "1.00 MB"),
        (numbers.format_bytes(45_123), "45.1 KB"),
        (numbers.format_count(719_800), "720 K"),
        (numbers.format_space_size(148_176), "148,176"),
        (numbers.format_space_size(99_960_000), "1.0 \N{MULTIPLICATION SIGN} 10⁸"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected


def test_differences_carry_sign_and_unit() -> None:
    assert ACCURACY.show_difference(0.98, 0.97) == "+1.00 points"
    assert LATENCY.show_difference(0.1, 0.131) == "\N{MINUS SIGN}0.0310 ms"
    assert LATENCY.show_difference(0.1, None) == numbers.MISSING

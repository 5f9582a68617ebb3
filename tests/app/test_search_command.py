"""What `supernet search` offers: limits, stops, several devices, baseline, failures, progress."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.runs.run_view import load_run
from hardware.table import LatencyTable
from supernet import checksums
from supernet.space import SearchSpace
from tests.app.conftest import EVALUATIONS, QUICK_SEARCH, SEARCH, Command, contents

Refused = Callable[..., str]


def front_of(run: Path, name: str) -> dict[str, Any]:
    front: dict[str, Any] = checksums.read_json(run / "searches" / name / "front.json")
    return front


def trace_of(run: Path, name: str) -> list[dict[str, str]]:
    with (run / "searches" / name / "hypervolume.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def two_devices(a_run: Path) -> Path:
    """The run with a second device, whose table was made on another machine."""
    table = LatencyTable.load(a_run / "devices" / "cpu")
    slower = {
        unit: {**row, "latency_ms": 2 * row["latency_ms"]} if "latency_ms" in row else row
        for unit, row in table.rows.items()
    }
    phone = replace(
        table,
        device=replace(table.device, name="phone"),
        fingerprint={**table.fingerprint, "cpu": "a phone"},
        rows=slower,
    )
    phone.save(a_run / "devices" / "phone")
    return a_run


def test_limits_relative_to_the_largest_and_of_any_quantity(command: Command, a_run: Path) -> None:
    outcome = command("search", "--run", a_run, "--name", "small", *SEARCH, "--latency-ms", "90%",
                      "--limit", "size<=70%", "--limit", "accuracy>=0.05", "--json")  # fmt: skip
    assert outcome.code == 0, outcome.err
    front = front_of(a_run, "small")
    limits = {c["objective"]: c for c in front["constraints"]}
    assert set(limits) == {"latency_ms", "size_bytes", "accuracy"}
    largest = max(p["size_bytes"] for p in front_of(a_run, "default")["points"])
    assert limits["size_bytes"]["at_most"] == pytest.approx(0.7 * largest), "corners are evaluated"
    assert limits["accuracy"] == {"objective": "accuracy", "at_most": None, "at_least": 0.05}
    for point in front["points"]:
        assert point["size_bytes"] <= limits["size_bytes"]["at_most"]
        assert point["objectives"]["latency_ms"]["predicted"] <= limits["latency_ms"]["at_most"]
        assert point["objectives"]["size_bytes"]["value"] == point["size_bytes"]
        if point["on_front"]:
            assert point["objectives"]["accuracy"]["value"] >= 0.05


def test_a_limit_that_only_luck_met_leaves_no_front(
    command: Command, refused: Refused, a_run: Path
) -> None:
    flags = ("search", "--run", a_run, "--name", "lucky", *SEARCH)
    points = front_of(a_run, "default")["points"]
    luckiest = max(p["objectives"]["accuracy"]["value"] for p in points)
    expected = max(p["objectives"]["accuracy"]["posterior"] for p in points)
    assert expected < luckiest
    said = refused(*flags, "--limit", f"accuracy>={luckiest}")
    assert "search 'lucky' found nothing: none of" in said
    assert "the nearest has accuracy 0." in said
    assert not (a_run / "searches/lucky/front.json").exists()
    assert checksums.read_json(a_run / "searches/lucky/search.json")["status"] == "empty"
    # What is expected to meet a limit is found, whatever it scored.
    assert command(*flags, "--limit", f"accuracy>={expected - 0.02}").code == 0
    for point in front_of(a_run, "lucky")["points"]:
        if point["on_front"]:
            assert point["objectives"]["accuracy"]["posterior"] >= expected - 0.02


def test_a_line_per_round_shows_the_front_and_a_card_comes_before_predictions(
    command: Command, a_run: Path
) -> None:
    flags = ("search", "--run", a_run, "--name", "new")
    first = command(*flags, "--evaluations", EVALUATIONS, "--max-minutes", 1e-9, "--json")
    assert first.code == 0, first.err
    result = json.loads(first.out)
    assert (result["stopped"], result["evaluations"]) == ("time", 30), "the round is finished"
    # On a busy machine there are signs of life in between.
    said = [line for line in first.err.splitlines()
            if line.startswith("search new:") and not line.endswith(" so far")]  # fmt: skip
    begin = next(i for i, line in enumerate(said) if "on the front, hypervolume" in line)
    lines = said[begin:]
    assert "30/32 evaluations" in lines[0]
    assert "best accuracy" in lines[0]
    assert "accuracy predictor (" in lines[1]
    assert "a larger --max-minutes goes on" in lines[-1]
    again = command(*flags, "--evaluations", EVALUATIONS, "--max-minutes", 60, "--json")
    result = json.loads(again.out)
    assert (result["stopped"], result["evaluations"]) == ("evaluations", EVALUATIONS)
    assert result["reused"] == EVALUATIONS, "this seed's architectures are all known"
    report = front_of(a_run, "new")["report"]["accuracy"]
    assert report["samples"] == EVALUATIONS
    assert report["curve"][-1] == [EVALUATIONS, report["tau"]]
    assert "already complete" in command(*flags, *SEARCH, "--max-minutes", 60).err
    ours = [p["digest"] for p in front_of(a_run, "new")["points"]]
    assert ours == [p["digest"] for p in front_of(a_run, "default")["points"]], (
        "time changes nothing"
    )


def test_random_search_beside(command: Command, a_run: Path) -> None:
    before = front_of(a_run, "default")
    outcome = command("search", "--run", a_run, *SEARCH, "--baseline", "--json")
    assert outcome.code == 0, outcome.err
    assert "already complete" in outcome.err
    assert "32/32 evaluations" in outcome.err
    after = front_of(a_run, "default")
    baseline = after.pop("baseline")
    assert after == before, "a baseline changes nothing else"
    assert baseline["evaluations"] == EVALUATIONS
    rows = trace_of(a_run, "default")
    assert len(rows) == EVALUATIONS
    beside = [float(row["random_search"]) for row in rows]
    assert beside == sorted(beside)
    assert beside[-1] == pytest.approx(baseline["hypervolume"])
    assert float(rows[-1]["hypervolume"]) == pytest.approx(before["hypervolume"]["searched"])
    assert json.loads(outcome.out)["baseline_hypervolume"] == baseline["hypervolume"]
    # The front that it keeps is the one whose volume it states.
    reference = after["hypervolume"]["reference"]
    corners = sorted((p["values"]["latency_ms"], p["values"]["accuracy"])
                     for p in baseline["front"])  # fmt: skip
    ends = [*(latency for latency, _ in corners[1:]), reference["latency_ms"]]
    volume = sum(
        max(min(end, reference["latency_ms"]) - latency, 0)
        * max(quality - reference["accuracy"], 0)
        for (latency, quality), end in zip(corners, ends, strict=True)
    )
    assert volume == pytest.approx(baseline["hypervolume"])
    known = {record["digest"]: record for line in (a_run / "evaluations.jsonl").open()
             for record in [json.loads(line)] if record["split"] == "val"}  # fmt: skip
    for member in baseline["front"]:
        assert member["values"]["accuracy"] == known[member["digest"]]["value"]
        assert member["values"]["parameters"] > 0
    log = (a_run / "evaluations.jsonl").read_bytes()
    again = command("search", "--run", a_run, *SEARCH, "--baseline")
    assert "of random search after as many" in again.out
    assert (a_run / "evaluations.jsonl").read_bytes() == log, "it is stored, too"


def test_failed_evaluations_are_counted_and_the_search_goes_on(
    command: Command, a_run: Path
) -> None:
    log = a_run / "evaluations.jsonl"
    whole = front_of(a_run, "default")
    records = [checksums.unseal(json.loads(line)) for line in log.read_text().splitlines()]
    failed = next(r for r in records if r["split"] == "val")
    failed.update(value=None, low=None, high=None, failure="RuntimeError: no <b>memory</b>")
    log.write_text("".join(json.dumps(r) + "\n" for r in records))
    outcome = command("search", "--run", a_run, *SEARCH, "--replace", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["failed"] == 1
    assert "30/32 evaluations, 1 failed" in outcome.err
    front = front_of(a_run, "default")
    assert front["failed"] == 1
    (failure,) = front["failures"]
    assert failure["digest"] == failed["digest"]
    assert failure["reason"] == "RuntimeError: no <b>memory</b>"
    # What needs no evaluation is known all the same.
    assert set(failure["values"]) == {"latency_ms", "parameters", "macs", "size_bytes"}
    before = next(p for p in whole["points"] if p["digest"] == failed["digest"])
    assert failure["values"]["parameters"] == before["parameters"]
    assert failure["values"]["latency_ms"] == pytest.approx(
        before["objectives"]["latency_ms"]["predicted"]
    )
    assert failed["digest"] not in {p["digest"] for p in front["points"]}
    assert "(32 reused, 1 failed)" in command("search", "--run", a_run, *SEARCH).out.replace(
        "0 reused", "32 reused"
    )


def test_points_behind_within_noise_are_marked(finished_run: Path) -> None:
    front = front_of(finished_run, "default")
    members = [p for p in front["points"] if p["on_front"]]
    close = [p for p in front["points"] if p["indistinguishable"]]
    assert not any(p["on_front"] for p in close)
    # 269 validation images: two accuracies are known apart from some five points on.
    for point in close:
        value = point["objectives"]["accuracy"]["value"]
        cheaper = [p["objectives"]["accuracy"]["value"] for p in members
                   if p["objectives"]["latency_ms"]["predicted"]
                   <= point["objectives"]["latency_ms"]["predicted"]]  # fmt: skip
        assert max(cheaper, default=0.0) - value < 0.08


def test_several_devices_and_one_that_is_not_here(command: Command, two_devices: Path) -> None:
    flags = ("search", "--run", two_devices, "--device", "cpu,phone", "--name", "both",
             *QUICK_SEARCH)  # fmt: skip
    outcome = command(*flags, "--objectives", "accuracy,worst_latency,latency@phone",
                      "--limit", "latency@cpu<=95%")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "latencies on phone stay those of its table" in outcome.err
    assert "Latencies on phone are those of the tables" in outcome.out
    front = front_of(two_devices, "both")
    assert front["unmeasured_devices"] == ["phone"]
    assert [c["objective"] for c in front["constraints"]] == ["latency_ms@cpu"]
    names = [o["name"] for o in front["objectives"]]
    assert names == ["accuracy", "worst_latency", "latency_ms@phone"]
    for point in front["points"]:
        entries = point["objectives"]
        here, there = entries["latency_ms@cpu"], entries["latency_ms@phone"]
        assert here["source"] == ("measured" if point["on_front"] else "table")
        assert there["source"] == "table"
        assert 0 < entries["worst_latency"]["predicted"] <= 1.2
    picked = ("pick", "--run", two_devices, "--search", "both", "--json")
    cpu = json.loads(command(*picked, "--latency-ms", 100).out)
    assert (cpu["device"], cpu["latency_source"]) == ("cpu", "measured")
    phone = json.loads(command(*picked, "--latency-ms", 100, "--device", "phone").out)
    assert (phone["device"], phone["latency_source"]) == ("phone", "table")
    assert (
        "by its table, not measured"
        in command(*picked[:-1], "--latency-ms", 100, "--device", "phone").out
    )


def test_impossible_limits_name_the_nearest_architecture(
    refused: Refused, finished_run: Path
) -> None:
    before = contents(finished_run)
    flags = ("search", "--run", finished_run, "--name", "x", *SEARCH)
    cases = {
        ("--limit", "size<=1%"): "nearest architecture is [0-9a-f]{12} .the smallest.* with "
        "latency_ms .* ms, size_bytes .* bytes",
        ("--limit", "accuracy>=0.9", "--limit", "accuracy<=0.5"):
        "accuracy >= 0.9 and accuracy <= 0.5 exclude each other",
        ("--limit", "size<=20%", "--limit", "macs>=90%"): "nearest|no architecture",
        ("--limit", "foo<=3"): "unknown objective 'foo'",
        ("--limit", "size"): "limit 'size' cannot be read",
        ("--limit", "accuracy>=90%"): "such as 0.9",
        ("--limit", "loss<=3"): "'loss' does not fit the task",
        ("--latency-ms", "abc"): "latency budget 'abc' cannot be read",
        ("--latency-ms", "0%"): "budget of 0% ms cannot work",
        ("--objectives", "accuracy,worst_latency"): "needs two or more devices",
        ("--objectives", "accuracy,latency@phon"): "device 'phon' is not profiled",
        ("--objectives", "accuracy,size@cpu"): "only latency has a device",
        ("--device", "cpu,cpu"): "must be different names",
        ("--max-minutes", "0"): "max-minutes = 0 cannot work",
        ("--stagnation", "0"): "stagnation = 0 is impossible",
        ("--workers", "0"): "workers = 0 is impossible",
    }  # fmt: skip
    for extra, expected in cases.items():
        with pytest.raises(ValueError, match=expected):
            raise ValueError(refused(*flags, *extra))
    with pytest.raises(ValueError, match="evaluations = 10 is fewer than the 30 of the first"):
        raise ValueError(refused(*flags[:-2], "--evaluations", 10))
    assert contents(finished_run) == before


def test_an_evaluated_limit_that_nothing_meets_names_what_came_nearest_and_blocks_nothing(
    command: Command, refused: Refused, a_run: Path
) -> None:
    flags = ("search", "--run", a_run, "--name", "never", *QUICK_SEARCH)
    with pytest.raises(
        ValueError, match=r"none of 6 .* the nearest has accuracy 0\.\d+ \(\w{12}\)"
    ):
        raise ValueError(refused(*flags, "--limit", "accuracy>=0.99999"))
    assert json.loads((a_run / "searches/never/search.json").read_text())["status"] == "empty"
    assert json.loads((a_run / "run.json").read_text())["stages"]["search"]["status"] == "empty"
    problem = next(p for p in load_run(a_run).problems if "never" in p)
    assert problem.startswith("Search never came to its end and found nothing within its limits")
    # The advice, to loosen the limit, works under the same name; other searches are not given up.
    assert command(*flags, "--limit", "accuracy>=0.01").code == 0
    assert json.loads((a_run / "searches/never/search.json").read_text())["status"] == "complete"
    assert "never" not in " ".join(load_run(a_run).problems)
    assert "has other settings" in refused(*flags, "--limit", "accuracy>=0.02")


def test_a_space_that_changed_since_the_stored_evaluations(refused: Refused, a_run: Path) -> None:
    log = a_run / "evaluations.jsonl"
    old = log.read_text()
    record = json.loads(old.splitlines()[0])
    for change in ({"digest": "0" * 12}, {"architecture": {"other.choice": 3}}):
        log.write_text(json.dumps(checksums.seal({**record, **change})) + "\n")
        with pytest.raises(ValueError, match=r"evaluations\.jsonl holds evaluations of another sp"):
            raise ValueError(refused("search", "--run", a_run, "--name", "x", *SEARCH))
    assert not (a_run / "searches" / "x").exists()


@pytest.mark.parametrize("kind", ["another space", "edited", "type", "folder", "missing"])
def test_a_damaged_space_is_written_again(command: Command, a_run: Path, kind: str) -> None:
    path = a_run / "space.json"
    whole = path.read_text()
    space = SearchSpace.from_json(json.loads(whole))
    first = space.choices[0]
    edited = space.to_json()
    edited["choices"][-1]["values"] = edited["choices"][-1]["values"][:-1]
    other = {
        "another space": json.dumps(space.restrict({first.name: first.values[:1]}).to_json()),
        "edited": json.dumps(edited),
        "type": "[1]",
    }
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind in other:
        path.write_text(other[kind])
    outcome = command("search", "--run", a_run, *SEARCH)
    assert outcome.code == 0, outcome.err
    assert path.read_text() == whole
    if kind == "missing":
        return
    assert f"warning: {path} " in outcome.err or kind == "folder"
    assert "space.json" in outcome.err
    assert "it was moved aside and written again" in outcome.err
    aside = path.with_name("space.json.damaged-1")
    assert aside.is_dir() if kind == "folder" else aside.read_text() == other[kind]


def test_strategies_are_listed(command: Command) -> None:
    outcome = command("search", "--strategies")
    assert outcome.code == 0
    assert any(line.startswith("random_search ") for line in outcome.out.splitlines())
    assert "predictor_guided" in command("search", "--help").out


def test_a_settings_file_gives_limits_and_relative_budgets(
    command: Command, refused: Refused, a_run: Path
) -> None:
    file = a_run.parent / "settings.toml"
    file.write_text(
        f'[search]\nrun = "{a_run}"\nname = "t"\nlatency-ms = 0.0000001\n'
        'limit = ["size<=90%", "macs<=90%"]\n'
    )
    with pytest.raises(ValueError, match="no architecture has latency_ms at most 1e-07"):
        raise ValueError(refused("search", "--config", file, *SEARCH))
    file.write_text(f'[search]\nrun = "{a_run}"\nname = "t"\nlimit = "size<=1%"\n')
    with pytest.raises(ValueError, match="no architecture has size_bytes"):
        raise ValueError(refused("search", "--config", file, *SEARCH))


def test_the_study_and_early_stops_go_with_a_search(command: Command, a_run: Path) -> None:
    shutil.rmtree(a_run / "searches")
    outcome = command("search", "--run", a_run, *SEARCH, "--early-stop", "--json")
    assert outcome.code == 0, outcome.err
    assert re.search(r"\d hopeless candidates? (was|were) stopped early", outcome.err)
    assert (a_run / "searches/default/optuna.log").is_file()
    config = json.loads((a_run / "searches/default/search.json").read_text())["config"]
    assert config["early_stop"] is True


def test_a_finished_search_gets_a_study_when_it_has_none(command: Command, a_run: Path) -> None:
    import optuna

    url = f"sqlite:///{a_run.parent / 'studies.db'}"
    outcome = command("search", "--run", a_run, *SEARCH, "--storage", url)
    assert outcome.code == 0, outcome.err
    assert "already complete" in outcome.err
    names = optuna.get_all_study_names(url)
    study = next(name for name in names if name.endswith("/default"))
    assert len(optuna.load_study(study_name=study, storage=url).trials) == EVALUATIONS

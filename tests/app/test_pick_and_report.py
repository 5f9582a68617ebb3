"""Picking by budget, knee and weights; reports with random search beside."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.records.quantities import SIZE
from app.records.searches import picking
from app.records.searches.front import parse_front
from app.records.searches.trace import read_trace
from search import Constraint
from tests.app.conftest import EVALUATIONS, Command, contents
from tests.toys.explored_runs import front_json, small_space, write_run

Refused = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory as commands leave it, without a network behind it."""
    write_run(tmp_path / "run")
    return tmp_path / "run"


def test_the_explorer_and_the_command_choose_alike(command: Command, run: Path) -> None:
    payload = json.loads((run / "searches/default/front.json").read_text())
    front = parse_front(payload, "front.json", "default")
    by_knee = json.loads(command("pick", "--run", run, "--knee", "--json").out)
    chosen = picking.pick_knee(front)
    assert chosen is not None
    assert by_knee["digest"] == chosen.digest
    assert (by_knee["by"], by_knee["budget_ms"]) == ("knee", None)
    budget = by_knee["latency_ms"] * 1.01
    within = json.loads(command("pick", "--run", run, "--latency-ms", budget, "--json").out)
    answer = picking.pick(front, budget).point
    assert answer is not None
    assert within["digest"] == answer.digest


def test_weights_move_the_choice(command: Command, run: Path) -> None:
    def picked(weights: str) -> dict[str, float]:
        outcome = command("pick", "--run", run, "--weights", weights, "--json")
        assert outcome.code == 0, outcome.err
        found: dict[str, float] = json.loads(outcome.out)
        return found

    accurate, fast = picked("accuracy=100,latency=1"), picked("accuracy=1,latency=100")
    middle = picked("accuracy=1,latency=1")
    assert fast["latency_ms"] < middle["latency_ms"] < accurate["latency_ms"]
    assert fast["value"] < middle["value"] < accurate["value"]
    assert (
        "By preference accuracy 1, latency_ms 1"
        in command("pick", "--run", run, "--weights", "accuracy=1,latency=1").out
    )


def test_limits_of_other_quantities_and_the_quality_itself(command: Command, run: Path) -> None:
    front = json.loads((run / "searches/default/front.json").read_text())
    verified = [p for p in front["points"] if p["verified"]]
    sizes = sorted(p["size_bytes"] for p in verified)
    limit = sizes[len(sizes) // 2]
    small = json.loads(command("pick", "--run", run, "--limit", f"size<={limit}", "--json").out)
    fits = [p for p in verified if p["size_bytes"] <= limit]
    assert small["best_value"] == max(p["objectives"]["accuracy"]["value"] for p in fits)
    wanted = sorted(p["objectives"]["accuracy"]["value"] for p in verified)[len(verified) // 2]
    good = json.loads(command("pick", "--run", run, "--limit", f"accuracy>={wanted}", "--json").out)
    fits = [p for p in verified if p["objectives"]["accuracy"]["value"] >= wanted]
    assert good["latency_ms"] == min(p["objectives"]["latency_ms"]["value"] for p in fits), (
        "with the quality limited, the cheapest one is the best"
    )


def test_ties_are_said_to_be_in_what_was_compared(command: Command, run: Path) -> None:
    path = run / "searches/default/front.json"
    payload = json.loads(path.read_text())
    for point in payload["points"]:
        entry = point["objectives"]["latency_ms"]
        entry["low"], entry["high"] = 0.0, entry["value"] * 9
        entry = point["objectives"]["accuracy"]
        entry["low"], entry["high"] = entry["value"] - 0.4, entry["value"] + 0.4
    path.write_text(json.dumps(payload))
    limited = ("pick", "--run", run, "--limit", "accuracy>=0.01")
    found = json.loads(command(*limited, "--json").out)
    assert found["ties"]
    assert found["best_by"] == "latency_ms"
    # The cheapest was looked for: that all accuracies are alike is not what was compared.
    assert "cannot be told apart from it in latency; it is the cheapest" in command(*limited).out
    budget = ("pick", "--run", run, "--latency-ms", 1e9)
    best = json.loads(command(*budget, "--json").out)["best"]
    assert "; the best, " in command(*budget).out
    assert f", is {best}" in command(*budget).out


def test_points_that_noise_does_not_tell_apart_are_named() -> None:
    payload = front_json(small_space())
    best = sorted((p for p in payload["points"] if p["verified"]),
                  key=lambda p: -p["objectives"]["accuracy"]["value"])  # fmt: skip
    for point in best:
        entry = point["objectives"]["accuracy"]
        entry["low"], entry["high"] = entry["value"] - 0.01, entry["value"] + 0.01
    front = parse_front(payload, "front.json", "default")
    found = picking.pick_within(front, [Constraint("latency_ms", at_most=1e9)])
    assert found.point is not None
    top = best[0]["objectives"]["accuracy"]["value"]
    # Two deviations of 0.01 / 1.96, their difference, and what a third of it lies beyond.
    edge = 0.431 * (2**0.5) * 0.01 / 1.96
    near = {p["digest"] for p in best if top - p["objectives"]["accuracy"]["value"] <= edge}
    assert len(near) > 1
    assert {p.digest for p in (found.point, *found.ties)} == near
    costs = [p.best("latency_ms") or 0.0 for p in (found.point, *found.ties)]
    assert costs == sorted(costs)
    assert found.best is not None
    assert found.best.digest == best[0]["digest"]


def test_a_posterior_decides_and_its_own_error_tells_points_apart() -> None:
    payload = front_json(small_space())
    verified = sorted((p for p in payload["points"] if p["verified"]),
                      key=lambda p: p["objectives"]["latency_ms"]["value"])  # fmt: skip
    first, second, third = verified[:3]
    for point in payload["points"]:
        entry = point["objectives"]["accuracy"]
        entry |= {"posterior": 0.5, "posterior_low": 0.3, "posterior_high": 0.7,
                  "posterior_error": 0.001}  # fmt: skip
    third["objectives"]["accuracy"] |= {"posterior": 0.6}
    second["objectives"]["accuracy"] |= {"posterior": 0.5995}
    first["objectives"]["accuracy"] |= {"posterior": 0.59, "value": 0.99}
    found = picking.pick(parse_front(payload, "front.json", "default"), 1e9)
    assert found.best is not None
    assert found.point is not None
    # The luckiest value is no reason, nor is an interval that all points share.
    assert found.best.digest == third["digest"]
    assert found.point.digest == second["digest"]
    assert [p.digest for p in found.ties] == [third["digest"]]


def test_among_costs_only_the_latency_is_still_the_latency(command: Command, run: Path) -> None:
    path = run / "searches/default/front.json"
    payload = json.loads(path.read_text())
    payload["objectives"] = [
        {"name": "latency_ms", "unit": "ms", "direction": "minimize"},
        {"name": "size_bytes", "unit": "bytes", "direction": "minimize"},
    ]
    for point in payload["points"]:
        point["objectives"]["size_bytes"] = {"value": point["size_bytes"], "source": "analytic"}
    path.write_text(json.dumps(payload))
    verified = [p for p in payload["points"] if p["verified"]]
    within = command("pick", "--run", run, "--latency-ms", 1e6)
    smallest = min(verified, key=lambda p: p["size_bytes"])
    assert within.out.startswith(f"Within 1e+06 ms on cpu: {smallest['digest']}"), within.err
    assert f"size {SIZE.show(smallest['size_bytes'])}" in within.out
    assert "on val" not in within.out
    found = command("pick", "--run", run, "--weights", "latency=3,size=1", "--json")
    assert json.loads(found.out)["weights"] == {"latency_ms": 3.0, "size_bytes": 1.0}


def test_a_latency_that_a_front_lacks_is_no_other_cost(refused: Refused, run: Path) -> None:
    path = run / "searches/default/front.json"
    payload = json.loads(path.read_text())
    payload["objectives"][1] = {"name": "size_bytes", "unit": "bytes", "direction": "minimize"}
    for point in payload["points"]:
        del point["objectives"]["latency_ms"]
    path.write_text(json.dumps(payload))
    for flags in (["--weights", "accuracy=1,latency=1"], ["--limit", "latency<=1e9"]):
        assert "has no 'latency'" in refused("pick", "--run", run, *flags)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "exactly one of a budget .*--knee and --weights"),
        (["--knee", "--latency-ms", "1"], "exactly one"),
        (["--knee", "--weights", "accuracy=1"], "exactly one"),
        (["--weights", "accuracy"], "weights 'accuracy' cannot be read"),
        (["--weights", "accurcy=1"], "has no 'accurcy'.*did you mean 'accuracy'"),
        (["--weights", "accuracy=x"], "the weight of accuracy 'x' cannot be read"),
        (["--weights", "accuracy=1,accuracy=2"], "name 'accuracy' twice"),
        (["--weights", "accuracy=0"], "all zero"),
        (["--limit", "siz<=3"], "has no 'siz'"),
        (["--limit", "size<=3"], "no verified subnetwork .* meets the limits; the nearest is"),
        (["--limit", "size<=50%"], "no largest architecture"),
        (["--limit", "size>=9", "--limit", "size<=3"], "exclude each other"),
        (["--latency-ms", "1", "--device", "phone"], "has no device 'phone'.*it has cpu"),
    ],
)
def test_picks_that_cannot_be_made(
    refused: Refused, run: Path, flags: list[str], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        raise ValueError(refused("pick", "--run", run, *flags))


# -- reports -----------------------------------------------------------------------------------


def test_a_report_of_what_is_there(command: Command, run: Path, tmp_path: Path) -> None:
    before = contents(run)
    out = tmp_path / "report"
    outcome = command("report", "--run", run, "--no-baseline", "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    assert contents(run) == before, "a run that is only read stays as it is"
    result = json.loads(outcome.out)
    assert {p.name for p in (out / "default").iterdir()} == {
        "front.csv", "front.svg", "hypervolume.csv", "hypervolume.svg", "predictors.csv",
        "verification.csv", "report.md",
    }  # fmt: skip
    assert set(result["written"]) == {
        str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()
    }
    front = json.loads((run / "searches/default/front.json").read_text())
    with (out / "default/verification.csv").open() as file:
        rows = {row["digest"]: row for row in csv.DictReader(file)}
    verified = {p["digest"]: p for p in front["points"] if p["verified"] and p["on_front"]}
    assert set(rows) == set(verified)
    for digest, point in verified.items():
        entry = point["objectives"]["accuracy"]
        assert float(rows[digest]["accuracy_found"]) == entry["value"]
        assert float(rows[digest]["accuracy_predicted"]) == entry["predicted"]
        assert rows[digest]["latency_ms_source"] == "measured"
    text = (out / "default/report.md").read_text()
    assert all(digest in text for digest in verified)
    assert "0.86" in text, "the predictor's tau"
    assert "[default](default/report.md)" in (out / "report.md").read_text()


def test_a_report_evaluates_the_missing_baseline(command: Command, a_run: Path) -> None:
    outcome = command("report", "--run", a_run, "--json")
    assert outcome.code == 0, outcome.err
    (summary,) = json.loads(outcome.out)["searches"]
    assert summary["baseline"] > 0
    rows = list(csv.DictReader((a_run / "report/default/hypervolume.csv").read_text().splitlines()))
    assert len(rows) == EVALUATIONS
    assert float(rows[-1]["random_search"]) == pytest.approx(summary["baseline"])
    front = json.loads((a_run / "searches/default/front.json").read_text())
    assert front["baseline"]["hypervolume"] == summary["baseline"]
    trace = read_trace(a_run / "searches/default")
    assert trace[-1].baseline == pytest.approx(summary["baseline"])
    assert "random search" in (a_run / "report/default/hypervolume.svg").read_text()
    log = (a_run / "evaluations.jsonl").read_bytes()
    assert "random search" in command("report", "--run", a_run).out
    assert (a_run / "evaluations.jsonl").read_bytes() == log, "paid for once"


def test_reports_that_cannot_be_written(refused: Refused, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'defalt'.*did you mean 'default'"):
        raise ValueError(refused("report", "--run", run, "--search", "defalt"))
    with pytest.raises(ValueError, match=r"has no search\.json.*--no-baseline"):
        raise ValueError(refused("report", "--run", run))
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match="is a file; a report needs a folder"):
        raise ValueError(refused("report", "--run", run, "--out", file, "--no-baseline"))
    write_run(tmp_path / "empty", searched=False)
    with pytest.raises(ValueError, match="nothing to report"):
        raise ValueError(refused("report", "--run", tmp_path / "empty"))

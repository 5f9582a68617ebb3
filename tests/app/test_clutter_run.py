"""Runs on the cluttered digits: what is chosen for them, and intervals that know of groups."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from app.evaluation.log import EvaluationLog
from app.evaluation.pools import ProcessPool
from app.evaluation.worker import Finding, Task, work
from app.records.evaluation import EvaluationRecord
from app.records.searches.front import read_front
from app.records.searches.front_extras import FinalistsRecord
from app.reporting.finalists import describe_finalists
from app.runs.directory import Run
from app.runs.suited import choose_preset
from app.runs.trained import Trained, open_trained
from app.searching.objectives import Sources, build_objective
from supernet.data import DataSource, Split, open_data
from supernet.errors import InputError
from supernet.families import ofa_mobilenetv3, resnet
from supernet.quality import audit
from supernet.quality.sampling_error import compute_wilson_interval, count_independent_answers
from supernet.training import find_recipe
from tests.app.conftest import Command

SHORT = ["--data", "clutter", "--steps", "5"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five steps with what is chosen when nothing else is asked for; never write to it."""
    from app.commands.main import run

    path = tmp_path_factory.mktemp("clutter") / "run"
    assert run(["train", "--out", str(path), *SHORT]) == 0
    return path


def test_what_suits_the_data_is_chosen(trained: Path) -> None:
    record = Run(trained).record
    assert (record.family, record.preset) == ("ofa_mobilenetv3", "clutter")
    assert record.data.spec == "clutter"
    assert record.data.options == {}
    expected = find_recipe("clutter").resize(5)
    assert record.recipe == expected.to_json()
    assert find_recipe("clutter").steps == 2800
    assert find_recipe("clutter+sgd").replace({"steps": 2000}) == find_recipe("digits+sgd")


def test_presets_follow_data_that_are_called_like_them() -> None:
    assert choose_preset(ofa_mobilenetv3, "clutter") == "clutter"
    assert choose_preset(ofa_mobilenetv3, "digits") == "tiny"
    assert choose_preset(ofa_mobilenetv3, "folder:/clutter") == "tiny"
    assert choose_preset(resnet, "clutter") == "tiny"


@pytest.mark.parametrize("recipe", ["digits", "spos"])
def test_other_recipes_run_on_it(command: Command, tmp_path: Path, recipe: str) -> None:
    train = ["train", "--out", tmp_path / "run", "--data", "clutter", "--recipe", recipe]
    # Both warm up for fifty steps.
    assert command(*train, "--steps", "60", "--batch-size", "4").code == 0
    assert Run(tmp_path / "run").record.preset == "clutter"
    again = json.loads(command("train", "--out", tmp_path / "run", "--resume", "--json").out)
    assert (again["preset"], again["data"], again["steps"]) == ("clutter", "clutter", 60)


def test_a_subnetwork_is_evaluated_by_groups(command: Command, trained: Path) -> None:
    found = json.loads(command("evaluate", "--run", trained, "--arch", "smallest", "--json").out)
    assert found["samples"] == 2154
    assert found["low"] < found["value"] < found["high"]
    network = open_trained(Run(trained), print)
    scores = audit.measure_quality(
        network.supernet, network.supernet.space.smallest, network.data, "val"
    )
    assert found["value"] == scores.mean()
    count = count_independent_answers(scores, network.data.val.groups)
    assert count < 0.8 * 2154
    assert (found["low"], found["high"]) == compute_wilson_interval(found["value"], count)


def test_the_noise_of_a_search_is_that_of_groups() -> None:
    inputs, targets = torch.zeros(60, 1, 2, 2), torch.zeros(60, dtype=torch.int64)
    grouped = Split(inputs, targets, torch.arange(10).repeat_interleave(6))
    records = [
        make_record(0.8, 40.0),
        make_record(0.8, 20.0),
        EvaluationRecord.model_construct(value=None),
    ]
    found = measure_noise(grouped, records, [0.8, 0.7])
    # The larger error of two equally good networks; of an unknown one, that of ten groups.
    assert found == pytest.approx([np.sqrt(0.16 / 20), np.sqrt(0.21 / 10)])
    alone = measure_noise(Split(inputs, targets), records, [0.8, 1.0])
    assert alone == pytest.approx([np.sqrt(0.16 / 60), np.sqrt(59.5 * 0.5) / 60**1.5])


def make_record(value: float, count: float) -> EvaluationRecord:
    """A record of an accuracy that so many independent answers are behind."""
    low, high = compute_wilson_interval(value, count)
    return EvaluationRecord.model_construct(value=value, low=low, high=high)


def measure_noise(split: Split, records: list[EvaluationRecord], values: list[float]) -> np.ndarray:
    """Errors of accuracies in a search whose validation split and log are these."""
    log = SimpleNamespace(records=lambda name: tuple(records) if name == "val" else ())
    network = SimpleNamespace(supernet=SimpleNamespace(space=None), data=SimpleNamespace(val=split))
    sources = Sources(cast(Trained, network), cast(EvaluationLog, log), {})
    return build_objective("accuracy", sources).deviation(np.array(values))


# -- finalists -----------------------------------------------------------------------------------

SEARCH = ("--objectives", "accuracy,size", "--evaluations", 36)


@pytest.fixture(scope="module")
def searched(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Searched by one worker that nothing disturbed; never write to it."""
    from app.commands.main import run

    path = Path(shutil.copytree(trained, tmp_path_factory.mktemp("clutter") / "searched"))
    assert run(["search", "--run", str(path), *map(str, SEARCH)]) == 0
    return path


def read_lines(run: Path) -> list[str]:
    return (run / "evaluations.jsonl").read_text().splitlines(keepends=True)


def find_further(lines: list[str]) -> list[int]:
    """Lines about further samples."""
    return [n for n, line in enumerate(lines) if json.loads(line)["split"].startswith("val+")]


def copy_killed(searched: Path, run: Path, lines: list[str]) -> Path:
    """What a search leaves that was killed when these lines were in the log."""
    shutil.copytree(searched, run, ignore=shutil.ignore_patterns("front*", "evaluations*", "*.csv"))
    plan = run / "searches/default/search.json"
    content = json.loads(plan.read_text())
    del content["checksum"]
    plan.write_text(json.dumps({**content, "status": "running", "front": None}))
    (run / "evaluations.jsonl").write_text("".join(lines))
    return run


def list_findings(run: Path) -> dict[tuple[str, str], tuple[object, ...]]:
    """What the log has of each network on each split, whenever it was found."""
    found = [json.loads(line) for line in read_lines(run)]
    keys = ("value", "low", "high", "samples", "scores", "fingerprint")
    whole = {(r["digest"], r["split"]): tuple(r.get(key) for key in keys) for r in found}
    assert len(whole) == len(found), "nothing is evaluated twice"
    return whole


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.exactness), 2])
def test_a_search_that_was_killed_among_finalists_ends_the_same(
    command: Command,
    searched: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    """With one worker or more: those that evaluate the search look at its finalists, too."""
    asked: list[str] = []
    pools: list[object] = []
    submit, start = ProcessPool.submit, ProcessPool._start

    def count(pool: ProcessPool, task: Task) -> Future[Finding]:
        asked.append(task.split)
        return submit(pool, task)

    def begin(pool: ProcessPool) -> ProcessPoolExecutor:
        pools.append(pool)
        return start(pool)

    monkeypatch.setattr(ProcessPool, "submit", count)
    monkeypatch.setattr(ProcessPool, "_start", begin)
    lines = read_lines(searched)
    further = find_further(lines)
    # A fifth of the evaluations at most, and some: the networks are nearly untrained and alike.
    assert 2 <= len(further) <= 7
    # The last of the search itself is missing, too.
    kept = [*lines[: further[0] - 1], lines[further[0]]]
    killed = copy_killed(searched, tmp_path / "killed", kept)
    outcome = command("search", "--run", killed, *SEARCH, "--workers", workers)
    assert outcome.code == 0, outcome.err
    if workers > 1:
        assert len(pools) == 1
        assert sorted(asked) == sorted(["val", *["val+1"] * (len(further) - 1)])
    fronts = [read_front(run / "searches" / "default") for run in (searched, killed)]
    assert fronts[0].points == fronts[1].points
    assert fronts[0].digests.tolist() == fronts[1].digests.tolist()
    assert fronts[0].finalists == fronts[1].finalists
    samples = {point.estimate("accuracy").samples for point in fronts[0].points}
    assert samples == {2154, 2 * 2154}
    assert list_findings(killed) == list_findings(searched)


def test_what_finalists_took_is_said(command: Command, searched: Path, tmp_path: Path) -> None:
    lines = read_lines(searched)
    further = find_further(lines)
    networks = len({json.loads(lines[n])["digest"] for n in further})
    killed = copy_killed(searched, tmp_path / "killed", lines[: further[1]])
    expected = {"evaluations": len(further), "networks": networks}
    sentence = f"Finalists: {len(further)} evaluations on further samples, of {networks} networks."
    # Continued, already complete, and read again.
    for run in (killed, killed, searched):
        found = json.loads(command("search", "--run", run, *SEARCH, "--json").out)
        assert found["finalists"] == expected
        assert sentence in command("search", "--run", run, *SEARCH).out.splitlines()
    assert command("report", "--run", killed, "--no-baseline").code == 0
    assert sentence in (killed / "report/default/report.md").read_text()
    assert sentence in (killed / "report/report.html").read_text()


def test_nothing_is_said_of_finalists_where_nothing_was_spent() -> None:
    assert describe_finalists(None) == ""
    assert describe_finalists(FinalistsRecord(evaluations=0, networks=0)) == ""
    one = describe_finalists(FinalistsRecord(evaluations=1, networks=1))
    assert one == "Finalists: 1 evaluation on further samples, of 1 network."


def test_time_ends_a_search_among_its_finalists_and_more_goes_on(
    command: Command, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = read_lines(searched)
    run = copy_killed(searched, tmp_path / "late", lines[: find_further(lines)[0]])
    (run / "searches/default/search.json").unlink()
    # The time is over as soon as the search is: the second time it is asked for.
    clock = itertools.chain([0.0], itertools.repeat(1e9))
    with monkeypatch.context() as patched:
        patched.setattr("app.jobs.search.time", SimpleNamespace(monotonic=lambda: next(clock)))
        late = command("search", "--run", run, *SEARCH, "--max-minutes", 60, "--json")
    assert late.code == 0, late.err
    found = json.loads(late.out)
    assert (found["stopped"], found["evaluations"]) == ("time", 36)
    assert found["finalists"] == {"evaluations": 0, "networks": 0}
    assert "stopped after 0 evaluations of finalists and 60 min; a larger --max-minutes" in late.err
    assert find_further(read_lines(run)) == []
    assert "already complete" in command("search", "--run", run, *SEARCH, "--max-minutes", 60).err
    more = command("search", "--run", run, *SEARCH, "--max-minutes", 90)
    assert more.code == 0, more.err
    assert "a larger --max-minutes" not in more.err
    fronts = [read_front(path / "searches" / "default") for path in (searched, run)]
    assert fronts[0].points == fronts[1].points
    assert (fronts[0].finalists, fronts[0].stopped) == (fronts[1].finalists, fronts[1].stopped)


def rewrite_further(run: Path, **changes: object) -> None:
    """Let records of further samples say something else, or with ``None`` nothing."""
    lines = read_lines(run)
    for place in find_further(lines):
        record = {**json.loads(lines[place]), **changes}
        del record["checksum"]
        kept = {key: value for key, value in record.items() if key not in changes or value}
        lines[place] = json.dumps(kept) + "\n"
    (run / "evaluations.jsonl").write_text("".join(lines))


def test_records_of_other_further_samples_are_refused(
    command: Command, refused: Callable[..., str], searched: Path, tmp_path: Path
) -> None:
    lines = read_lines(searched)
    further = find_further(lines)
    assert {json.loads(lines[n])["fingerprint"] for n in further} == {
        open_data("clutter").fingerprint_further("val+1")
    }
    # Others than these have none: the fingerprint of the run is theirs.
    assert all("fingerprint" not in json.loads(line) for line in lines[: further[0]])
    run = copy_killed(searched, tmp_path / "run", lines[: further[1]])
    rewrite_further(run, fingerprint="0" * 64)
    before = read_lines(run)
    for workers in (1, 2):
        sentence = refused("search", "--run", run, *SEARCH, "--workers", workers)
        assert sentence == (
            f"the further samples val+1 of clutter changed since networks of {run} were evaluated "
            "on them; restore what makes them, or train a new run"
        )
        assert read_lines(run) == before, "nothing is evaluated beside them"
    # What needs none works.
    assert command("evaluate", "--run", run, "--arch", "smallest").code == 0


def test_records_of_earlier_releases_do_not_say_which_samples_they_are_of(
    command: Command, searched: Path, tmp_path: Path
) -> None:
    lines = read_lines(searched)
    run = copy_killed(searched, tmp_path / "run", lines)
    rewrite_further(run, fingerprint=None)
    before = read_lines(run)
    assert command("search", "--run", run, *SEARCH).code == 0
    assert read_lines(run) == before, "all are used again"
    fronts = [read_front(path / "searches" / "default") for path in (searched, run)]
    assert fronts[0].points == fronts[1].points


def test_further_samples_must_be_the_same_in_every_process(searched: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(searched, tmp_path / "run"))
    log = EvaluationLog(open_trained(Run(run), lambda _: None), print)
    largest = log.trained.supernet.space.largest
    task = Task(largest.to_dict(), "val+2")
    finding = work(log.trained, log.caches, log.calibration_samples, task)
    before = read_lines(run)
    with pytest.raises(InputError, match=r"val\+2 of clutter are not the same in every process"):
        log.store(largest, "val+2", replace(finding, fingerprint="0" * 64))
    assert read_lines(run) == before
    assert log.store(largest, "val+2", finding).fingerprint == finding.fingerprint


def test_no_further_samples_are_made_where_nothing_asks_for_them(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(*_: object) -> Split:
        raise AssertionError("nobody asked for them")

    monkeypatch.setattr(DataSource, "_find_further", make)
    run = tmp_path / "run"
    assert command("train", "--out", run, *SHORT).code == 0
    assert command("evaluate", "--run", run, "--arch", "smallest").code == 0
    with pytest.raises(AssertionError, match="nobody asked"):
        open_data("clutter").split("val+1")

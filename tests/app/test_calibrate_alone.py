"""`supernet search --calibrate-alone`: what is trained, what is stated, and kills in between."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import app.jobs.search as job
from app.commands.texts.searches import format_search
from app.explorer.networks.chosen_card import list_figures
from app.jobs.pick import pick_job
from app.jobs.search import SearchRequest, search_job
from app.progress import Step
from app.records.audit_pieces import AlonePiece
from app.records.searches.alone import FILE, AloneRecord
from app.records.searches.front import Front, read_front
from app.records.typed_json.record_files import read_log
from app.reporting.calibration import describe_calibration, list_calibrating
from app.reporting.report_text import write_search_page
from app.runs.alone import train_alone
from app.runs.directory import open_run
from app.runs.trained import Trained, open_trained, read_recipe
from app.searching.results import calibrate
from app.searching.results.alone_quality import Evaluated, Scale, infer_quality_alone
from app.searching.results.calibrate import AlonePlan, choose_alone
from app.searching.results.final_quality import FinalQuality
from predictors.posterior import Posterior
from search import History, Objective, SearchProblem
from supernet.errors import DivergedError
from supernet.quality.evaluate import evaluate
from supernet.space import Choice, SearchSpace
from supernet.training import Recipe
from supernet.training.standalone import make_standalone_recipe
from tests.app.conftest import EVALUATIONS, SEARCH, Command

COUNT, STEPS = 4, 3
FLAGS = (*SEARCH, "--calibrate-alone", str(COUNT))
SPACE = SearchSpace(tuple(Choice(f"width{i}", (1, 2, 3, 4), "width") for i in range(4)))


@pytest.fixture(scope="module", autouse=True)
def short_trainings() -> Iterator[None]:
    """Networks train for a few steps, by a recipe that is otherwise the run's."""

    def make(trained: Trained) -> Recipe:
        changes = {"steps": STEPS, "epochs": None}
        return make_standalone_recipe(read_recipe(trained.run), changes, trained.data.epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "make_alone_recipe", make)
        yield


@pytest.fixture(scope="module")
def calibrated(
    short_trainings: None, finished_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The finished run, its search calibrated; never write to it, copy it."""
    path = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("calibrated") / "run"))
    request = SearchRequest(run=path, evaluations=EVALUATIONS, calibrate_alone=COUNT)
    search_job(request, lambda _: None)
    return path


def read(run: Path) -> Front:
    return read_front(run / "searches" / "default")


def list_alone(run: Path) -> list[AloneRecord]:
    return read_log(run / "searches" / "default" / FILE, AloneRecord, pytest.fail)


def keep_inferred(front: Front) -> dict[str, Any]:
    """What a front says but for what was measured by the clock."""
    accuracies = {p.digest: p.estimate("accuracy") for p in front.points}
    return {
        "calibration": front.calibration,
        "accuracies": {d: e.replace(test=None) for d, e in accuracies.items()},
        "front": {p.digest for p in front.points if p.on_front},
    }


# -- what is trained and stated --------------------------------------------------------------------


def test_a_finished_search_is_calibrated_by_networks_trained_alone(
    calibrated: Path, finished_run: Path
) -> None:
    front, before = read(calibrated), read(finished_run)
    assert (before.calibration, front.evaluations) == (None, before.evaluations)
    found = front.calibration
    assert found is not None
    assert (found.objective, found.steps, found.diverged) == ("accuracy", STEPS, 0)
    trained = {record.digest: record for record in list_alone(calibrated)}
    assert len(found.networks) == len(trained) == COUNT
    macs = {p.digest: p.counts["macs"] for p in front.points}
    assert [macs[n.digest] for n in found.networks] == sorted(macs[d] for d in trained)
    for network in found.networks:
        assert network.value == trained[network.digest].value
        assert network.low < network.value < network.high
        assert network.inherited == front.find_point(network.digest).estimate("accuracy").posterior
    assert not (calibrated / "searches/default/training").exists()
    # They were chosen among those that may be on the front.
    close = {p.digest for p in before.points if p.on_front or p.indistinguishable}
    assert set(trained) <= close or len(close) < COUNT


def test_front_and_picks_go_by_what_networks_are_worth_alone(calibrated: Path) -> None:
    front = read(calibrated)
    rows = []
    for point in front.points:
        estimate = point.estimate("accuracy")
        assert estimate.alone is not None
        assert 0 < estimate.alone_low < estimate.alone < estimate.alone_high < 1
        assert 0 < estimate.alone_error < estimate.alone_high - estimate.alone_low
        assert (estimate.best, estimate.interval) == (estimate.alone, estimate.alone_interval)
        assert estimate.posterior_low < estimate.posterior < estimate.posterior_high
        latency = point.estimate("latency_ms")
        assert (latency.alone, latency.best) == (None, latency.value)
        rows.append((latency.predicted, -estimate.alone, point.on_front))
    for latency, quality, on_front in rows:
        beaten = any(
            a <= latency and b <= quality and (a < latency or b < quality) for a, b, _ in rows
        )
        assert on_front != beaten
    column = front.column("accuracy")
    assert column.best.tolist() == column.alone.tolist()
    budget = max(p.estimate("latency_ms").value for p in front.list_front())
    picked = pick_job(calibrated, latency_ms=budget)
    assert picked.best_value == max(p.estimate("accuracy").alone for p in front.list_front())
    assert picked.alone == front.find_point(picked.digest).estimate("accuracy").alone
    assert picked.alone_interval is not None


def test_texts_and_reports_say_it(command: Command, calibrated: Path, finished_run: Path) -> None:
    outcome = command("search", "--run", calibrated, *FLAGS, "--json")
    assert outcome.code == 0, outcome.err
    assert "already complete" in outcome.err
    front = read(calibrated)
    told = json.loads(outcome.out)
    assert told["calibration"]["networks"][0]["digest"] == front.calibration.networks[0].digest
    stated = {one["digest"]: one["objectives"]["accuracy"]["alone"] for one in told["front"]}
    assert stated == {one.digest: one.estimate("accuracy").alone for one in front.list_front()}
    request = SearchRequest(run=calibrated, evaluations=EVALUATIONS, calibrate_alone=COUNT)
    text = format_search(search_job(request, lambda _: None))
    sentence = describe_calibration(front.calibration)
    assert sentence.startswith("Calibrated by 4 networks trained alone for 3 steps: inherited")
    assert sentence in text
    assert "trained alone" in text.splitlines()[1]
    assert "inherited accuracy" in text.splitlines()[1]
    picked = command("pick", "--run", calibrated, "--knee").out
    assert "trained alone from scratch: accuracy" in picked
    page = write_search_page(front, traced=False)
    assert sentence in page
    figures = list_figures(front, front.list_front()[0])
    assert [title for title, *_ in figures[:2]] == ["Accuracy trained alone", "Inherited accuracy"]
    for row in list_calibrating(front.calibration):
        assert f"| {' | '.join(row)} |" in page
    table = (calibrated / "searches/default/front.csv").read_text().splitlines()
    assert "accuracy_alone" in table[0].split(",")
    # Of a search that is not calibrated nothing of all that is said.
    plain = read(finished_run)
    assert describe_calibration(plain.calibration) == ""
    assert "alone" not in write_search_page(plain, traced=False)
    assert "alone" not in (finished_run / "searches/default/front.csv").read_text()


# -- kills, audits, failures -----------------------------------------------------------------------


def test_a_killed_calibration_goes_on_with_the_same_result(
    calibrated: Path, a_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = SearchRequest(run=a_run, evaluations=EVALUATIONS, calibrate_alone=COUNT)
    made = calibrate.train_alone
    begun: list[str] = []

    def train(trained: Any, architecture: Any, *rest: Any) -> Any:
        begun.append(architecture.digest)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return made(trained, architecture, *rest)

    monkeypatch.setattr(calibrate, "train_alone", train)
    with pytest.raises(KeyboardInterrupt):
        search_job(request, lambda _: None)
    kept = list_alone(a_run)
    assert [record.digest for record in kept] == begun[:2]
    assert read(a_run).calibration is None, "the front is that of before"
    # A line that was cut short is as if it were not there.
    path = a_run / "searches/default" / FILE
    path.write_bytes(path.read_bytes() + b'{"digest": "0123')
    search_job(request, lambda _: None)
    assert begun[2] == begun[3]
    assert len(begun) == COUNT + 1
    assert list_alone(a_run)[:2] == kept
    assert keep_inferred(read(a_run)) == keep_inferred(read(calibrated))


@pytest.mark.parametrize("place", ["train_alone", "evaluate", "append_record"])
def test_a_network_that_is_stopped_keeps_its_checkpoints(
    a_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    trained = open_trained(open_run(a_run), lambda _: None)
    recipe = job.make_alone_recipe(trained).replace({"checkpoint_every": 1})
    plan = AlonePlan(trained, recipe, 1, 0, tmp_path, "t")
    ends = [trained.supernet.space.smallest]

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def train_a_part(*arguments: Any) -> Any:
        def say(said: Any) -> None:
            if isinstance(said, Step) and said.done == 2:
                raise KeyboardInterrupt

        return train_alone(*arguments[:-1], say)

    with monkeypatch.context() as patch:
        patch.setattr(calibrate, place, train_a_part if place == "train_alone" else stop)
        with pytest.raises(KeyboardInterrupt):
            calibrate._train_all(ends, plan, lambda _: None)
    resumed: list[int] = []

    def train_on(*arguments: Any) -> Any:
        found = train_alone(*arguments)
        resumed.append(found.resumed_from)
        return found

    # What was begun with another seed is no part of this.
    other = AlonePlan(trained, recipe, 1, 1, tmp_path / "other", "t")
    shutil.copytree(tmp_path / "training", other.folder / "training")
    with monkeypatch.context() as patch:
        patch.setattr(calibrate, "train_alone", train_on)
        (record,) = calibrate._train_all(ends, plan, lambda _: None)
        calibrate._train_all(ends, other, lambda _: None)
    assert record.value is not None
    assert resumed[0] >= 1
    assert resumed[1] == 0
    assert not (tmp_path / "training").exists()


def test_ranges_are_found_as_in_the_run(
    a_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = open_trained(open_run(a_run), lambda _: None)
    vars(trained)["estimator"] = "percentile"
    plan = AlonePlan(trained, job.make_alone_recipe(trained), 1, 0, tmp_path, "t")
    asked: list[str] = []

    def look(*arguments: Any, estimator: str = "", **others: Any) -> Any:
        asked.append(estimator)
        return dataclasses.replace(evaluate(*arguments, **others), value=float("nan"))

    monkeypatch.setattr(calibrate, "evaluate", look)
    (record,) = calibrate._train_all([trained.supernet.space.smallest], plan, lambda _: None)
    assert asked == ["percentile"]
    assert (record.value, record.failure) == (None, "its outputs are not finite numbers")


def test_a_calibration_is_not_given_up_by_the_way(
    refused: Callable[..., str], calibrated: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(calibrated, tmp_path / "run"))
    said = refused("search", "--run", path, *SEARCH)
    assert f"calibrate_alone: {COUNT} -> 0" in said
    assert read(path).calibration == read(calibrated).calibration


def test_more_networks_keep_those_that_were_trained(calibrated: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(calibrated, tmp_path / "run"))
    before = list_alone(path)
    search_job(
        SearchRequest(run=path, evaluations=EVALUATIONS, calibrate_alone=COUNT + 1),
        lambda _: None,
    )
    after = list_alone(path)
    assert after[:COUNT] == before
    assert len(after) == COUNT + 1


def test_what_an_audit_trained_is_not_trained_again(
    command: Command, calibrated: Path, a_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = open_trained(open_run(a_run), lambda _: None)
    recipe = job.make_alone_recipe(trained)
    plan = AlonePlan(trained, recipe, 2, 0, a_run / "searches/default", "t")
    flags = ["--networks", 4, "--probes", 0, "--recipe-part", f"steps={STEPS}"]
    assert command("audit", "--run", a_run, *flags).code == 0
    log = (a_run / "audits/default/records.jsonl").read_text().splitlines()
    pieces = [json.loads(line) for line in log if '"alone/' in line]
    monkeypatch.setattr(calibrate, "train_alone", pytest.fail)
    space = trained.supernet.space
    ends = [space.smallest, space.largest]
    records = calibrate._train_all(ends, plan, lambda _: None)
    values = {piece["key"].partition("/")[2]: piece["value"] for piece in pieces}
    assert [r.value for r in records] == [values[end.digest] for end in ends]
    # One of another seed is another training; and what is kept is what was trained likewise.
    other = AlonePlan(trained, recipe, 2, 1, plan.folder, "t")
    assert calibrate._read_audited(other, lambda _: None) == {}
    assert other.settings != plan.settings
    assert list_alone(calibrated)[0].settings == plan.settings
    assert isinstance(next(iter(calibrate._read_audited(plan, pytest.fail).values())), AlonePiece)


@pytest.mark.parametrize("diverging", [1, COUNT])
def test_trainings_that_diverge_say_nothing(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diverging: int
) -> None:
    path = Path(shutil.copytree(calibrated, tmp_path / "run"))
    folder = path / "searches/default"
    lines = (folder / FILE).read_text().splitlines(keepends=True)
    (folder / FILE).write_text("".join(lines[diverging:]))
    (folder / "front.json").unlink()

    def diverge(*_: Any) -> Any:
        raise DivergedError("the loss is nan at step 3")

    monkeypatch.setattr(calibrate, "train_alone", diverge)
    said: list[str] = []
    request = SearchRequest(run=path, evaluations=EVALUATIONS, calibrate_alone=COUNT)
    search_job(request, lambda line: said.append(str(line)))
    warned = [line for line in said if "training diverged (the loss is nan at step 3)" in line]
    assert len(warned) == diverging
    found = read(path).calibration
    if diverging == COUNT:
        assert found is None
        assert any("the front is not calibrated" in line for line in said)
    else:
        assert (found.diverged, len(found.networks)) == (1, COUNT - 1)
        assert "(1 more diverged)" in describe_calibration(found)


def test_what_cannot_be_calibrated_is_refused(refused: Callable[..., str], a_run: Path) -> None:
    flags = ("search", "--run", a_run, "--name", "new", *SEARCH)
    for count in (-1, 3, EVALUATIONS + 1):
        said = refused(*flags, "--calibrate-alone", count)
        assert f"calibrate-alone = {count} cannot work" in said
    said = refused(*flags, "--objectives", "macs,size", "--calibrate-alone", 4)
    assert "--calibrate-alone calibrates accuracy, which is none of the objectives" in said
    assert not (a_run / "searches/new").exists()


# -- losses ----------------------------------------------------------------------------------------


def know_nothing(rows: np.ndarray) -> np.ndarray:
    return np.full(len(rows), np.nan)


def test_losses_are_calibrated_likewise() -> None:
    rng = np.random.default_rng(0)
    rows = np.unique(SPACE.sample(rng, 40), axis=0)
    widths = rows.sum(axis=1)
    true = 3.0 - 0.1 * widths
    inherited = true + 0.4 + 0.02 * rng.standard_normal(len(rows))
    costs = 1e6 * (widths + 4.0)
    names, values = ("loss", "macs"), np.stack([inherited, costs], axis=1)
    history = History(names, rows, values, np.zeros(len(rows), dtype=np.int32))
    problem = SearchProblem(
        SPACE,
        (
            Objective("loss", "nats/token", "minimize", know_nothing, "evaluated"),
            Objective("macs", "macs", "minimize", know_nothing, "analytic"),
        ),
    )
    posterior = Posterior(inherited, 0.01**2 * np.eye(len(rows)))
    every = np.arange(len(rows))
    quality = FinalQuality("loss", every, posterior, np.zeros(len(rows)), np.full(len(rows), 500))
    evaluated = Evaluated(problem, history, quality, costs)
    probability = np.zeros(len(rows))
    alike = Evaluated(problem, history, quality, np.full(len(rows), 123457.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(choose_alone(alike, probability, 8)) == 8, "formats alone change no costs"
    places = choose_alone(evaluated, probability, 8)
    assert len(places) == 8, "others are taken where too few may be on the front"
    assert len(choose_alone(evaluated, probability, 1000)) == len(rows)
    digests = [a.digest for a in SPACE.decode(rows[places])]
    records = [
        AloneRecord(digest=digest, settings="", objective="loss", value=float(value),
                    low=float(value) - 0.02, high=float(value) + 0.02, samples=500, steps=9)
        for digest, value in zip(digests, true[places], strict=True)
    ]  # fmt: skip
    found = infer_quality_alone(evaluated, places, records)
    mean = found.quality.posterior.mean
    assert np.abs(mean - true).max() < 0.1
    assert (found.low < true).all()
    assert (true < found.high).all()
    assert found.calibration.inherited_error == pytest.approx(0.4, abs=0.05)
    assert found.calibration.predicted_error < 0.1
    # What all have in common is no error of their order, and part of what is stated of each.
    centred = found.quality.posterior.covariance.sum(axis=0)
    assert centred == pytest.approx(np.zeros(len(rows)), abs=1e-9)
    assert (found.quality.deviation >= found.quality.posterior.deviation).all()


def test_scales_lead_there_and_back_and_have_no_infinite_ends() -> None:
    for name, values in (("accuracy", [0.1, 0.5, 0.97]), ("loss", [0.2, 1.0, 5.0])):
        scale, stored = Scale(name, 1000), np.array(values)
        assert scale.backward(scale.forward(stored)) == pytest.approx(stored)
        step = 1e-6 * scale.stretch(stored)
        slope = (scale.forward(stored + step) - scale.forward(stored)) / 1e-6
        assert slope == pytest.approx(np.ones(3), rel=1e-3)
        assert np.isfinite(scale.forward(np.array([0.0, 1.0]))).all()

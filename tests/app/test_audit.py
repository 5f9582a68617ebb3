"""The audit of a run: what it stores, that it continues, that it repeats nothing, what it says."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.auditing.request import AuditRequest, plan_training
from app.auditing.summary import compare_qualities
from app.jobs.finetune import FinetuneRequest
from app.jobs.finetune import plan_training as plan_tuning
from app.records.audit import Statistic, read_audit
from app.reporting.audit_verdict import describe_worth
from app.runs.directory import open_run
from app.runs.trained import open_trained, read_recipe
from app.searching.results.calibrate import make_alone_recipe
from supernet import checksums
from supernet.quality import audit
from supernet.training.standalone import make_standalone
from tests.app.audit_records import make_networks
from tests.app.chart_reading import chart_with
from tests.app.conftest import Command, contents
from tests.app.test_resume import kill_when, lines
from tests.toys.explored_runs import write_run

FLAGS = ["--networks", "4", "--probes", "1", "--recipe-part",
         "steps=6,batch_size=16,checkpoint_every=2"]  # fmt: skip
SCRIPT = Path(__file__).resolve().parents[2] / "app" / "explorer" / "page.py"


@pytest.fixture(scope="module")
def audited(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run with an audit of four networks; never write to it."""
    from app.commands.main import run

    path = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("audits") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        # Only the many evaluations of the checks are made cheaper, not those compared.
        patch.setattr(audit, "CALIBRATION_SAMPLES", 64)
        assert run(["audit", "--run", str(path), *FLAGS]) == 0
    return path


def stored(path: Path, name: str = "default") -> dict[str, Any]:
    """The result of an audit."""
    found: dict[str, Any] = checksums.read_json(path / "audits" / name / "audit.json")
    return found


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs between two runs of one command."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in found["networks"]]
    return {k: v for k, v in found.items() if k not in ("seconds", "at")} | {"networks": rows}


def test_it_compares_networks_over_the_whole_range(command: Command, audited: Path) -> None:
    found = stored(audited)
    rows = found["networks"]
    assert [row["macs"] for row in rows] == sorted({row["macs"] for row in rows})
    assert all(row["steps"] == 6 for row in rows)
    for end, row in (("smallest", rows[0]), ("largest", rows[-1])):
        inherited = json.loads(command("evaluate", "--run", audited, "--arch", end, "--json").out)
        assert row["digest"] == inherited["digest"]
        assert row["inherited"]["value"] == inherited["value"]
        assert row["macs"] == inherited["macs"]
        assert row["gap"] == row["inherited"]["value"] - row["alone"]["value"]
    gaps = [row["gap"] for row in rows]
    assert found["gap"]["value"] == pytest.approx(np.mean(gaps))
    assert found["gap"]["low"] < np.mean(gaps) < found["gap"]["high"]
    assert found["groups"] == found["samples"], "samples of this data are independent"
    assert found["training"] == {"steps": 30, "passes": 30, "optimizer": "muon"}
    space = json.loads((audited / "space.json").read_text())
    assert found["monotonicity"]["pairs"] == 15 + 2 * len(space["choices"])
    assert [c["name"] for c in found["choices"]] == [c["name"] for c in space["choices"]]
    assert len(found["calibration"]) == 2
    changed = found["settings"]["recipe"]
    own = checksums.read_json(audited / "run.json")["recipe"]
    assert changed["batch_size"] == 16 != own["batch_size"]
    assert all(value != own.get(name) for name, value in changed.items())


def test_networks_alone_train_for_a_quarter_of_the_passes_unless_told(a_run: Path) -> None:
    trained = open_trained(open_run(a_run), lambda _: None)
    whole = read_recipe(trained.run)
    asked = AuditRequest(run=a_run)
    recipe = plan_training(asked, trained)
    assert (whole.steps, recipe.steps) == (30, 8)
    assert recipe.warmup_steps == round(8 * whole.warmup_steps / 30)
    longer = replace(asked, recipe_part="steps=20")
    assert plan_training(longer, trained).steps == 20
    assert plan_training(replace(asked, epochs=1), trained).epochs == 1
    tuning = FinetuneRequest(run=a_run, architecture="smallest")
    alone = make_standalone(trained.supernet, trained.supernet.space.smallest)
    assert plan_tuning(tuning, trained, alone).steps == 8
    assert plan_tuning(replace(tuning, steps=9), trained, alone).steps == 9
    assert make_alone_recipe(trained).steps == 8


def test_it_leaves_results_and_nothing_else(audited: Path, finished_run: Path) -> None:
    folder = audited / "audits" / "default"
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {"audit.json", "records.jsonl", "scatter.svg", "settings.json"}
    picture = ElementTree.fromstring((folder / "scatter.svg").read_text())
    marks = [e for e in picture.iter() if e.get("aria-roledescription") == "circle"]
    assert {e.get("aria-label") for e in marks} == {
        n["digest"] for n in stored(audited)["networks"]
    }
    before = contents(finished_run)
    after = contents(audited)
    assert {name: after[name] for name in before} == before, "the rest of the run is as it was"


def test_the_same_command_returns_the_stored_result(command: Command, audited: Path) -> None:
    before = contents(audited)
    outcome = command("audit", "--run", audited, *FLAGS, "--json")
    assert outcome.code == 0, outcome.err
    payload = json.loads(outcome.out)
    assert payload["stored"] is True
    assert payload["report"] == stored(audited)
    assert "already complete" in outcome.err
    assert contents(audited) == before
    text = command("audit", "--run", audited, *FLAGS).out
    assert "Kendall tau" in text
    assert payload["verdict"] in text
    assert "4 networks are too few to say what inherited weights are worth" in payload["verdict"]
    assert payload["advice"] == []


def test_other_settings_need_another_name(refused: Callable[..., str], audited: Path) -> None:
    before = contents(audited)
    sentence = refused("audit", "--run", audited, *FLAGS, "--seed", 1, "--split", "test")
    assert "audit 'default' has other settings (seed: 0 -> 1, split: val -> test)" in sentence
    assert "--name" in sentence
    assert contents(audited) == before


def test_replacing_forgets_the_other_audit(command: Command, audited: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(audited, tmp_path / "run"))
    flags = ["--networks", "4", "--probes", "0", "--recipe-part", "steps=2", "--split", "test"]
    outcome = command("audit", "--run", path, *flags, "--replace", "--json")
    assert outcome.code == 0, outcome.err
    found = stored(path)
    assert (found["split"], found["monotonicity"], found["choices"]) == ("test", None, [])
    keys = [json.loads(line)["key"] for line in lines(path / "audits/default/records.jsonl")]
    assert len(keys) == len(set(keys)) == 8


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_killed_audit_continues_with_the_same_result(
    command: Command, audited: Path, finished_run: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(finished_run, tmp_path / "run"))
    folder = path / "audits" / "default"
    log = folder / "records.jsonl"

    def in_the_second() -> bool:
        done = [line for line in lines(log) if '"alone/' in line]
        return len(done) == 1 and bool(list(folder.glob("training/*/checkpoints/2/state.json")))

    # The checks of the inherited weights are done; a kill among them is a kill between lines.
    folder.mkdir(parents=True)
    shutil.copy(audited / "audits/default/settings.json", folder)
    examined = [r for r in lines(audited / "audits/default/records.jsonl") if '"alone/' not in r]
    log.write_text("".join(f"{line}\n" for line in examined))
    kill_when(in_the_second, "audit", "--run", path, *FLAGS)
    assert not (folder / "audit.json").exists(), "killed in the middle"
    before = lines(log)
    with log.open("a") as torn:
        torn.write('{"key": "alone/')
    outcome = command("audit", "--run", path, *FLAGS)
    assert outcome.code == 0, outcome.err
    after = lines(log)
    assert after[: len(before)] == before, "nothing finished is done again"
    alone = [r for r in map(json.loads, after) if r["key"].startswith("alone/")]
    assert [r["resumed_from"] > 0 for r in alone] == [False, True, False, False]
    assert without_times(stored(path)) == without_times(stored(audited))
    assert not (folder / "training").exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--networks", "3"], "networks = 3 is too few for a rank correlation; use 4 or more"),
        (["--epochs", "0"], "epochs = 0 is impossible; it must be at least 1"),
        (["--split", "vall"], "unknown split 'vall' (did you mean 'val'?); an audit compares on"),
        (["--split", "train"], "an audit compares on val or test"),
        (["--seed", "-1"], "seed = -1 is impossible"),
        (["--probes", "-1"], "probes = -1 is impossible"),
        (["--bin", "-1"], "bin = -1.0 is impossible"),
        (["--bin", "nan"], "bin = nan is impossible"),
        (["--name", "../x"], "audit name '../x' must be letters"),
        (["--name", ".x"], "audit name '.x' must not start with a dot"),
        (["--recipe-part", "steps"], "recipe part 'steps' is not NAME=VALUE"),
        (["--recipe-part", "step=3"], "a recipe has no field 'step' (did you mean 'steps'?)"),
        (["--recipe-part", "steps=many"], "steps = 'many' is impossible; it must be a whole"),
        (["--recipe-part", "steps=0"], "steps = 0 is impossible"),
        (["--recipe-part", "epochs=3"], "epochs is not a part of --recipe-part; use --epochs"),
        (["--recipe-part", "distill=inplace"], "distill cannot be changed for a stand-alone"),
        (["--recipe-part", "batch_size=100000"], "batch_size = 100000 is larger than the train"),
        (["--recipe-part", "batch_size=1"], "batch_size = 1 cannot work"),
        (["--recipe-part", "micro_batches=64"], "sees 1 in each of 64 micro-batches"),
        (["--networks", "1000000"], "1000000 networks are more than the search space has"),
    ],
)
def test_bad_input(
    refused: Callable[..., str], finished_run: Path, flags: list[str], expected: str
) -> None:
    before = contents(finished_run)
    assert expected in refused("audit", "--run", finished_run, *flags)
    assert contents(finished_run) == before, "nothing is written"


def test_runs_that_cannot_be_audited(
    refused: Callable[..., str], a_run: Path, tmp_path: Path
) -> None:
    assert "is not a run directory" in refused("audit", "--run", tmp_path / "nothing")
    record = checksums.read_json(a_run / "run.json")
    gone = {**record, "data": {**record["data"], "spec": f"folder:{tmp_path / 'gone'}"}}
    (a_run / "run.json").write_text(json.dumps(gone))
    assert f"there is no folder {tmp_path / 'gone'}" in refused("audit", "--run", a_run)
    record["stages"]["train"]["status"] = "running"
    (a_run / "run.json").write_text(json.dumps(record))
    assert "the training of" in refused("audit", "--run", a_run)


def test_a_damaged_result_is_named(
    refused: Callable[..., str], audited: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(audited, tmp_path / "run"))
    (path / "audits/default/audit.json").write_text('{"version": 1}')
    assert "was damaged or edited" in refused("audit", "--run", path, *FLAGS)
    (path / "audits/default/settings.json").unlink()
    assert "settings.json is missing or damaged" in refused("audit", "--run", path, *FLAGS)


def test_a_language_model_is_judged_by_its_loss(command: Command, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 300)
    path = tmp_path / "run"
    trained = command(
        "train", "--out", path, "--family", "matlm", "--data", f"text:{tmp_path / 'text.txt'}",
        "--context", 16, "--steps", 20, "--batch-size", 16,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    outcome = command(
        "audit", "--run", path, "--networks", 4, "--probes", 1, "--recipe-part", "steps=4", "--json"
    )
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)["report"]
    assert (found["objective"], found["unit"]) == ("loss", "nats/token")
    assert found["settings"]["bin"] == 0.01
    assert found["calibration"] == [], "nothing to calibrate without batch normalisation"
    # Four steps against twenty: the networks alone are worse, which for a loss means higher.
    assert all(row["gap"] < 0 for row in found["networks"])
    assert found["gap"]["high"] < 0
    text = command("audit", "--run", path, "--networks", 4, "--probes", 1,
                   "--recipe-part", "steps=4").out  # fmt: skip
    assert "points" not in text


def test_size_ranks_losses_as_well_as_accuracies() -> None:
    rising = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    accuracy = compare_qualities(make_networks(rising, rising), 0.001, 0, higher_is_better=True)
    loss = compare_qualities(
        make_networks(rising[::-1], rising[::-1]), 0.001, 0, higher_is_better=False
    )
    for found in (accuracy, loss):
        tau = found.kendall_tau
        assert (tau.value, tau.low, tau.high) == pytest.approx((1.0, 1.0, 1.0))
        assert found.kendall_tau_of_macs.value == pytest.approx(1.0)
    assert [part.networks for part in accuracy.by_size] == [6], "means of four networks or more"
    values = [0.5 + 0.01 * i for i in range(12)]
    many = compare_qualities(make_networks(values, values), 0.001, 0, higher_is_better=True)
    assert [part.macs for part in many.by_size] == [(100, 400), (500, 800), (900, 1200)]


def test_equal_networks_have_no_ranking() -> None:
    equal = make_networks([0.9] * 4, [0.91, 0.92, 0.93, 0.94])
    found = compare_qualities(equal, 0.001, 0, higher_is_better=True)
    assert found.kendall_tau == Statistic(value=None, low=None, high=None)
    assert found.gap.value == pytest.approx(-0.025)


def test_the_explorer_shows_an_audit(
    audited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "digits-run")
    shutil.copytree(audited / "audits", tmp_path / "digits-run" / "audits")
    monkeypatch.setattr(sys, "argv", ["explorer.py", str(tmp_path / "digits-run")])
    page = AppTest.from_file(str(SCRIPT), default_timeout=60)
    page.query_params["screen"] = "Training"
    page.run()
    assert not page.exception
    found = stored(audited)
    chart = chart_with(page, f"{found['objective']} with inherited weights (%)")
    places = {row["digest"]: (row["x"], row["y"]) for row in chart.one("circle").rows}
    expected = {n["digest"]: (n["alone"]["value"], n["inherited"]["value"])
                for n in found["networks"]}  # fmt: skip
    assert set(places) == set(expected)
    for digest, pair in expected.items():
        assert places[digest] == pytest.approx([100 * value for value in pair])
    across, _ = (rule for rule in chart.all("rule") if "left" in rule.rows[0])
    ends = {row["digest"]: (row["left"], row["right"]) for row in across.rows}
    for network in found["networks"]:
        alone = network["alone"]
        assert ends[network["digest"]] == pytest.approx((100 * alone["low"], 100 * alone["high"]))
    verdict = describe_worth(read_audit(audited / "audits/default"))
    assert any(verdict in shown.value.replace("\\", "") for shown in page.markdown)
    (tmp_path / "digits-run/audits/default/audit.json").write_text("{}")
    page.run()
    assert not page.exception
    assert any("damaged or edited" in warning.value for warning in page.warning)


def test_a_network_that_diverges_alone_names_flags_that_work(
    refused: Callable[..., str], a_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supernet.quality.evaluate.CALIBRATION_SAMPLES", 64)
    flags = ["--run", a_run, "--name", "hot", "--networks", "4", "--probes", "0"]
    hot = ["--recipe-part", "steps=9,batch_size=16,warmup_steps=1,log_every=1,learning_rate=1e9"]
    sentence = refused("audit", *flags, *hot)
    assert " alone: the loss is " in sentence
    assert "add --replace --recipe-part learning_rate=1e+08 to train with less than" in sentence

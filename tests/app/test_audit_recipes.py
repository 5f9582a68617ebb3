"""Audits that try other recipes: the truth is kept, killed ones go on, divergence is a result."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.auditing import work
from app.auditing.recipe_plans import plan_recipes
from app.jobs.report import report_job
from app.records.audit import read_audit
from app.reporting.audit_verdict import judge_recipes
from app.runs.directory import open_run
from app.runs.trained import open_trained
from supernet import checksums
from supernet.training import PRESETS, presets
from tests.app.conftest import Command, contents
from tests.app.test_audit import SCRIPT
from tests.app.test_resume import kill_when, lines

FLAGS = ["--networks", "8", "--probes", "0", "--recipe-part", "steps=2,batch_size=16"]


@pytest.fixture(scope="module", autouse=True)
def quick_calibration() -> Iterator[None]:
    """Evaluations recalibrate on fewer samples, all of them alike; the killed process has none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "CALIBRATION_SAMPLES", 64)
        yield


@pytest.fixture(scope="module")
def truth(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run with an audit of eight networks; never write to it."""
    from app.commands.main import run

    path = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("recipes") / "run"))
    assert run(["audit", "--run", str(path), *FLAGS]) == 0
    return path


@pytest.fixture(scope="module")
def compared(truth: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with another recipe; never write to it."""
    from app.commands.main import run

    path = Path(shutil.copytree(truth, tmp_path_factory.mktemp("recipes") / "run"))
    assert run(["audit", "--run", str(path), *FLAGS, "--recipes", "sandwich"]) == 0
    return path


def stored(path: Path) -> dict[str, Any]:
    """The result of the audit."""
    found: dict[str, Any] = checksums.read_json(path / "audits/default/audit.json")
    return found


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs between two runs of one command."""
    recipes = [{k: v for k, v in r.items() if k != "cpu_seconds"} for r in found["recipes"]]
    return {k: v for k, v in found.items() if k not in ("seconds", "at")} | {"recipes": recipes}


def test_recipes_are_added_to_a_truth_that_is_kept(
    command: Command, truth: Path, compared: Path, tmp_path: Path
) -> None:
    before, after = stored(truth), stored(compared)
    assert "recipes" not in before
    assert {k: v for k, v in after.items() if k in before and k not in ("seconds", "at")} == {
        k: v for k, v in before.items() if k not in ("seconds", "at")
    }
    log = "audits/default/records.jsonl"
    assert lines(compared / log)[: len(lines(truth / log))] == lines(truth / log)
    (recipe,) = after["recipes"]
    # The run's own training is 30 steps of one network each.
    assert (recipe["name"], recipe["steps"], recipe["passes"]) == ("sandwich", 8, 32)
    assert recipe["changes"]["sampler"] == "sandwich"
    assert recipe["cpu_seconds"] > 0
    assert not (compared / "audits/default/training").exists()

    path = Path(shutil.copytree(compared, tmp_path / "run"))
    outcome = command("audit", "--run", path, *FLAGS, "--recipes", "inplace,sandwich")
    assert outcome.code == 0, outcome.err
    assert "evaluating under inplace" in outcome.err
    assert "evaluating under sandwich" not in outcome.err
    assert lines(path / log)[: len(lines(compared / log))] == lines(compared / log)
    first, second = stored(path)["recipes"]
    assert (second["name"], second["steps"], second["passes"]) == ("inplace", 8, 32)
    gains = ("tau_gain", "quality_gain", "judgement")
    for name in first["comparison"].keys() - set(gains):
        assert first["comparison"][name] == recipe["comparison"][name]
    for line in judge_recipes(read_audit(path / "audits/default")):
        assert line in outcome.out


def test_comparisons_are_of_the_networks_of_the_audit(compared: Path) -> None:
    found = stored(compared)
    log = [json.loads(line) for line in lines(compared / "audits/default/records.jsonl")]
    (key,) = (recipe["key"] for recipe in found["recipes"])
    pieces = {r["key"]: r["value"] for r in log if r["key"].startswith(f"shared/{key}/")}
    digests = [network["digest"] for network in found["networks"]]
    assert list(pieces) == [f"shared/{key}/{digest}" for digest in digests]
    comparison = found["recipes"][0]["comparison"]
    values = list(pieces.values())
    gaps = [v - n["alone"]["value"] for v, n in zip(values, found["networks"], strict=True)]
    assert comparison["gap"]["value"] == pytest.approx(sum(gaps) / 8)
    assert comparison["worst_gap"] == min(gaps)
    assert (comparison["smallest"], comparison["largest"]) == (values[0], values[-1])
    own = [network["inherited"]["value"] for network in found["networks"]]
    assert comparison["quality_gain"]["value"] == pytest.approx((sum(values) - sum(own)) / 8)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_methods_change_what_they_are_about_and_no_optimiser(a_run: Path, optimizer: str) -> None:
    record = checksums.read_json(a_run / "run.json")
    record["recipe"] |= {"optimizer": optimizer, "learning_rate": 0.07}
    (a_run / "run.json").write_text(json.dumps(record))
    trained = open_trained(open_run(a_run), lambda _: None)
    plans = plan_recipes(["spos", "muon", "sandwich+muon"], trained)
    assert [plan.recipe.optimizer for plan in plans] == [optimizer, "muon", "muon"]
    assert {plan.recipe.learning_rate for plan in plans} == {0.07}
    (with_rate,) = plan_recipes(["spos+adamw"], trained)
    assert (with_rate.recipe.optimizer, with_rate.recipe.learning_rate) == ("adamw", 0.005)
    (based,) = plan_recipes(["digits+spos"], trained)
    assert based.recipe.optimizer == PRESETS["digits"].optimizer


def test_what_is_there_is_only_read(command: Command, compared: Path) -> None:
    before = contents(compared)
    for names in ("sandwich", "digits+sandwich", "sandwich,digits+sandwich"):
        outcome = command("audit", "--run", compared, *FLAGS, "--recipes", names)
        assert outcome.code == 0, outcome.err
        assert "already complete" in outcome.err
        assert ("is 'sandwich' by another name" in outcome.err) == ("digits" in names)
    assert "already complete" in command("audit", "--run", compared, *FLAGS).err
    assert contents(compared) == before


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.slow
def test_a_killed_recipe_goes_on_to_the_same_result(
    command: Command, truth: Path, compared: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(truth, tmp_path / "run"))
    folder = path / "audits/default"

    def in_the_middle() -> bool:
        return bool(list(folder.glob("training/recipe-*/checkpoints/10/state.json")))

    flags = [*FLAGS, "--recipes", "sandwich"]
    kill_when(in_the_middle, "audit", "--run", path, *flags)
    assert "recipes" not in stored(path), "killed in the middle"
    log = folder / "records.jsonl"
    with log.open("a") as torn:
        torn.write('{"key": "shared/')
    # Once more, between the training and the last network.
    key = stored(compared)["recipes"][0]["key"]
    done = [line for line in lines(compared / "audits/default/records.jsonl") if key in line]
    assert command("audit", "--run", path, *flags).code == 0
    assert without_times(stored(path)) == without_times(stored(compared))
    assert not (folder / "training").exists()
    whole = lines(log)
    (folder / "audit.json").unlink()
    log.write_text("".join(f"{line}\n" for line in whole[: len(whole) - len(done) + 3]))
    assert command("audit", "--run", path, *flags).code == 0
    assert without_times(stored(path)) == without_times(stored(compared))


def test_pieces_of_earlier_releases_are_used_without_scores(
    command: Command, compared: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(compared, tmp_path / "run"))
    folder = path / "audits/default"
    pieces = [json.loads(line) for line in lines(folder / "records.jsonl")]
    old = [{k: v for k, v in p.items() if k not in ("scores", "checksum")} for p in pieces]
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(piece)}\n" for piece in old))
    (folder / "audit.json").unlink()
    outcome = command("audit", "--run", path, *FLAGS, "--recipes", "sandwich")
    assert outcome.code == 0, outcome.err
    assert len(lines(folder / "records.jsonl")) == len(old), "nothing is done again"
    before, after = stored(compared), stored(path)
    assert (before["groups"], after["groups"]) == (before["samples"], None)
    assert "not with other samples" in outcome.out
    for name in ("gap", "kendall_tau"):
        assert after[name]["value"] == pytest.approx(before[name]["value"])
    narrower, wider = (f["gap"]["high"] - f["gap"]["low"] for f in (after, before))
    assert narrower < wider


def test_a_recipe_that_diverges_is_a_result(
    command: Command, compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = PRESETS["digits"].replace({"learning_rate": 1e9, "sampler": "uniform", "distill": "none"})
    monkeypatch.setitem(presets.PRESETS, "hot", hot)
    path = Path(shutil.copytree(compared, tmp_path / "run"))
    outcome = command("audit", "--run", path, *FLAGS, "--recipes", "hot")
    assert outcome.code == 0, outcome.err
    assert "warning: audit: recipe 1/1 (hot) diverged: the loss is " in outcome.err
    assert "hot diverged: the loss is " in outcome.out
    first, second = stored(path)["recipes"]
    before = stored(compared)["recipes"][0]
    assert first == before, "one that diverged is compared with nothing"
    assert second["diverged"]
    assert "comparison" not in second
    again = command("audit", "--run", path, *FLAGS, "--recipes", "hot,sandwich")
    assert "already complete" in again.err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--recipes", "spoz"], "unknown recipe 'spoz' (did you mean 'spos'?)"),
        (["--recipes", "spos,,sandwich"], "'spos,,sandwich' has an empty name"),
        (["--recipes", "teacher"], "recipe 'teacher' needs a teacher from outside"),
        (["--recipes", "spos", "--networks", "7"], "too few to compare recipes by; use 8 or more"),
        (["--recipes", "eqnet"], "this supernet is not elastic in precision"),
        (["--recipes", "fairnas+sandwich"], "choose one of them"),
    ],
)
def test_recipes_that_cannot_be_are_refused(
    refused: Callable[..., str], truth: Path, flags: list[str], expected: str
) -> None:
    before = contents(truth)
    assert expected in refused("audit", "--run", truth, *FLAGS, *flags)
    assert contents(truth) == before


def test_weights_of_unknown_length_are_compared_with_none(
    refused: Callable[..., str], a_run: Path
) -> None:
    record = checksums.read_json(a_run / "run.json")
    record["stages"]["train"]["source"] = {"format": "ofa", "file": "x", "sha256": "0"}
    (a_run / "run.json").write_text(json.dumps(record))
    sentence = refused("audit", "--run", a_run, *FLAGS, "--recipes", "spos")
    assert "were not trained in it from the start" in sentence
    assert not (a_run / "audits").exists()


def test_an_optimiser_alone_leaves_the_method_of_the_run(a_run: Path) -> None:
    record = checksums.read_json(a_run / "run.json")
    record["recipe"] |= {"sampler": "sandwich", "random_architectures": 3, "distill": "inplace"}
    (a_run / "run.json").write_text(json.dumps(record))
    trained = open_trained(open_run(a_run), lambda _: None)
    plans = plan_recipes(["muon", "sgd", "spos"], trained)
    found = [(plan.recipe.sampler, plan.recipe.random_architectures) for plan in plans]
    assert found == [("sandwich", 3), ("sandwich", 3), ("uniform", 1)]
    assert [plan.recipe.distill for plan in plans] == ["inplace", "inplace", "none"]


def test_reports_and_the_explorer_show_recipes(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_audit(compared / "audits/default")
    report_job(compared, lambda _line: None, out=tmp_path / "out", baseline=False)
    sentence = judge_recipes(found)[0]
    for name in ("report.md", "report.html"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8").replace("\\", "")
        assert "Inherited accuracy is" in text
        assert sentence.replace("'", "&#39;") in text or sentence in text
    assert "| sandwich |" in (tmp_path / "out/report.md").read_text(encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["explorer.py", str(compared)])
    page = AppTest.from_file(str(SCRIPT), default_timeout=60)
    page.query_params["screen"] = "Training"
    page.run()
    assert not page.exception
    (table,) = [t.value for t in page.dataframe if "recipe" in t.value]
    assert table["recipe"].tolist() == ["the run's own", "sandwich"]
    assert table["steps"].tolist() == ["30", "8"]

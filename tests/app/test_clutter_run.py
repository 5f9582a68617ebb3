"""Runs on the cluttered digits: what is chosen for them, and intervals that know of groups."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from app.evaluation.log import EvaluationLog
from app.records.evaluation import EvaluationRecord
from app.records.searches.front import read_front
from app.runs.directory import Run
from app.runs.suited import choose_preset
from app.runs.trained import Trained, open_trained
from app.searching.objectives import Sources, build_objective
from supernet.data import Split
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
    # Shorter than its own warm-up, which then is a quarter.
    expected = find_recipe("clutter").replace({"steps": 5, "warmup_steps": 1})
    assert record.recipe == expected.to_json()
    assert find_recipe("clutter").steps == 700
    assert find_recipe("clutter").replace({"steps": 500}) == find_recipe("digits")


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


def test_a_search_that_was_killed_among_finalists_ends_the_same(
    command: Command, trained: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    shutil.copytree(trained, whole)
    search = ("--objectives", "accuracy,size", "--evaluations", 36)
    outcome = command("search", "--run", whole, *search)
    assert outcome.code == 0, outcome.err
    lines = (whole / "evaluations.jsonl").read_text().splitlines(keepends=True)
    further = [n for n, line in enumerate(lines) if json.loads(line)["split"].startswith("val+")]
    # A fifth of the evaluations at most, and some: the networks are nearly untrained and alike.
    assert 2 <= len(further) <= 7
    shutil.copytree(trained, killed)
    (killed / "evaluations.jsonl").write_text("".join(lines[: further[1]]))
    assert command("search", "--run", killed, *search).code == 0
    fronts = [read_front(run / "searches" / "default") for run in (whole, killed)]
    assert fronts[0].points == fronts[1].points
    assert fronts[0].digests.tolist() == fronts[1].digests.tolist()
    samples = {point.estimate("accuracy").samples for point in fronts[0].points}
    assert samples == {2154, 2 * 2154}

"""The comparison of supernets with networks trained alone: what is kept, resumed and refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from supernet.data import open_data
from supernet.errors import InputError
from supernet.families import ofa_mobilenetv3
from supernet.training import find_recipe
from tests.benchmarks.loading import FOLDER, load_benchmark

SMOKE = ["--recipes", "spos,sandwich", "--seeds", "1", "--budget", "8", "--networks", "4",
         "--alone-steps", "2"]  # fmt: skip


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return load_benchmark("truth")


@pytest.fixture(scope="module")
def records(benchmark) -> ModuleType:
    return sys.modules["_truth_records"]


def _drop_times(text: str) -> dict:
    found = json.loads(text)
    for row in (found["alone"], *found["recipes"]):
        assert row.pop("cpu_seconds") > 0
    return found


def test_fields_of_a_recipe_are_changed_after_its_name(benchmark) -> None:
    read = benchmark.read_recipe("spos@momentum=0.95@optimizer=muon@sequential=true", "clutter")
    changes = {"momentum": 0.95, "optimizer": "muon", "sequential": True}
    assert read == find_recipe("clutter+spos").replace(changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spos@momentum", "must be a field and its value"),
        ("spos@momentom=0.9", "did you mean 'momentum'"),
        ("spos@momentum=high", "momentum = 'high'"),
    ],
)
def test_changes_that_are_none_are_explained(benchmark, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        benchmark.read_recipe(text, "clutter")


def test_equal_passes_are_equal_samples(benchmark, tmp_path: Path) -> None:
    arguments = ["--recipes", "spos,spos@batch_size=32,sandwich", "--seeds", "1", "--budget", "80"]
    options = benchmark.read_arguments([*arguments, "--keep", str(tmp_path)])
    plan = benchmark.make_plan(options.task, options)
    assert [one[0].recipe.steps for one in plan.supernets.values()] == [80, 160, 20]


def test_equal_seconds_are_as_many_passes_as_fit_those_of_the_first(
    benchmark, records, tmp_path: Path
) -> None:
    arguments = ["--recipes", "spos,sandwich", "--seeds", "2", "--budget", "80", "--networks", "4"]
    options = benchmark.read_arguments([*arguments, "--keep", str(tmp_path)])
    plan, kept = benchmark.make_plan(options.task, options), benchmark.Kept(tmp_path)
    for (name, _), trainings in plan.supernets.items():
        for training, seconds in zip(trainings, (8.0, 10.0), strict=True):
            took = seconds if name == "spos" else 2 * seconds
            networks = training.networks
            kept.keep(
                training,
                records.Record(
                    "clutter", name, training.settings, training.seed, training.recipe.steps,
                    networks, 13, ("//8=",) * len(networks), took,
                ),
            )  # fmt: skip
    shares = benchmark.find_shares(plan, kept)
    assert shares == {"spos": 1.0, "sandwich": 0.5}
    shorter = benchmark.make_plan(options.task, options, shares).supernets
    assert [(key, one[0].recipe.steps) for key, one in shorter.items()] == [
        (("spos", 80), 80), (("sandwich", 40), 10)
    ]  # fmt: skip


def test_text_is_answered_token_by_token(benchmark, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("".join(chr(97 + (7 * i * i) % 26) for i in range(6000)))
    arguments = ["--task", "text", "--data", f"text:{book}", "--networks", "4", "--budget", "4"]
    options = benchmark.read_arguments([*arguments, "--alone-steps", "1", "--keep", str(tmp_path)])
    plan = benchmark.make_plan(options.task, options)
    data = plan.task.open()
    record = sys.modules["_truth_training"].carry_out(plan.alone[0])
    (right,) = record.unpack(record.networks)
    answers = sys.modules["_answers"]
    groups = answers.group_samples(data, "test")
    assert right.shape == groups.shape == (data.test.targets.numel(),)
    assert (np.bincount(groups) == data.shape.input[0]).all()
    supernet = plan.task.build(0)
    ((found,),) = answers.answer(supernet, [supernet.space.largest], data, ["test"])
    with torch.no_grad():
        model = supernet.extract(supernet.space.largest)
        expected = model(data.test.inputs).argmax(-1) == data.test.targets
    assert (found == expected.flatten().numpy()).all()
    assert 0 < found.sum() < found.size


def test_task_without_data_asks_for_some(benchmark, capsys) -> None:
    with pytest.raises(SystemExit):
        benchmark.read_arguments(["--task", "text", "--keep", "folder"])
    assert "give them with --data" in capsys.readouterr().err


@pytest.mark.slow
def test_interrupted_run_goes_on_and_gives_the_same(benchmark, capsys, tmp_path: Path) -> None:
    arguments = [*SMOKE, "--keep", str(tmp_path)]
    assert benchmark.main(arguments) == 0
    shown = capsys.readouterr()
    assert "10/10 clutter: " in shown.err
    found = _drop_times(shown.out)
    assert [(row["recipe"], row["steps"]) for row in found["recipes"]] == [
        ("spos", 8), ("sandwich", 2)
    ]  # fmt: skip
    assert (found["networks"], found["samples"], found["bases"]) == (4, 2154, 359)
    assert found["alone"]["standard_error_of_one_seed"] > 0

    # Killed while it wrote the last network alone.
    path = tmp_path / "alone.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 8
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    assert benchmark.main(arguments) == 0
    shown = capsys.readouterr()
    assert "1/1 clutter: alone" in shown.err
    assert _drop_times(shown.out) == found
    again = path.read_bytes().splitlines()
    assert again[:-1] == [line.rstrip() for line in lines[:-1]]
    assert json.loads(again[-1])["answers"] == json.loads(lines[-1])["answers"]

    # A recipe of another name is the same training, and trains nothing.
    more = ["--recipes", "spos,digits+sandwich", *arguments[2:], "--markdown"]
    assert benchmark.main(more) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    rows = [line.split("|") for line in shown.out.splitlines() if line.startswith("|")]
    assert [row[1].strip() for row in rows[2:]] == [
        "*MACs alone*", "*one training alone, with another*",
        "*exact accuracies, with the mean truth (estimate)*", "`spos`", "`digits+sandwich`",
    ]  # fmt: skip
    assert {len(row) for row in rows} == {len(sys.modules["_truth_table"].HEADER) + 2}


@pytest.mark.parametrize(
    ("recipes", "message"),
    [("spoz", "unknown recipe 'spoz'"), ("teacher", "needs a teacher from outside")],
)
def test_recipes_that_cannot_be_are_refused(
    benchmark, capsys, tmp_path: Path, recipes: str, message: str
) -> None:
    folder = tmp_path / "kept"
    assert benchmark.main(["--recipes", recipes, "--keep", str(folder)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert shown.count("\n") == 1
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments",
    [["--seeds", "0"], ["--networks", "3"], ["--budgets", "1,x"], ["--task", "cluter"]],
)
def test_options_that_cannot_be_are_refused(benchmark, capsys, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as found:
        benchmark.main([*arguments, "--keep", "folder"])
    assert found.value.code == 2
    assert arguments[1].split(",")[-1] in capsys.readouterr().err


def test_equal_passes_are_fewer_steps_of_several_networks(benchmark) -> None:
    data = open_data("digits")
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.configure("tiny", data.shape))
    fitted = {
        name: benchmark.fit_to_passes(find_recipe(name, base="digits"), supernet, data, 120)
        for name in ("spos", "sandwich", "fairnas", "multi")
    }
    steps = {name: recipe.steps for name, recipe in fitted.items()}
    assert steps == {"spos": 120, "sandwich": 30, "fairnas": 40, "multi": 120}
    assert fitted["sandwich"].warmup_steps == 3


def test_trainings_differ_in_all_that_decides_their_answers(benchmark) -> None:
    arguments = [*SMOKE, "--keep", "folder"]
    options = benchmark.read_arguments(arguments)
    plan = benchmark.make_plan(options.task, options)
    settings = [one.settings for one in plan.list_trainings()]
    assert len(set(settings)) == len(settings) == 10
    assert len({one.recipe.seed for one in plan.alone}) == 8
    longer = benchmark.read_arguments([*arguments, "--alone-steps", "3"])
    other = benchmark.make_plan(longer.task, longer)
    assert {one.settings for one in other.alone}.isdisjoint(settings)
    assert {one.settings for group in other.supernets.values() for one in group} <= set(settings)


def _make_record(records: ModuleType, networks: tuple[str, ...], right: np.ndarray):
    answers = tuple(records.pack_answers(row) for row in right)
    return records.Record("clutter", "spos", "ab", 0, 8, networks, right.shape[1], answers, 1.5)


def test_answers_come_back(records, tmp_path: Path) -> None:
    right = np.random.default_rng(0).random((3, 13)) < 0.5
    kept = records.Records(tmp_path / "kept.jsonl")
    kept.append(_make_record(records, ("x", "y", "z"), right))
    found = records.Records(kept.path).find("ab", ("z", "x"))
    assert (found.unpack(("z", "x")) == right[[2, 0]]).all()
    assert kept.find("ab", ("x", "w")) is None
    assert kept.find("cd", ("x",)) is None
    kept.append(_make_record(records, ("w",), right[:1]))
    assert records.Records(kept.path).find("ab", ("x",)) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("answers", ["!!!!"]), ("samples", 17), ("networks", ["x", "y"]), ("steps", "many")],
)
def test_damaged_lines_are_named(records, tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "kept.jsonl"
    kept = records.Records(path)
    kept.append(_make_record(records, ("x",), np.ones((1, 13), dtype=bool)))
    payload = json.loads(path.read_text()) | {field: value}
    path.write_text(path.read_text() + json.dumps(payload) + "\n")
    with pytest.raises(InputError, match=r"kept\.jsonl, line 2 is damaged .*remove that line"):
        records.Records(path)


def test_diverged_supernets_have_no_answers(benchmark, tmp_path: Path) -> None:
    options = benchmark.read_arguments([*SMOKE, "--keep", str(tmp_path)])
    plan = benchmark.make_plan(options.task, options)
    training = plan.supernets["spos", 8][0]
    wild = training.recipe.replace({"learning_rate": 1e30, "warmup_steps": 0})
    record = sys.modules["_truth_training"].carry_out(replace(training, recipe=wild))
    assert record.diverged.startswith("the loss is nan at step")
    assert record.answers == ()
    assert record.covers(training.networks)

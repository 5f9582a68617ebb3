"""Every command: help with an example, JSON, results on stdout, progress on stderr, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from supernet import __version__
from supernet.__main__ import main
from tests.app.conftest import EVALUATIONS, SEARCH, Command, contents

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
COMMANDS = ("quickstart", "families", "describe", "train", "profile", "search", "pick", "cascade",
            "report", "import", "evaluate", "audit", "export", "explore", "doctor")  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(command: Command, name: str) -> None:
    outcome = command(name, "--help")
    assert outcome.code == 0
    assert f"Example: supernet {name}" in outcome.out
    assert "--json" in outcome.out


def test_root_help_lists_every_command_without_heavy_imports() -> None:
    code = (
        "import sys; from app.commands.main import run; assert run(['--help']) == 0; "
        "heavy = {'torch', 'streamlit', 'onnxruntime', 'pymoo', 'sklearn', 'pandas'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in COMMANDS)


def test_the_command_is_found_under_the_name_of_the_product() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "supernet", "--version"], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip() == __version__


def test_the_installed_script_is_the_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["supernet"].partition(":")
    assert getattr(import_module(module), name) is main


def test_version(command: Command) -> None:
    assert command("--version").out.strip() == __version__


def test_families_and_describe(command: Command) -> None:
    found = json.loads(command("families", "--json").out)
    assert {"ofa_mobilenetv3", "matlm"} <= {family["name"] for family in found}
    described = json.loads(command("describe", "ofa_mobilenetv3", "--preset", "tiny", "--json").out)
    assert described["size"] > 100_000
    parameters = described["costs"]["parameters"]
    assert parameters["smallest"] < parameters["median"] < parameters["largest"]
    words = f"{described['size']:,} distinct subnetworks"
    assert words in command("describe", "ofa_mobilenetv3").out


def test_doctor_reports_this_machine(command: Command) -> None:
    outcome = command("doctor", "--json")
    health = json.loads(outcome.out)
    assert health["packages"]["torch"]
    assert "CPUExecutionProvider" in health["providers"]
    assert health["backends"]["onnx_runtime"] is None, "it can be used"
    assert "backend onnx_runtime" in command("doctor").out
    assert outcome.code == (1 if health["problems"] else 0)


def test_pick_within_the_budget_is_the_best_measured_one(
    command: Command, finished_run: Path
) -> None:
    front = json.loads((finished_run / "searches/default/front.json").read_text())
    verified = [p for p in front["points"] if p["verified"]]
    latency = {p["digest"]: p["objectives"]["latency_ms"]["value"] for p in verified}
    budget = sorted(latency.values())[len(latency) // 2]
    picked = json.loads(
        command("pick", "--run", finished_run, "--latency-ms", budget, "--json").out
    )
    assert picked["latency_ms"] <= budget
    fits = [p for p in verified if latency[p["digest"]] <= budget]
    quality = {p["digest"]: p["objectives"]["accuracy"] for p in fits}
    # What is known best decides: the posterior, which may think otherwise than one evaluation.
    best = {digest: found.get("posterior", found["value"]) for digest, found in quality.items()}
    assert best[picked["best"]] == max(best.values())
    # The cheapest of those that noise does not tell apart from it.
    alike = {picked["best"], picked["digest"], *picked["ties"]}
    assert latency[picked["digest"]] == min(latency[digest] for digest in alike)
    assert picked["value"] == quality[picked["digest"]]["value"]
    assert picked["digest"] in command("pick", "--run", finished_run, "--latency-ms", budget).out


def test_front_keeps_predictions_beside_real_values(finished_run: Path) -> None:
    front = json.loads((finished_run / "searches/default/front.json").read_text())
    assert front["evaluations"] == EVALUATIONS == len(front["points"])
    on_front = [p for p in front["points"] if p["on_front"]]
    assert on_front
    assert all(p["verified"] for p in on_front)
    for point in on_front:
        accuracy, latency = point["objectives"]["accuracy"], point["objectives"]["latency_ms"]
        assert accuracy["source"] == "evaluated"
        assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
        assert accuracy["predicted"] is not None
        assert 0 <= accuracy["test"] <= 1
        assert latency["source"] == "measured"
        assert latency["value"] != latency["predicted"]
        total = sum(part["latency_ms"] for part in point["breakdown"])
        assert total == pytest.approx(latency["predicted"])
    others = [p for p in front["points"] if not p["on_front"]]
    assert all(p["objectives"]["latency_ms"]["source"] == "table" for p in others)
    assert front["hypervolume"]["verified"] > 0
    lines = (finished_run / "searches/default/hypervolume.csv").read_text().splitlines()
    assert lines[0] == "evaluations,hypervolume"
    values = [float(line.split(",")[1]) for line in lines[1:]]
    assert values == sorted(values), "a hypervolume never shrinks"
    assert (
        len((finished_run / "searches/default/front.csv").read_text().splitlines())
        == EVALUATIONS + 1
    )


def test_run_json_keeps_the_effective_configuration(finished_run: Path) -> None:
    record = json.loads((finished_run / "run.json").read_text())
    assert {name: stage["status"] for name, stage in record["stages"].items()} == {
        "train": "complete",
        "profile": "complete",
        "search": "complete",
    }
    assert record["recipe"]["steps"] == 30
    assert record["stages"]["train"]["config"]["recipe"]["batch_size"] == 64
    assert record["stages"]["profile"]["config"]["device"]["name"] == "cpu"


def test_evaluate_stores_a_value_once(command: Command, a_run: Path) -> None:
    first = command("evaluate", "--run", a_run, "--arch", "largest", "--split", "test", "--json")
    value = json.loads(first.out)
    assert value["low"] <= value["value"] <= value["high"]
    log = (a_run / "evaluations.jsonl").read_bytes()
    again = command("evaluate", "--run", a_run, "--arch", "largest", "--split", "test", "--json")
    assert json.loads(again.out) == value
    assert (a_run / "evaluations.jsonl").read_bytes() == log


def test_evaluate_by_beginning_of_a_digest_and_by_file(
    command: Command, a_run: Path, tmp_path: Path
) -> None:
    lines = (a_run / "evaluations.jsonl").read_text().splitlines()
    record = json.loads(lines[0])
    by_digest = command("evaluate", "--run", a_run, "--arch", record["digest"][:8], "--json")
    assert json.loads(by_digest.out)["value"] == record["value"]
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"version": 1, "choices": record["architecture"]}))
    by_file = command("evaluate", "--run", a_run, "--arch", file, "--json")
    assert json.loads(by_file.out) == json.loads(by_digest.out)


def test_export_runs_in_onnxruntime_alone(command: Command, a_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    outcome = command("export", "--run", a_run, "--arch", "smallest", "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    assert {p.name for p in out.iterdir()} == {
        "model.onnx",
        "weights.safetensors",
        "architecture.json",
        "card.md",
        "parity.json",
        "labels.json",
    }
    parity = json.loads((out / "parity.json").read_text())
    assert parity["max_abs_difference"] <= 1e-4
    assert parity["output_spread"] > 0.01, "a constant network proves nothing"
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    (spec,) = session.get_inputs()
    channels, height, width = spec.shape[1:]
    assert channels == 1
    assert height == width < 8, "the smallest network takes smaller images"
    pixels = np.random.default_rng(0).random((3, 1, height, width), dtype=np.float32)
    assert session.run(None, {spec.name: pixels})[0].shape == (3, 10)
    card = (out / "card.md").read_text()
    assert f"resized to {width}x{height}" in card
    assert "95 % interval" in card
    # An export may be written again; the result is the same network.
    before = (out / "model.onnx").read_bytes()
    assert command("export", "--run", a_run, "--arch", "smallest", "--out", out).code == 0
    assert (out / "model.onnx").read_bytes() == before


def test_exported_network_agrees_with_evaluation(
    command: Command, a_run: Path, tmp_path: Path
) -> None:
    from supernet.data import open_data

    command("export", "--run", a_run, "--arch", "largest", "--out", tmp_path / "m")
    value = json.loads(command("evaluate", "--run", a_run, "--arch", "largest", "--json").out)
    split = open_data("digits").val
    session = onnxruntime.InferenceSession(str(tmp_path / "m" / "model.onnx"))
    logits = session.run(None, {session.get_inputs()[0].name: split.inputs.numpy()})[0]
    accuracy = float((logits.argmax(1) == split.targets.numpy()).mean())
    assert accuracy == pytest.approx(value["value"], abs=1e-9)


def test_progress_goes_to_stderr_and_json_to_stdout(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "r"
    outcome = command("train", "--out", out, "--steps", 2, "--batch-size", 32, "--json")
    assert json.loads(outcome.out)["steps"] == 2
    assert "train: 2/2 steps" in outcome.err


def test_a_second_search_reuses_evaluations(command: Command, a_run: Path) -> None:
    before = len((a_run / "evaluations.jsonl").read_text().splitlines())
    outcome = command(
        "search", "--run", a_run, "--name", "again", *SEARCH,
        "--objectives", "accuracy,latency,size", "--json",
    )  # fmt: skip
    result = json.loads(outcome.out)
    assert result["objectives"] == ["accuracy", "latency_ms", "size_bytes"]
    assert result["reused"] > 0
    after = [json.loads(x) for x in (a_run / "evaluations.jsonl").read_text().splitlines()]
    fresh = [r for r in after[before:] if r["split"] == "val"]
    assert len(fresh) == EVALUATIONS - result["reused"]
    keys = [(r["digest"], r["split"]) for r in after]
    assert len(keys) == len(set(keys)), "nothing is evaluated twice"


def test_a_finished_search_is_not_redone(command: Command, a_run: Path) -> None:
    before = contents(a_run)
    outcome = command("search", "--run", a_run, *SEARCH)
    assert outcome.code == 0
    assert "already complete" in outcome.err
    assert contents(a_run) == before


def test_settings_file_gives_options_and_flags_win(command: Command, a_run: Path) -> None:
    file = a_run.parent / "settings.toml"
    file.write_text(f'[pick]\nrun = "{a_run}"\nlatency-ms = 9\n[train]\nsteps = 3\n')
    assert json.loads(command("pick", "--config", file, "--json").out)["budget_ms"] == 9
    flags = command("pick", "--config", file, "--latency-ms", 8, "--json")
    assert json.loads(flags.out)["budget_ms"] == 8


def test_explore_starts_streamlit_without_usage_statistics(
    command: Command, finished_run: Path
) -> None:
    shown = json.loads(command("explore", finished_run, "--headless", "--json").out)["command"]
    assert Path(shown[1]).name == "serve.py"
    assert "--browser.gatherUsageStats=false" in shown
    assert shown[-1] == str(finished_run.resolve())


def test_a_run_can_be_read_where_it_cannot_be_written(command: Command, a_run: Path) -> None:
    # What a copy on a read-only disk must allow: nothing here may write.
    before = {p: p.stat().st_mtime_ns for p in a_run.rglob("*") if p.is_file()}
    digest = json.loads(command("pick", "--run", a_run, "--latency-ms", 9, "--json").out)["digest"]
    assert command("evaluate", "--run", a_run, "--arch", digest, "--split", "test").code == 0
    assert (
        command("export", "--run", a_run, "--arch", digest, "--out", a_run.parent / "x").code == 0
    )
    assert {p: p.stat().st_mtime_ns for p in a_run.rglob("*") if p.is_file()} == before


def test_ctrl_c_ends_with_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.commands.describe.list_families", interrupted)
    outcome = command("families")
    assert outcome.code == 130
    assert "interrupted; the same command begins anew" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_bug_ends_with_1_and_shows_where(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.commands.describe.list_families", lambda: {}["missing"])
    outcome = command("families")
    assert outcome.code == 1
    assert "KeyError" in outcome.err


def test_a_value_error_from_inside_a_library_is_a_bug(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.commands.describe.list_families", lambda: json.loads("{"))
    outcome = command("families")
    assert outcome.code == 1
    assert "Traceback" in outcome.err

"""`supernet finetune`: what it leaves, that it continues, what teaches, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from app.jobs.export_files import OURS
from app.jobs.finetune import FinetuneRequest, finetune_job
from app.records.finetune import FinetuneSettings, read_finetune
from app.records.typed_json.record_files import read_record
from app.records.vocabulary import FILE as VOCABULARY
from app.runs.directory import open_run
from app.runs.teacher import make_teacher
from app.runs.trained import open_trained
from supernet import checksums
from supernet.data import DataSource
from supernet.export import DECODER
from supernet.quality.evaluate import evaluate
from supernet.supernet import Supernet
from tests.app.conftest import Command, contents
from tests.app.test_records import damaged_leaves, is_refused
from tests.app.test_resume import kill_when

FLAGS = ["--arch", "smallest", "--steps", "6", "--recipe-part",
         "batch_size=16,checkpoint_every=2"]  # fmt: skip


@pytest.fixture(scope="module")
def tuned(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run whose smallest network was fine-tuned; never write to it."""
    from app.commands.main import run

    path = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("tuned") / "run"))
    assert run(["finetune", "--run", str(path), *FLAGS]) == 0
    return path


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency has nothing to do with it, and takes a moment."""
    monkeypatch.setattr("app.jobs.export_files._find_latency", lambda *_: None)


def folder_of(run: Path) -> Path:
    (folder,) = (run / "finetunes").iterdir()
    return folder


def compare_export(run: Path, folder: Path) -> None:
    """What ONNX Runtime makes of the samples is what the record says of them."""
    found = read_finetune(folder)
    trained = open_trained(open_run(run), print)
    chosen = trained.supernet.space.architecture(found.settings.architecture)
    session = onnxruntime.InferenceSession(folder / "export" / "model.onnx")
    for split in ("val", "test"):
        samples = trained.data.split(split)
        inputs, targets = samples.batch(torch.arange(len(samples)), torch.device("cpu"))
        pixels = trained.supernet.prepare(inputs, chosen).numpy()
        logits = session.run(None, {session.get_inputs()[0].name: pixels})[0]
        accuracy = float((logits.argmax(1) == targets.numpy()).mean())
        value = found.after[split].value
        assert value is not None
        # A sample may be a tie up to rounding.
        assert abs(accuracy - value) <= 1.5 / len(samples)


def test_it_trains_evaluates_and_exports(command: Command, tuned: Path, finished_run: Path) -> None:
    folder = folder_of(tuned)
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {"export", "finetune.json", "metrics.jsonl", "settings.json"}
    assert {path.name for path in (folder / "export").iterdir()} == OURS - {DECODER, VOCABULARY}
    found = read_finetune(folder)
    assert open_run(tuned).finetunes == (folder.name,) == (found.settings.digest,)
    inherited = json.loads(command("evaluate", "--run", tuned, "--arch", "smallest", "--json").out)
    assert inherited["digest"] == found.settings.digest
    assert found.before["val"].value == inherited["value"]
    for split in ("val", "test"):
        before, after = found.before[split].value, found.after[split].value
        assert before is not None
        assert after is not None
        change = found.change[split]
        assert change.value == pytest.approx(after - before)
        assert change.low <= change.value <= change.high
    compare_export(tuned, folder)
    card = (folder / "export" / "card.md").read_text()
    assert "trained on alone for 6 steps, the supernet's largest network teaching" in card
    assert f"weights `{found.checkpoint}`" in card
    assert "without retraining" not in card
    before, after = contents(finished_run), contents(tuned)
    assert {n: c for n, c in after.items() if n in before} == before | {
        # `evaluate`, above, adds a line.
        "evaluations.jsonl": after["evaluations.jsonl"]
    }, "the supernet's weights and the rest of the run are as they were"


def test_the_network_is_the_inherited_one_trained_on(command: Command, tuned: Path) -> None:
    out = tuned.parent / "inherited"
    assert command("export", "--run", tuned, "--arch", "smallest", "--out", out).code == 0
    inherited = load_file(out / "weights.safetensors")
    trained = load_file(folder_of(tuned) / "export" / "weights.safetensors")
    assert {n: w.shape for n, w in inherited.items()} == {n: w.shape for n, w in trained.items()}
    weights = [n for n, w in inherited.items() if w.ndim == 4 and n.endswith("weight")]
    assert weights
    for name in weights:
        ours, theirs = trained[name], inherited[name]
        assert not np.array_equal(ours, theirs), f"{name} did not train"
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.5, f"{name} began elsewhere"


def test_the_same_command_returns_the_stored_result(command: Command, tuned: Path) -> None:
    before = contents(tuned)
    outcome = command("finetune", "--run", tuned, *FLAGS, "--json")
    assert outcome.code == 0, outcome.err
    assert "already complete" in outcome.err
    payload = json.loads(outcome.out)
    assert payload["stored"] is True
    assert payload["report"] == checksums.read_json(folder_of(tuned) / "finetune.json")
    assert "Fine-tuned" in command("finetune", "--run", tuned, *FLAGS).out
    assert contents(tuned) == before


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_killed_one_continues_to_the_same_weights(
    command: Command, tuned: Path, finished_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    folder = run / "finetunes" / folder_of(tuned).name
    kill_when((folder / "checkpoints/2/state.json").exists, "finetune", "--run", run, *FLAGS)
    assert not (folder / "finetune.json").exists(), "killed in the middle"
    outcome = command("finetune", "--run", run, *FLAGS)
    assert outcome.code == 0, outcome.err
    ours, theirs = read_finetune(folder), read_finetune(folder_of(tuned))
    assert ours.resumed_from > 0
    assert (ours.checkpoint, ours.change) == (theirs.checkpoint, theirs.change)
    for name in ("weights.safetensors", "model.onnx", "architecture.json"):
        there = folder_of(tuned) / "export" / name
        assert (folder / "export" / name).read_bytes() == there.read_bytes(), name
    assert not (folder / "checkpoints").exists()


@pytest.mark.usefixtures("unmeasured")
def test_other_settings_need_another_name_or_replace(
    command: Command, refused: Callable[..., str], tuned: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(tuned, tmp_path / "run"))
    before, name = contents(run), folder_of(run).name
    other = ["--run", run, *FLAGS, "--seed", 1, "--no-teacher"]
    sentence = refused("finetune", *other)
    assert f"fine-tuning '{name}' has other settings (teacher: " in sentence
    assert "seed: 0 -> 1" in sentence
    assert "--name, or --replace" in sentence
    assert contents(run) == before
    assert command("finetune", *other, "--name", "second").code == 0
    assert open_run(run).finetunes == tuple(sorted((name, "second")))
    assert {n: c for n, c in contents(run).items() if n in before} == before
    assert command("finetune", *other, "--replace").code == 0
    first, second = (read_finetune(run / "finetunes" / n) for n in (name, "second"))
    assert first.checkpoint == second.checkpoint != read_finetune(folder_of(tuned)).checkpoint
    assert first.settings.teacher is None
    assert "distill" not in first.settings.recipe or first.settings.recipe["distill"] == "none"
    assert "teaching" not in (run / "finetunes" / name / "export" / "card.md").read_text()


@pytest.mark.usefixtures("unmeasured")
def test_the_teacher_is_what_it_learns_from(a_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Supernet, dict[str, Tensor]]] = []

    class Stubborn(nn.Module):
        """Says that everything is a three."""

        def forward(self, inputs: Tensor) -> Tensor:
            assert inputs.shape[-2:] == (8, 8), "a teacher sees the data as they are"
            return 20.0 * nn.functional.one_hot(torch.full((len(inputs),), 3), 10).float()

    def stand_in(supernet: Supernet, data: DataSource) -> nn.Module:
        seen.append((supernet, {n: t.clone() for n, t in supernet.state_dict().items()}))
        return Stubborn()

    monkeypatch.setattr("app.jobs.finetune.make_teacher", stand_in)
    request = FinetuneRequest(
        run=a_run,
        architecture="smallest",
        steps=30,
        recipe_part="label_share=0,learning_rate=0.2,batch_size=32",
    )
    outcome = finetune_job(request, lambda _: None)
    data = open_trained(open_run(a_run), print).data
    threes = float((data.val.targets == 3).double().mean())
    assert outcome.report.after["val"].value == pytest.approx(threes)
    ((supernet, weights),) = seen
    assert all(torch.equal(t, weights[n]) for n, t in supernet.state_dict().items()), "untouched"


def test_the_teacher_is_the_largest_network_as_it_is_evaluated(finished_run: Path) -> None:
    trained = open_trained(open_run(finished_run), print)
    teacher = make_teacher(trained.supernet, trained.data)
    val = trained.data.val
    inputs, targets = val.batch(torch.arange(len(val)), torch.device("cpu"))
    with torch.no_grad():
        accuracy = float((teacher(inputs).argmax(1) == targets).double().mean())
    found = evaluate(trained.supernet, trained.supernet.space.largest, trained.data)
    assert accuracy == pytest.approx(found.value, abs=1.5 / len(val))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--arch", "zzz"], "no architecture 'zzz'"),
        (["--arch", "gone.json"], "there is no architecture file gone.json"),
        (["--steps", "0"], "steps = 0 is impossible; it must be at least 1"),
        (["--seed", "-1"], "seed = -1 is impossible; it must be at least 0"),
        (["--name", "../x"], "fine-tuning name '../x' must be letters"),
        (["--recipe-part", "steps=3"], "steps is not a part of --recipe-part; use --steps"),
        (["--recipe-part", "epochs=3"], "--steps and epochs exclude each other"),
        (["--recipe-part", "step=3"], "a recipe has no field 'step' (did you mean 'steps'?)"),
        (["--recipe-part", "distill=none"], "distill cannot be changed for a stand-alone"),
        (["--recipe-part", "label_share=-1"], "label_share = -1.0 is impossible"),
        (["--no-teacher", "--recipe-part", "label_share=1"], "label_share cannot be changed"),
        (["--recipe-part", "batch_size=1"], "batch_size = 1 cannot work"),
    ],
)
def test_bad_input(
    refused: Callable[..., str], finished_run: Path, flags: list[str], expected: str
) -> None:
    before = contents(finished_run)
    usual = ["--arch", "smallest", "--steps", "2"]
    assert expected in refused("finetune", "--run", finished_run, *usual, *flags)
    assert contents(finished_run) == before, "nothing is written"


def test_damage_is_named(refused: Callable[..., str], tuned: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tuned, tmp_path / "run"))
    folder = folder_of(run)

    def try_again() -> str:
        before = contents(run)
        sentence = refused("finetune", "--run", run, *FLAGS)
        assert contents(run) == before
        assert "--replace" in sentence
        return sentence

    card = (folder / "export" / "card.md").rename(tmp_path / "card.md")
    assert "card.md is gone" in try_again()
    card.rename(folder / "export" / "card.md")
    record = json.loads((folder / "finetune.json").read_text())
    (folder / "finetune.json").write_text(json.dumps({**record, "macs": 3}))
    assert "finetune.json was damaged or edited" in try_again()
    (folder / "finetune.json").write_text('{"format": 1}')
    assert "finetune.json was damaged or edited" in try_again()
    (folder / "settings.json").unlink()
    assert "settings.json is missing or damaged" in try_again()


@pytest.mark.parametrize(
    ("file", "use"),
    [
        ("finetune.json", lambda path: read_finetune(path.parent)),
        ("settings.json", lambda path: read_record(path, FinetuneSettings, "mend it")),
    ],
)
def test_every_leaf_is_read_or_refused_in_a_sentence(
    tuned: Path, tmp_path: Path, file: str, use: Callable[[Path], object]
) -> None:
    content = json.loads((folder_of(tuned) / file).read_text())
    del content[checksums.KEY]
    path = tmp_path / file
    count = refused = 0
    for place, changed in damaged_leaves(content):
        path.write_text(changed)
        refused += is_refused(use, path, f"{place}: {changed[:80]}")
        count += 1
    assert refused > count / 2, "most values have one type only"


def test_a_training_that_diverges_names_flags_that_work(
    refused: Callable[..., str], a_run: Path
) -> None:
    hot = ["--recipe-part", "batch_size=16,warmup_steps=1,log_every=1,learning_rate=1e9"]
    flags = ["--run", a_run, "--arch", "smallest", "--steps", "9"]
    sentence = refused("finetune", *flags, *hot)
    assert "the loss is " in sentence
    assert "add --replace --recipe-part learning_rate=1e+08 to train with less than" in sentence
    assert not list(a_run.glob("finetunes/*/finetune.json"))


@pytest.mark.usefixtures("unmeasured")
def test_a_language_model_without_normalisation(command: Command, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 300)
    path = tmp_path / "run"
    trained = command(
        "train", "--out", path, "--family", "matlm", "--data", f"text:{tmp_path / 'text.txt'}",
        "--context", 16, "--steps", 12, "--batch-size", 16,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    # By default for a quarter of the supernet's passes.
    outcome = command("finetune", "--run", path, "--arch", "smallest", "--json")
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)["report"]
    assert found["settings"]["steps"] == 3
    assert found["after"]["val"]["objective"] == "loss"
    assert found["after"]["val"]["calibration"]["used"] == 0
    assert found["change"]["val"]["high"] < 0, "a lower loss"
    assert "nats/token" in command("finetune", "--run", path, "--arch", "smallest").out


@pytest.mark.usefixtures("unmeasured")
def test_units_in_integers_train_with_their_steps(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "run"
    trained = command(
        "train", "--out", path, "--family", "resnet", "--preset", "tiny", "--precision", "int8",
        "--steps", 8, "--batch-size", 16,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    outcome = command("finetune", "--run", path, "--arch", "smallest", "--steps", 3, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)["report"]
    assert found["parity"]["integers"]["samples"] > 0
    assert found["storage"]["promised"] < 4 * found["parameters"] / 2
    assert "quantizer" not in found["settings"]["recipe"], "its steps are trained on, too"
    assert "| int8 |" in Path(json.loads(outcome.out)["export"], "card.md").read_text()

"""Bad input: exit code 2, one clear sentence, no trace, and nothing written or lost."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardware.table import LatencyTable
from supernet import checksums
from tests.app.conftest import QUICK_SEARCH, SEARCH, STEPS, Command, contents

Refused = Callable[..., str]


def image_folder(path: Path, classes: tuple[str, ...], count: int = 10, size: int = 8) -> Path:
    """Grey noise images, one folder per class."""
    rng = np.random.default_rng(0)
    for name in classes:
        (path / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (size, size), dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i}.png")
    return path


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--family", "ofa_mobilenet"], "unknown family 'ofa_mobilenet'.*did you mean 'ofa_mobil"),
        (["--family", "my.own.module"], "no module 'my.own.module'"),
        (["--family", "os.path"], "module 'os.path' is no family: it lacks TASK"),
        (["--family", "../x"], "unknown family '../x'"),
        (["--family", ""], "--family is empty"),
        (["--image-size", "16"], "image size 16 applies to folder:PATH data; 'digits' has none"),
        (["--context", "5"], "context 5 applies to text:PATH data"),
        (["--seed", str(2**70)], "seed = .* is impossible"),
        (["--preset", "tini"], "unknown preset 'tini'.*did you mean 'tiny'"),
        (["--data", "digit"], "unknown data 'digit'.*did you mean 'digits'"),
        (["--data", "cluter"], "unknown data 'cluter'.*did you mean 'clutter'"),
        (["--data", "clutter", "--image-size", "16"], "applies to folder:PATH data; 'clutter' has"),
        (["--data", "clutter", "--family", "matlm"], "language-modelling.*clutter is for image-cl"),
        (["--data", "folder:"], "lacks a path"),
        (["--data", "folder:/nowhere/at/all"], "there is no folder /nowhere/at/all"),
        (["--data", "text:/nowhere.txt"], "there is no text file /nowhere.txt"),
        (["--recipe", "digit"], "unknown recipe 'digit'.*did you mean 'digits'"),
        (["--family", "matlm"], "matlm.*language-modelling.*digits.*image-classification"),
        (["--steps", "0"], "steps = 0 is impossible"),
        (["--steps", "5", "--epochs", "5"], "exclude each other"),
        (["--batch-size", "0"], "batch_size = 0 is impossible"),
        (["--batch-size", "1"], "batch_size = 1 cannot work"),
        (["--recipe", "multi", "--batch-size", "3"], "3 samples are too few for 4 architectures"),
        (["--batch-size", "100000"], "batch_size = 100000 is larger than the training split"),
        (["--learning-rate", "-1"], "learning_rate = -1.0 is impossible"),
        (["--seed", "-1"], "seed = -1 is impossible"),
        (["--steps", "many"], "--steps"),
        (["--stepps", "3"], "--stepps"),
        (["--config", "/nowhere.toml"], "there is no configuration file /nowhere.toml"),
        (["--resume"], "there is nothing to resume"),
        (["--shard"], "this one is alone; start it with torchrun .*, or leave out --shard"),
    ],
)
def test_train_flags(refused: Refused, tmp_path: Path, flags: list[str], expected: str) -> None:
    sentence = refused("train", "--out", tmp_path / "run", *flags)
    _match(expected, sentence)
    assert not (tmp_path / "run").exists(), "nothing is written"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["profile", "--device", "cpuu"], "unknown device 'cpuu'.*did you mean 'cpu'"),
        (["profile", "--device", "x", "--provider", "Nope"], "has no Nope; it has"),
        (["profile", "--precision", "fp23"], "unknown precision 'fp23'.*did you mean 'fp32'"),
        (["profile", "--threads", "0"], "threads = 0"),
        (["profile", "--threads", "2"], r"another table \(threads: 1 -> 2\)"),
        (["profile", "--passes", "1", "--replace"], "passes = 1"),
        (["search", "--device", "cpuu"], "device 'cpuu' is not profiled.*did you mean 'cpu'"),
        (["search", "--objectives", ","], "unknown objective"),
        (["search", "--objectives", "accuracy,latancy"], "'latancy'.*did you mean 'latency'"),
        (["search", "--objectives", "accuracy"], "at least two objectives"),
        (["search", "--objectives", "accuracy,size,size"], "'size_bytes' is listed twice"),
        (["search", "--objectives", "loss,latency"], "'loss' does not fit.*'accuracy'"),
        (["search", "--strategy", "nsga22"], "unknown strategy 'nsga22'.*did you mean 'nsga2'"),
        (["search", "--evaluations", "0"], "evaluations = 0 is too few"),
        (["search", "--latency-ms", "-1", "--name", "b"], "budget of -1 ms cannot work"),
        (["search", "--name", "a/b"], "search name 'a/b'"),
        (["search", "--seed", "5"], r"search 'default' has other settings \(.*seed: 0 -> 5\)"),
        (["pick", "--latency-ms", "1", "--search", "defalt"], "'defalt'.*did you mean 'default'"),
        (["pick", "--latency-ms", "0"], "budget of 0 ms cannot work"),
        (["evaluate", "--arch", "zzz"], "no architecture 'zzz'"),
        (["evaluate", "--arch", "no.json"], "no architecture file no.json"),
        (["evaluate", "--arch", "largest", "--split", "tset"], "'tset'.*did you mean 'test'"),
        (["evaluate", "--arch", "largest", "--batch-size", "0"], "batch size 0 cannot work"),
        (["export", "--arch", "zzz"], "no architecture 'zzz'"),
    ],
)
def test_flags_of_a_finished_run(
    refused: Refused, finished_run: Path, arguments: list[str], expected: str
) -> None:
    before = contents(finished_run)
    sentence = refused(arguments[0], "--run", finished_run, *arguments[1:])
    _match(expected, sentence)
    after = contents(finished_run)
    # A stage that began before its input turned out bad may have said so in run.json only.
    assert {k: v for k, v in after.items() if k in before} == before
    assert set(after) == set(before)


def test_commands_and_folders_that_are_no_runs(refused: Refused, tmp_path: Path) -> None:
    _match("did you mean 'train'|Did you mean 'train'", refused("trian"))
    _match("not a run directory", refused("pick", "--run", tmp_path, "--latency-ms", 1))
    _match("is not a run directory and holds none", refused("explore", tmp_path))
    _match("unknown family", refused("describe", "resnext"))
    _match("unknown preset", refused("describe", "ofa_mobilenetv3", "--preset", "x"))


# -- data --------------------------------------------------------------------------------------


def test_folder_with_one_class(refused: Refused, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "data", ("cat",))
    sentence = refused("train", "--data", f"folder:{folder}", "--out", tmp_path / "run")
    _match("only one class .*'cat'.*at least 2", sentence)


def test_folder_without_images(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "data" / "cat").mkdir(parents=True)
    sentence = refused("train", "--data", f"folder:{tmp_path / 'data'}", "--out", tmp_path / "run")
    _match("has no images", sentence)


def test_folder_with_an_image_that_cannot_be_decoded(refused: Refused, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "data", ("cat", "dog"))
    (folder / "dog" / "3.png").write_bytes(b"\x89PNG not really")
    sentence = refused("train", "--data", f"folder:{folder}", "--out", tmp_path / "run")
    _match("cannot decode image .*dog.3.png", sentence)
    assert not (tmp_path / "run").exists()


def test_data_larger_than_the_memory(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder(tmp_path / "data", ("cat", "dog"))
    monkeypatch.setattr("supernet.data.memory.measure_available_memory", lambda: 99)
    sentence = refused("train", "--data", f"folder:{folder}", "--out", tmp_path / "run")
    _match(f"images of folder:{folder} need .* available; give a smaller --image-size", sentence)
    assert not (tmp_path / "run").exists()


def test_what_a_folder_lacks_is_said_when_it_is_trained_on(
    command: Command, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "data", ("cat", "dog"))
    (folder / "bird").mkdir()
    data = ["--data", f"folder:{folder}", "--batch-size", 8, "--steps", 1]
    outcome = command("train", *data, "--out", tmp_path / "run")
    assert outcome.code == 0
    said = [line for line in outcome.err.splitlines() if "warning" in line]
    assert len(said) == 1
    _match(f"warning: left out 1 class folder without images: {folder / 'bird'}", said[0])


def test_images_too_small_for_the_network(refused: Refused, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "data", ("cat", "dog"))
    data = ["--data", f"folder:{folder}", "--batch-size", 8]
    out = ["--out", tmp_path / "run"]
    _match("resolution", refused("train", *data, "--image-size", 2, *out))
    _match("image size 0 is impossible", refused("train", *data, "--image-size", 0, *out))
    _match("batch_size = 128 is larger", refused("train", *data[:2], *out))
    assert not (tmp_path / "run").exists()


def test_other_classes_than_the_checkpoint_has(
    refused: Refused, finished_run: Path, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "data", ("cat", "dog"))
    before = contents(finished_run)
    sentence = refused(
        "evaluate", "--run", finished_run, "--arch", "largest", "--data", f"folder:{folder}"
    )
    _match("classes of .* differ .*'cat', 'dog' here, '0', '1'", sentence)
    assert contents(finished_run) == before


def test_data_that_changed_since_training(
    command: Command, refused: Refused, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "data", ("cat", "dog"))
    data = ["--data", f"folder:{folder}", "--batch-size", 8, "--steps", 1]
    run = tmp_path / "run"
    assert command("train", *data, "--out", run).code == 0
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "cat" / "0.png")
    _match("changed since", refused("evaluate", "--run", run, "--arch", "largest"))
    _match("another run .*changed content", refused("train", *data, "--out", run))


# -- architectures -----------------------------------------------------------------------------


def test_architecture_files(refused: Refused, finished_run: Path, tmp_path: Path) -> None:
    record = json.loads((finished_run / "evaluations.jsonl").read_text().splitlines()[0])
    good = record["architecture"]
    missing = {k: v for k, v in good.items() if k != "stage1.depth"}
    cases = {
        "choice 'stage1.depth' is missing; legal values are \\[1, 2\\]": {"choices": missing},
        "unknown choice 'stage1.dept'.*did you mean 'stage1.depth'": {
            "choices": {**good, "stage1.dept": 1}
        },
        "9.*stage1.depth|stage1.depth.*9.*1, 2": {"choices": {**good, "stage1.depth": 9}},
        "belongs to space 1234": {"choices": good, "space": "1234"},
        "has version 7, and this release reads 1": {"choices": good, "version": 7},
        "it lacks 'choices'": {"stage1.depth": 1},
    }
    file = tmp_path / "a.json"
    for expected, payload in cases.items():
        file.write_text(json.dumps(payload))
        _match(expected, refused("evaluate", "--run", finished_run, "--arch", file))
    file.write_text("{")
    _match("not valid JSON", refused("evaluate", "--run", finished_run, "--arch", file))


# -- latency tables ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"space": "0123456789abcdef"}, "table is of space 0123456789abcdef"),
        ({"precisions": ("int8",)}, "holds int8 and the space needs fp32"),
        ({"fingerprint": {"cpu": "another"}}, "measured under other conditions .*cpu"),
    ],
)
def test_table_of_another_space_precision_or_machine(
    refused: Refused, a_run: Path, change: dict[str, object], expected: str
) -> None:
    folder = a_run / "devices" / "cpu"
    dataclasses.replace(LatencyTable.load(folder), **change).save(folder)  # type: ignore[arg-type]
    before = contents(a_run)
    sentence = refused("search", "--run", a_run, "--name", "new", *SEARCH)
    _match(expected, sentence)
    assert contents(a_run) == before


def test_truncated_table_gives_way_to_the_previous_one(
    command: Command, refused: Refused, a_run: Path
) -> None:
    folder = a_run / "devices" / "cpu"
    LatencyTable.load(folder).save(folder)  # keeps the one before
    _truncate(folder / "table.parquet")
    outcome = command("search", "--run", a_run, "--name", "new", *QUICK_SEARCH)
    assert outcome.code == 0
    assert "the previous table is used instead" in outcome.err
    _truncate(folder / "previous" / "table.parquet")
    sentence = refused("search", "--run", a_run, "--name", "newer", *QUICK_SEARCH)
    _match("table.parquet is damaged or cut short; profile the device again", sentence)


def test_no_device_is_profiled_yet(command: Command, refused: Refused, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert command("train", "--out", run, "--steps", 1, "--batch-size", 32).code == 0
    _match("none is profiled yet.*supernet profile", refused("search", "--run", run))
    _match("none has finished yet", refused("pick", "--run", run, "--latency-ms", 1))


def test_budget_below_the_fastest_subnetwork(refused: Refused, finished_run: Path) -> None:
    before = contents(finished_run)
    sentence = refused("search", "--run", finished_run, "--name", "b", "--latency-ms", 0.0001)
    _match("no architecture has latency_ms at most 0.0001; the nearest feasible value is", sentence)
    sentence = refused("pick", "--run", finished_run, "--latency-ms", 0.0001)
    _match("no verified subnetwork .* at most 0.0001 ms on cpu; the nearest takes", sentence)
    assert contents(finished_run) == before


# -- checkpoints -------------------------------------------------------------------------------


def test_truncated_checkpoint_gives_way_to_the_previous_one(
    command: Command, refused: Refused, a_run: Path
) -> None:
    _truncate(a_run / "checkpoints" / "30" / "weights.safetensors")
    outcome = command("evaluate", "--run", a_run, "--arch", "largest", "--json")
    assert outcome.code == 0
    assert "30 is damaged" in outcome.err
    assert "using the previous good checkpoint" in outcome.err
    records = [json.loads(x) for x in (a_run / "evaluations.jsonl").read_text().splitlines()]
    state = json.loads((a_run / "checkpoints/20/state.json").read_text())
    assert records[-1]["checkpoint"] == state["sha256"]["weights.safetensors"][:16]
    _truncate(a_run / "checkpoints" / "20" / "weights.safetensors")
    _match("no usable checkpoint", refused("evaluate", "--run", a_run, "--arch", "largest"))


def test_truncated_checkpoint_is_trained_again(command: Command, a_run: Path) -> None:
    file = a_run / "checkpoints" / "30" / "weights.safetensors"
    whole = file.read_bytes()
    _truncate(file)
    outcome = command("train", "--out", a_run, *STEPS)
    assert outcome.code == 0
    assert "using the previous good checkpoint" in outcome.err
    assert file.read_bytes() == whole, "the same weights as before"


# -- runs --------------------------------------------------------------------------------------


def test_output_directory_of_another_run(refused: Refused, a_run: Path) -> None:
    before = contents(a_run)
    sentence = refused("train", "--out", a_run, *STEPS, "--seed", 1)
    _match("holds another run .*seed: 0 -> 1", sentence)
    _match("holds another run", refused("quickstart", "--out", a_run))
    assert contents(a_run) == before


def test_output_directory_with_other_files(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    _match(r"not empty and is not a run \(thesis.tex\)", refused("train", "--out", tmp_path))
    assert contents(tmp_path) == {"thesis.tex": b"years"}


def test_resume_with_a_different_configuration(refused: Refused, a_run: Path) -> None:
    before = contents(a_run)
    sentence = refused("train", "--out", a_run, "--resume", "--learning-rate", 0.5)
    _match("recipe.learning_rate: 0.2 -> 0.5", sentence)
    sentence = refused("train", "--out", a_run, "--resume", "--family", "resnet")
    _match("family: ofa_mobilenetv3 -> resnet", sentence)
    assert contents(a_run) == before


def test_export_does_not_replace_other_files(
    refused: Refused, finished_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    sentence = refused("export", "--run", finished_run, "--arch", "largest", "--out", tmp_path)
    _match("holds other files .thesis.tex", sentence)
    assert contents(tmp_path) == {"thesis.tex": b"years"}


def test_a_search_of_the_same_name_is_kept(refused: Refused, finished_run: Path) -> None:
    before = contents(finished_run)
    sentence = refused("search", "--run", finished_run, *SEARCH, "--latency-ms", 9)
    _match("latency_ms: None -> 9.0.*--name, or --replace", sentence)
    assert contents(finished_run) == before


# -- a full disk -------------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``full_disk(n)``: after ``n`` more flushes the disk has no space left."""

    def fill(after: int = 0) -> None:
        left = [after]
        flush = os.fsync

        def fsync(handle: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flush(handle)

        monkeypatch.setattr(os, "fsync", fsync)

    return fill


def test_full_disk_while_evaluating(
    refused: Refused, a_run: Path, full_disk: Callable[[int], None]
) -> None:
    before = contents(a_run)
    full_disk(0)
    sentence = refused("evaluate", "--run", a_run, "--arch", "largest", "--split", "train")
    _match("no space left on the disk while writing .*evaluations.jsonl", sentence)
    assert contents(a_run) == before


def test_full_disk_while_exporting_keeps_the_old_export(
    command: Command, refused: Refused, a_run: Path, tmp_path: Path,
    full_disk: Callable[[int], None],
) -> None:  # fmt: skip
    out = tmp_path / "model"
    assert command("export", "--run", a_run, "--arch", "largest", "--out", out).code == 0
    before = contents(tmp_path)
    full_disk(3)
    _match("no space left", refused("export", "--run", a_run, "--arch", "largest", "--out", out))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("after", [0, 2, 5, 12])
def test_full_disk_while_training_keeps_checkpoints(
    command: Command, refused: Refused, tmp_path: Path, after: int,
    monkeypatch: pytest.MonkeyPatch, full_disk: Callable[[int], None],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    flags = ["train", "--out", run, "--steps", 4, "--batch-size", 32, "--checkpoint-every", 1]
    with monkeypatch.context():
        full_disk(after)
        _match("no space left", refused(*flags))
    monkeypatch.undo()
    assert command(*flags).code == 0, "with space again the same command goes on"
    assert not list(run.rglob(".partial-*"))


def test_full_disk_while_searching_keeps_evaluations(
    command: Command, refused: Refused, a_run: Path, monkeypatch: pytest.MonkeyPatch,
    full_disk: Callable[[int], None],
) -> None:  # fmt: skip
    flags = ["search", "--run", a_run, "--name", "new", "--seed", 3, *QUICK_SEARCH]
    old = (a_run / "evaluations.jsonl").read_bytes()
    front = (a_run / "searches/default/front.json").read_bytes()
    full_disk(15)
    _match("no space left", refused(*flags))
    monkeypatch.undo()
    kept = (a_run / "evaluations.jsonl").read_bytes()
    assert kept.startswith(old)
    assert len(kept) > len(old), "what was evaluated before the disk filled up is kept"
    assert (a_run / "searches/default/front.json").read_bytes() == front
    assert command(*flags).code == 0


# -- settings files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps = ", "not valid TOML"),
        ("stepps = 3", "unknown option 'stepps'.*did you mean 'steps'"),
        ("[trian]\nsteps = 3", r"unknown table \[trian\].*did you mean 'train'"),
        ('steps = "three"', "steps = 'three' is impossible; it must be a whole number"),
        ("steps = true", "steps = True is impossible; it must be a whole number"),
        ("resume = 1", "resume = 1 is impossible; it must be true or false"),
        ("steps = 0", "steps = 0 is impossible"),
    ],
)
def test_settings_files(refused: Refused, tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    _match(expected, refused("train", "--out", tmp_path / "run", "--config", file))
    assert not (tmp_path / "run").exists()


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _match(pattern: str, text: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


# -- files that were edited or damaged -----------------------------------------------------------


@pytest.mark.parametrize("content", ["[]", "null", '{"points": 3}'])
def test_front_that_is_no_front(refused: Refused, a_run: Path, content: str) -> None:
    (a_run / "searches" / "default" / "front.json").write_text(content)
    damaged = (
        "front.json was damaged or edited: it (is|lacks) .*; restore the file, or search again"
    )
    _match(damaged, refused("pick", "--run", a_run, "--latency-ms", 1))
    _match(
        f"no architecture 'abc'.*{damaged}", refused("evaluate", "--run", a_run, "--arch", "abc")
    )


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("searches/default/search.json", "[]", "search.json was damaged or edited"),
        ("devices/cpu/report.json", "[]", "report.json is not a report"),
    ],
)
def test_files_of_a_search_that_are_something_else(
    refused: Refused, a_run: Path, file: str, content: str, expected: str
) -> None:
    (a_run / file).write_text(content, errors="surrogateescape")
    _match(expected, refused("search", "--run", a_run, *SEARCH))


@pytest.mark.parametrize("key", ["data", "stages"])
def test_run_record_with_a_list_for_an_object(refused: Refused, a_run: Path, key: str) -> None:
    record = checksums.read_json(a_run / "run.json")
    (a_run / "run.json").write_text(json.dumps({**record, key: []}))
    _match(
        rf"{key} is \[\], but must be an object",
        refused("evaluate", "--run", a_run, "--arch", "smallest"),
    )


def test_pick_from_a_search_without_a_quality(command: Command, a_run: Path) -> None:
    flags = ("--objectives", "size,macs", "--name", "small", "--evaluations", 5)
    assert command("search", "--run", a_run, *flags).code == 0
    outcome = command("pick", "--run", a_run, "--search", "small", "--latency-ms", 1000, "--json")
    assert outcome.code == 0, outcome
    assert json.loads(outcome.out)["test"] is None
    assert command("pick", "--run", a_run, "--search", "small", "--latency-ms", 1000).code == 0


@pytest.mark.parametrize("key", ["digest", "value", "architecture", "split", "objective"])
def test_incomplete_evaluation_records_are_not_used(
    command: Command, a_run: Path, key: str
) -> None:
    path = a_run / "evaluations.jsonl"
    record = checksums.read_log(path)[0]
    assert record is not None
    path.write_text(json.dumps({k: v for k, v in record.items() if k != key}) + "\n")
    assert command("evaluate", "--run", a_run, "--arch", "smallest").code == 0


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--evaluations", 1, "evaluations = 1 is too few"),
        ("--passes", 1, "two are needed"),
        ("--networks", 1, "need 4 networks"),
        ("--seed", -1, "seed = -1 is impossible"),
    ],
)
def test_quickstart_refuses_before_it_trains(
    refused: Refused, tmp_path: Path, flag: str, value: int, expected: str
) -> None:
    _match(expected, refused("quickstart", "--out", tmp_path / "run", flag, value))
    assert not (tmp_path / "run").exists()


def test_profile_refuses_before_it_replaces(refused: Refused, finished_run: Path) -> None:
    before = contents(finished_run)
    flags = ("--run", finished_run, "--replace", "--seed", -1)
    _match("seed = -1 is impossible", refused("profile", *flags))
    assert contents(finished_run) == before

"""`supernet generate` and the exports of language models, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from app.jobs.export_files import OURS
from app.records.nested_export import NestedExportRecord
from app.records.typed_json.record_files import read_record
from app.records.vocabulary import FILE as VOCABULARY
from app.runs.directory import open_run
from app.runs.trained import open_trained
from app.runs.vocabulary import open_vocabulary
from supernet.data import open_data
from supernet.export import DECODER, export
from supernet.families import matlm
from supernet.generation.decoding import generate
from supernet.generation.language_model import TorchModel
from supernet.nested_export import SHARED_WEIGHTS
from tests.app.conftest import Command

TEXT = "the quick brown fox jumps over the lazy dog. " * 300


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that has learnt a little; never write to it."""
    from app.commands.main import run

    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_text(TEXT)
    path = folder / "run"
    arguments = [
        "train", "--out", path, "--family", "matlm", "--data", f"text:{folder / 'text.txt'}",
        "--context", 24, "--steps", 60, "--batch-size", 16, "--quiet",
    ]  # fmt: skip
    assert run([str(argument) for argument in arguments]) == 0
    return path


def ask(command: Command, run: Path, *arguments: object) -> dict[str, Any]:
    outcome = command("generate", "--run", run, *arguments, "--json")
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def test_the_text_is_that_of_the_extracted_network(command: Command, text_run: Path) -> None:
    found = ask(command, text_run, "--arch", "smallest", "--prompt", "the q", "--new-tokens", 15)
    opened = open_run(text_run)
    supernet = open_trained(opened, print).supernet
    vocabulary = open_vocabulary(opened)
    model = TorchModel(supernet.extract(supernet.space.smallest).eval())
    prompt = vocabulary.encode("the q")[None]
    assert found["text"] == vocabulary.decode(generate(model, prompt, 15)[0])
    assert (found["prompt_tokens"], found["tokens"]) == (5, 15)
    assert found["first_ms"] > 0
    assert found["token_ms"] > 0


def test_engines_drafts_and_seeds_agree(command: Command, text_run: Path) -> None:
    flags = ("--arch", "largest", "--prompt", "the ")
    alone = ask(command, text_run, *flags)
    assert alone["tokens"] == 20, "as many as the context holds"
    assert ask(command, text_run, *flags, "--engine", "onnxruntime")["text"] == alone["text"]
    drafted = ask(command, text_run, *flags, "--draft", "smallest", "--drafted", 3)
    assert drafted["text"] == alone["text"]
    assert 0 <= drafted["acceptance"] <= 1
    assert drafted["passes"] < 20 or drafted["acceptance"] == 0
    hot = (*flags, "--temperature", 2.0, "--top-p", 0.9)
    texts = [ask(command, text_run, *hot, "--seed", seed)["text"] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_what_is_shown_is_prompt_and_text(command: Command, text_run: Path) -> None:
    outcome = command(
        "generate", "--run", text_run, "--arch", "largest", "--prompt", "the ", "--new-tokens", 5
    )
    shown, line = outcome.out.strip().split("\n\n")
    assert shown.startswith("the ")
    assert "5 tokens after 4; the first after" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--prompt", "Ünd"), "the prompt has characters that the vocabulary lacks: 'Ü'"),
        (("--prompt", ""), "--prompt is empty"),
        (
            ("--new-tokens", 23),
            "a prompt of 4 and 23 to generate are more tokens than the context of",
        ),
        (("--engine", "tensorflow"), "unknown engine 'tensorflow'; engines are torch, onnxruntime"),
        (("--drafted", 2), "--drafted needs --draft"),
        (("--draft", "smallest", "--drafted", 0), "drafted = 0 must be at least 1"),
        (("--seed", 2**63), "seed = 9223372036854775808 is impossible; it must be from 0 to"),
        (("--temperature", -1), "temperature = -1 must be 0 (greedy) or above"),
        (("--draft", "nothing"), "no architecture 'nothing'"),
    ],
)
def test_bad_input(
    refused: Callable[..., str], text_run: Path, change: tuple[object, ...], message: str
) -> None:
    flags = {"--arch": "largest", "--prompt": "the ", "--new-tokens": 4}
    flags |= dict(zip(change[::2], change[1::2], strict=True))
    given = [part for pair in flags.items() for part in pair]
    assert message in refused("generate", "--run", text_run, *given)


def test_images_do_not_generate(refused: Callable[..., str], finished_run: Path) -> None:
    said = refused("generate", "--run", finished_run, "--arch", "largest", "--prompt", "a")
    assert "is a run of image-classification; generate needs a language model" in said


# -- exports -------------------------------------------------------------------------------------


def test_an_export_has_a_decoder_that_is_proven(
    command: Command, text_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.export_files._find_latency", lambda *_: None)
    out = tmp_path / "out"
    outcome = command("export", "--run", text_run, "--arch", "largest", "--out", out)
    assert outcome.code == 0, outcome.err
    assert "decoder.onnx" in outcome.out
    assert {path.name for path in out.iterdir()} == set(OURS)
    assert (out / VOCABULARY).read_bytes() == (text_run / VOCABULARY).read_bytes()
    parity = json.loads((out / "parity.json").read_text())["generation"]
    assert (parity["prompt_tokens"], parity["tokens"]) == (1, 23)
    assert parity["same_tokens"] == 1
    assert parity["max_abs_difference"] < 1e-4
    session = onnxruntime.InferenceSession(str(out / DECODER), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()][:2] == ["input_ids", "past_key_values.0.key"]


def test_several_share_one_file(command: Command, text_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "nested"
    flags = ("export", "--run", text_run, "--arch", "smallest,largest", "--out", out)
    outcome = command(*flags)
    assert outcome.code == 0, outcome.err
    record = read_record(out / "nested.json", NestedExportRecord, "")
    assert {p.name for p in out.iterdir()} == {
        *("nested.json", SHARED_WEIGHTS, "labels.json", VOCABULARY),
        *(model.file for model in record.models),
    }
    assert (out / VOCABULARY).read_bytes() == (text_run / VOCABULARY).read_bytes()
    supernet = open_trained(open_run(text_run), print).supernet
    whole = sum(path.stat().st_size for path in out.glob("*.onnx")) + record.weights_bytes
    assert whole < 1.25 * 4 * supernet.parameter_count(supernet.space.largest)
    for model, architecture in zip(
        record.models, (supernet.space.smallest, supernet.space.largest), strict=True
    ):
        assert model.architecture == architecture.digest
        session = onnxruntime.InferenceSession(
            str(out / model.file), providers=["CPUExecutionProvider"]
        )
        feeds: dict[str, Any] = {"input_ids": np.array([[1, 2, 3]])}
        for given in session.get_inputs()[1:]:
            feeds[given.name] = np.zeros((1, given.shape[1], 0, given.shape[3]), np.float32)
        found = session.run(None, feeds)[0]
        with torch.no_grad():
            expected = supernet.extract(architecture).eval()(torch.tensor([[1, 2, 3]]))
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    assert command(*flags).code == 0, "an earlier export of this kind is replaced"


def test_nested_exports_that_cannot_be_written(
    refused: Callable[..., str], text_run: Path, tmp_path: Path
) -> None:
    flags = ("export", "--run", text_run)
    twice = refused(*flags, "--arch", "largest,largest", "--out", tmp_path / "a")
    assert "is given twice" in twice
    (tmp_path / "mine.txt").write_text("mine")
    held = refused(*flags, "--arch", "smallest,largest", "--out", tmp_path)
    assert "holds other files (mine.txt)" in held
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "mine.txt").rename(tmp_path / "mine.onnx")
    (tmp_path / "nested.json").write_text("{}")
    models = refused(*flags, "--arch", "smallest,largest", "--out", tmp_path)
    assert "holds other files (mine.onnx)" in models


def test_a_deeper_draft_changes_no_token(command: Command, text_run: Path) -> None:
    flags = ("generate", "--run", text_run, "--arch", "smallest", "--prompt", "the ", "--json")
    alone = command(*flags, "--new-tokens", 9)
    drafted = command(*flags, "--new-tokens", 9, "--draft", "largest")
    assert drafted.code == 0, drafted.err
    assert json.loads(drafted.out)["text"] == json.loads(alone.out)["text"]


def test_weights_that_layers_share_are_written_once(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    data = open_data(f"text:{tmp_path / 'text.txt'}", context=16)
    supernet = matlm.build(matlm.configure("wide", data.shape)).eval()
    exported = export(supernet, supernet.space.largest, data)
    assert sum(value.size for value in exported.weights.values()) == exported.parameters
    assert "head.scores.weight" not in exported.weights
    assert "embedding.tokens.weight" in exported.weights

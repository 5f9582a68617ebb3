"""Runs on text keep their vocabulary: reopened, moved, damaged, and of earlier releases."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.runs.directory import open_run
from app.runs.trained import open_run_data
from app.runs.vocabulary import open_vocabulary
from supernet import checksums
from supernet.data.vocabulary import BytePairs, Bytes, Characters, digest_vocabulary
from supernet.errors import InputError
from tests.app.conftest import Command

pytestmark = pytest.mark.hf
pytest.importorskip("tokenizers")

DOCS = Path(__file__).parents[2] / "docs"
KINDS = ("characters", "bytes", "bpe")
SHORT = ["--steps", "2", "--batch-size", "4"]
NETWORK = ["--family", "matlm", "--preset", "tiny", "--context", "8"]
NUMBERS = {"characters": ["--vocabulary", "20"], "bytes": [], "bpe": ["--vocabulary", "300"]}
TEXT = "".join(f"line {i}: \u00e9t\u00e9 and {i * i % 97} more\n" for i in range(150))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, and a trained run for each kind of tokens."""
    from app.commands.main import run

    folder = tmp_path_factory.mktemp("vocabularies")
    (folder / "t.txt").write_text(TEXT, encoding="utf-8")
    for kind in KINDS:
        data = ["--data", f"text:{folder / 't.txt'}", "--tokens", kind, *NUMBERS[kind]]
        assert run(["train", "--out", str(folder / kind), *data, *NETWORK, *SHORT]) == 0
    return folder


@pytest.fixture
def runs(originals: Path, tmp_path: Path) -> Path:
    """A copy of the folder that a test may change; the runs name the text of the original."""
    return Path(shutil.copytree(originals, tmp_path / "runs"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit a file as somebody does who means it."""
    payload = checksums.read_json(path)
    change(payload)
    path.write_text(json.dumps(payload))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_says_what_its_tokens_are(originals: Path, kind: str) -> None:
    run = open_run(originals / kind)
    data, vocabulary = open_run_data(run), open_vocabulary(run)
    assert vocabulary == data.vocabulary
    assert vocabulary.kind == kind
    assert run.record.family_config["vocabulary"] == len(vocabulary.labels)
    assert vocabulary.labels == run.record.data.shape.labels
    assert len(vocabulary.labels) == {"characters": 20, "bytes": 256, "bpe": 300}[kind]
    shown = vocabulary.decode(data.train.inputs[0])
    assert TEXT.startswith(shown.replace("\ufffd", "")[:2])
    written = json.loads((originals / kind / "run.json").read_text())["data"]
    assert (written["context"], written["tokens"]) == (8, kind)
    assert written.get("vocabulary") == {"characters": 20, "bpe": 300}.get(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_commands_open_the_data_as_they_were(command: Command, runs: Path, kind: str) -> None:
    result = command("evaluate", "--run", runs / kind, "--arch", "smallest", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    data = open_run_data(open_run(runs / kind))
    assert found["bits_per_byte"] == data.count_bits_per_byte(found["value"], "val")
    shown = command("evaluate", "--run", runs / kind, "--arch", "smallest")
    assert f"; {found['bits_per_byte']:.3f} bits per byte)" in shown.out
    result = command("export", "--run", runs / kind, "--arch", "smallest", "--out", runs / "out")
    assert result.code == 0, result.err
    card = (runs / "out" / "card.md").read_text("utf-8")
    row = r"^\| Loss \(val split\) \| .* nats/token.*; \d\.\d{3} bits per byte \|$"
    assert re.search(row, card, flags=re.MULTILINE)
    assert ("shows each byte of UTF-8" in card) == (kind != "characters")
    # Other text, in the same tokens whatever it says.
    (runs / "other.txt").write_text(TEXT.upper(), encoding="utf-8")
    other = ("evaluate", "--run", runs / kind, "--arch", "smallest")
    result = command(*other, "--data", f"text:{runs / 'other.txt'}")
    assert result.code == 0, result.err


def test_other_text_needs_the_vocabulary_whole(refused: Callable[..., str], runs: Path) -> None:
    (runs / "other.txt").write_text(TEXT.upper(), encoding="utf-8")
    edit(runs / "bpe" / "vocabulary.json", lambda record: record.update(merges=[]))
    other = ("--arch", "smallest", "--data", f"text:{runs / 'other.txt'}")
    said = refused("evaluate", "--run", runs / "bpe", *other)
    assert "vocabulary.json was damaged or edited" in said


def test_nothing_is_learnt_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(*_: object) -> None:
        raise AssertionError("another release of what learns may learn otherwise")

    before = open_run_data(open_run(runs / "bpe"))
    monkeypatch.setattr("supernet.data.text.learn_vocabulary", learn)
    again = open_run_data(open_run(runs / "bpe"))
    assert (again.fingerprint, again.vocabulary) == (before.fingerprint, before.vocabulary)
    edit(runs / "bpe" / "vocabulary.json", lambda record: record.update(merges=[]))
    with pytest.raises(AssertionError, match="another release"):
        open_run_data(open_run(runs / "bpe"))


def test_searches_audit_and_integers_open_them(command: Command, runs: Path) -> None:
    search = ("--objectives", "loss,macs", "--strategy", "random_search", "--evaluations", 5)
    result = command("search", "--run", runs / "bpe", *search)
    assert result.code == 0, result.err
    result = command("quantize", "--run", runs / "bpe", "--precision", "fp32,int8",
                     "--out", runs / "int8")  # fmt: skip
    assert result.code == 0, result.err
    assert open_vocabulary(open_run(runs / "int8")) == open_vocabulary(open_run(runs / "bpe"))
    # Its plan needs the data; this goes no further.
    audit = ("audit", "--run", runs / "bpe", "--recipe-part", "momentum=x")
    assert command(*audit).code == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_whose_text_moved_has_the_same_tokens(
    command: Command, refused: Callable[..., str], runs: Path, kind: str
) -> None:
    edit(runs / kind / "run.json", lambda r: r["data"].update(spec="text:/gone.txt"))
    assert "there is no text file /gone.txt" in refused("evaluate", "--run", runs / kind,
                                                        "--arch", "largest")  # fmt: skip
    # Without its text, too.
    assert open_vocabulary(open_run(runs / kind)).kind == kind
    resume = ("train", "--out", runs / kind, "--resume", "--data", f"text:{runs / 't.txt'}")
    result = command(*resume)
    assert result.code == 0, result.err
    run = open_run(runs / kind)
    assert open_run_data(run).spec == f"text:{runs / 't.txt'}"
    assert open_run_data(run).vocabulary == open_vocabulary(run)


def test_other_tokens_are_another_run(refused: Callable[..., str], runs: Path) -> None:
    said = refused("train", "--out", runs / "bpe", "--resume", "--tokens", "bytes", *SHORT)
    assert "holds another run (tokens: 300 bpe -> 256 bytes" in said
    said = refused("train", "--out", runs / "bpe", "--resume", "--vocabulary", 280, *SHORT)
    assert "holds another run (tokens: 300 bpe -> 280 bpe" in said
    said = refused("train", "--out", runs / "characters", "--resume", "--tokens", "bpe")
    assert "tokens: 20 characters -> " in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "digits", "--tokens", "bpe"], "tokens bpe applies to text:PATH data"),
        (["--tokens", "word"], "unknown tokens 'word'; use characters, bytes, bpe"),
        (["--tokens", "bpe", "--vocabulary", "256"], "it must have 257 to 1,048,576"),
        (["--tokens", "bytes", "--vocabulary", "9"], "impossible for bytes, which are 256"),
    ],
)
def test_impossible_tokens_leave_nothing_behind(
    refused: Callable[..., str], originals: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    data = ["--data", f"text:{originals / 't.txt'}"]
    assert message in refused("train", "--out", tmp_path / "run", *NETWORK[:4], *data, *flags)
    assert not (tmp_path / "run").exists()


def test_a_missing_package_is_a_sentence(
    refused: Callable[..., str], originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    data = ("--data", f"text:{originals / 't.txt'}", "--tokens", "bpe")
    said = refused("train", "--out", tmp_path / "run", *NETWORK, *data, *SHORT)
    assert said.endswith("need tokenizers; install it with: pip install 'supernet[hf]'")


def make_older(record: dict[str, Any]) -> None:
    """As a release wrote it that knew characters alone."""
    for name in ("tokens", "vocabulary_digest"):
        del record["data"][name]


# -- vocabulary.json ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["characters", "bytes"])
def test_a_run_of_an_earlier_release_has_a_vocabulary(runs: Path, kind: str) -> None:
    (runs / kind / "vocabulary.json").unlink()
    found = open_vocabulary(open_run(runs / kind))
    assert isinstance(found, Characters if kind == "characters" else Bytes)
    if kind == "bytes":
        return

    edit(runs / kind / "run.json", make_older)
    run = open_run(runs / kind)
    assert open_vocabulary(run) == found
    assert open_run_data(run).vocabulary == found


def test_an_earlier_run_is_continued_as_the_same(command: Command, runs: Path) -> None:
    (runs / "characters" / "vocabulary.json").unlink()

    edit(runs / "characters" / "run.json", make_older)
    result = command("train", "--out", runs / "characters", "--resume", "--tokens", "characters")
    assert result.code == 0, result.err


def damage(path: Path, kind: str) -> None:
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "digit":
        content = path.read_text()
        place = content.index("[", content.index("merges") + 12) + 20
        found = re.compile(r"\d").search(content, place)
        assert found is not None
        digit = "1" if found[0] != "1" else "2"
        path.write_text(content[: found.start()] + digit + content[found.end() :])
    elif kind == "gone":
        path.unlink()
    elif kind == "type":
        edit(path, lambda v: v.update(merges=["th"]))
    elif kind == "kind":
        edit(path, lambda v: v.update(kind="words"))
    elif kind == "other":
        path.write_text('{"format": 1, "kind": "bytes"}')
    else:
        path.write_bytes(b"\x80\x04\x95 pickled")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "is not valid JSON"),
        ("digit", "its content does not match its checksum"),
        ("gone", "is missing"),
        ("type", "was damaged or edited: merges[0] is"),
        ("kind", "was damaged or edited: a vocabulary is an object whose kind is"),
        ("other", "is not the vocabulary that"),
        ("pickle", "is not valid JSON"),
    ],
)
def test_a_damaged_vocabulary_is_a_sentence_and_is_written_again(
    command: Command, runs: Path, kind: str, message: str
) -> None:
    path = runs / "bpe" / "vocabulary.json"
    before = path.read_bytes()
    damage(path, kind)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        open_vocabulary(open_run(runs / "bpe"))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("the command that trained the run writes it again")
    if kind in ("digit", "gone"):
        result = command("train", "--out", runs / "bpe", "--resume")
        assert result.code == 0, result.err
        assert path.read_bytes() == before


def test_a_command_that_needs_a_damaged_vocabulary_ends_with_the_sentence(
    refused: Callable[..., str], runs: Path
) -> None:
    damage(runs / "bpe" / "vocabulary.json", "digit")
    quantize = ("quantize", "--run", runs / "bpe", "--precision", "fp32,int8", "--out", runs / "q")
    assert "does not match its checksum" in refused(*quantize)


def test_the_same_tokens_from_other_pairs_are_another_vocabulary(runs: Path) -> None:
    """Labels cannot tell them apart: only the digest does."""
    a, b, c = b"abc"
    ours = BytePairs(((a, b), (b, c), (256, c)))
    other = BytePairs(((a, b), (b, c), (a, 257)))
    assert ours.labels == other.labels
    facts = {"vocabulary_digest": digest_vocabulary(ours)}

    def take_ours(record: dict[str, dict[str, Any]]) -> None:
        record["data"].update(facts)
        record["data"]["shape"].update(labels=list(ours.labels), classes=len(ours.labels))

    edit(runs / "bpe" / "run.json", take_ours)
    path = runs / "bpe" / "vocabulary.json"
    path.write_text(json.dumps({"format": 1, **ours.to_json()}))
    assert open_vocabulary(open_run(runs / "bpe")) == ours
    path.write_text(json.dumps({"format": 1, **other.to_json()}))
    with pytest.raises(InputError, match="is not the vocabulary that"):
        open_vocabulary(open_run(runs / "bpe"))


def test_nothing_is_written_where_a_link_leads(refused: Callable[..., str], runs: Path) -> None:
    path = runs / "bpe" / "vocabulary.json"
    elsewhere = path.replace(runs / "elsewhere.json")
    path.symlink_to(elsewhere)
    assert "is a link to" in refused("evaluate", "--run", runs / "bpe", "--arch", "largest")


def test_images_have_no_vocabulary(runs: Path) -> None:
    task = "image-classification"
    edit(runs / "bpe" / "run.json", lambda record: record["data"]["shape"].update(task=task))
    with pytest.raises(InputError, match=f"is a run for {task}, which has no vocabulary"):
        open_vocabulary(open_run(runs / "bpe"))


# -- documentation -----------------------------------------------------------------------------


def test_the_documented_commands_train(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = (DOCS / "data.md").read_text("utf-8").split("\n## Tokens of a text\n")[1]
    blocks = re.findall(
        r"^```(\w*)\n(.*?)^```", section.split("\n## ")[0], re.DOTALL | re.MULTILINE
    )
    lines = [line for kind, block in blocks if not kind for line in block.splitlines()]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(TEXT * 4, encoding="utf-8")
    found = []
    for line in lines:
        result = command(*shlex.split(line)[1:], *SHORT)
        assert result.code == 0, result.err
        found.append(open_vocabulary(open_run(Path(line.split("--out ")[1]))).kind)
    assert found == ["bytes", "bpe"]
    (script,) = [block for kind, block in blocks if kind == "python"]
    names: dict[str, object] = {}
    exec(script, names)
    assert names["text"] == "line 7"

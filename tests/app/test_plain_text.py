"""What is echoed of names and values that others wrote: one bounded line that only shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.commands import errors
from app.commands.describe import describe_family
from app.commands.plain_text import MOST_IN_LINE, MOST_IN_WORD, write_line, write_lines
from app.commands.terminal import say, show
from app.jobs.train import TrainRequest, train_job
from supernet.errors import InputError
from tests.app.conftest import Command

HOSTILE = "a\x1b[31mred\x07\x9b2J\u202eevil\udcff\0b"


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    shown = r"a\x1b[31mred\x07\x9b2J\u202eevil\udcff\x00b"
    assert write_line(HOSTILE) == shown
    assert write_lines(f"{HOSTILE}\n  two") == f"{shown}\n  two"
    assert write_line("one\ntwo\r\n\u2028three") == "one two three"
    assert write_lines("one\rtwo\u2028") == r"one\rtwo\u2028"
    assert write_line("naïve 画像 \N{MINUS SIGN}1") == "naïve 画像 \N{MINUS SIGN}1"


def test_a_long_word_and_a_long_line_lose_their_middles() -> None:
    word = "x" * 4_000 + "y" * 1_000
    line = write_line(f"unknown name {word} ; choose another")
    assert line.startswith("unknown name xxxx")
    assert line.endswith("yyyy ; choose another")
    assert "[... 5,000 characters ...]" in line
    assert len(line) == len("unknown name  ; choose another") + MOST_IN_WORD
    line = write_line(f"the list {[1] * 4_000} is wrong; give a number")
    assert len(line) == MOST_IN_LINE
    assert line.startswith("the list [1, 1, 1")
    assert line.endswith("1, 1] is wrong; give a number")
    assert write_line("x" * MOST_IN_WORD) == "x" * MOST_IN_WORD


def test_passwords_of_urls_are_hidden() -> None:
    for password in ("pw", "p:w", "p/w", "p@w", "p%40w", "p#w?"):
        assert write_line(f"got {f'mysql://u:{password}@h/db'!r}") == "got 'mysql://u:***@h/db'"
    assert write_line("see https://host:80/a and a@b") == "see https://host:80/a and a@b"


def test_every_way_to_the_terminal_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"warning: {HOSTILE * 100}")
    show({"name": HOSTILE}, f"device {HOSTILE}", False)
    errors.report(InputError(f"device {HOSTILE}\n{'z' * 5_000}"))
    said = capsys.readouterr()
    for line in (*said.out.splitlines(), *said.err.splitlines()):
        assert line.isprintable()
        assert len(line) <= MOST_IN_LINE + len("error: ")
    assert len(said.err.splitlines()) == 2
    show({"name": HOSTILE}, "", True)
    assert json.loads(capsys.readouterr().out) == {"name": HOSTILE}


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "--arch", "A"),
        ("search", "--name", "A"),
        ("search", "--name", "b", "--strategy", "A"),
        ("search", "--name", "b", "--limit", "A"),
        ("search", "--name", "b", "--storage", "A"),
        ("search", "A"),
        ("A",),
        ("search", "--A"),
        ("search", "--evaluations", "A"),
        ("profile", "--device", "A"),
        ("pick", "--search", "A"),
    ],
)
def test_a_sentence_has_a_bounded_length_whatever_was_typed(
    refused: Callable[..., str], finished_run: Path, arguments: tuple[str, ...]
) -> None:
    long = [word.replace("A", "\x1b[2J" + "x" * 5_000) for word in arguments]
    run = () if arguments == ("A",) else ("--run", finished_run)
    sentence = refused(*long, *run)
    assert len(sentence) <= MOST_IN_LINE
    assert sentence.isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--out", "OUT", "--preset", ""),
        ("train", "--out", "OUT", "--preset="),
        ("train", "--out", "OUT", "--preset", "  "),
        ("train", "--out", "OUT", "--data", ""),
        ("train", "--out", "OUT", "--recipe", ""),
        ("train", "--out", ""),
        ("describe", "resnet", "--preset", ""),
        ("profile", "--run", "RUN", "--backend", ""),
        ("search", "--run", "RUN", "--name", "b", "--device", ""),
        ("search", "--run", "RUN", "--name", "b", "--objectives", ""),
        ("search", "--run", "RUN", "--name", "b", "--proxies", ""),
        ("search", "--run", "RUN", "--name", "b", "--prior", ""),
        ("search", "--run", "RUN", "--name", "b", "--limit", ""),
        ("search", "--run", "RUN", "--name", "b", "--storage", ""),
        ("pick", "--run", "RUN", "--weights", ""),
        ("audit", "--run", "RUN", "--recipe-part", ""),
        ("report", "--run", "RUN", "--out", ""),
        ("export", "--run", "RUN", "--arch", "largest", "--out", ""),
        ("explore", ""),
    ],
)
def test_an_empty_value_is_no_default(
    refused: Callable[..., str],
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"RUN": finished_run, "OUT": tmp_path / "run"}
    sentence = refused(*(places.get(word, word) for word in arguments))
    last = next((word for word in reversed(arguments) if word.startswith("--")), "an argument")
    assert sentence == f"{last.rstrip('=')} is empty; give it a value, or leave it out"
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_an_empty_value_in_a_file_is_no_default(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    file, out = tmp_path / "a.toml", tmp_path / "run"
    for line, said in (
        ('preset = ""', "preset is empty"),
        ('recipe = " "', "recipe is empty"),
        ('trust = ["my.family", ""]', "trust is empty"),
        ('data = "folder:\\u0000"', "data = 'folder:\\x00' is impossible"),
    ):
        file.write_text(line + "\n")
        assert said in refused("train", "--out", out, "--config", file)
    assert not out.exists()


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("preset", "unknown preset ''"),
        ("data", "data '' lacks its kind"),
        ("recipe", "unknown recipe ''"),
        ("family", "unknown family ''"),
    ],
)
def test_an_empty_value_is_no_default_for_a_caller_either(
    tmp_path: Path, field: str, said: str
) -> None:
    request = TrainRequest(out=tmp_path / "run", **{field: ""})
    with pytest.raises(InputError, match=said):
        train_job(request, lambda line: None)
    if field == "preset":
        with pytest.raises(InputError, match=said):
            describe_family("resnet", "")


@pytest.mark.parametrize("odd", ["\0", "\ud800"])
def test_what_no_name_can_hold_is_refused(
    refused: Callable[..., str], tmp_path: Path, odd: str
) -> None:
    said = refused("train", "--out", f"{tmp_path}/a{odd}b")
    assert "must not hold NUL or half of a character" in said


def test_an_empty_part_of_the_command_line_is_not_mistaken(
    command: Command, finished_run: Path
) -> None:
    """A value with an equals sign, and one that begins with a dash, are values."""
    for limit in (["--limit", "latency<=100"], ["--limit=latency<=100"]):
        outcome = command("pick", "--run", finished_run, *limit)
        assert outcome.code == 0, outcome.err

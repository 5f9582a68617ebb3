"""Commands that are offered for copying: a shell reads the words that were meant."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.runs.command_lines import (
    export_command,
    pick_command,
    profile_command,
    resume_command,
    search_command,
    write_command,
)
from tests.app.conftest import SEARCH, Command

HOSTILE = ("my run", "x; touch y #", "$(touch y)", "`touch y`", "it's", 'a"b', "a\nb", "~", "*", "")


@pytest.mark.parametrize("word", HOSTILE)
def test_a_shell_reads_every_word_as_it_was(word: str, tmp_path: Path) -> None:
    commands = {
        write_command("explore", word): ["explore", word],
        pick_command(Path(word), word, 0.25): [
            *("pick", "--run", str(Path(word)), "--search", word, "--latency-ms", "0.25")
        ],
        export_command(Path("r"), word, word): [
            *("export", "--run", "r", "--arch", word, "--out", word)
        ],
        profile_command(Path("r"), word): ["profile", "--run", "r", "--device", word],
        resume_command(Path("r"), word, word): [
            *("train", "--family", word, "--data", word, "--out", "r", "--resume")
        ],
        search_command(Path("r"), word, "loss", trust=[word, "a.b", word]): [
            *("search", "--run", "r", "--device", word, "--objectives", "loss,latency"),
            *("--trust", word, "--trust", "a.b"),
        ],
    }
    for command, words in commands.items():
        # What a shell makes of it, with a function in the place of the product.
        script = f"supernet() {{ printf '%s\\0' \"$@\"; }}\n{command}"
        shell = ["sh", "-c", script]
        said = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert said.stdout.split("\0")[:-1] == words, command
        assert shlex.split(command) == ["supernet", *words]
    assert not list(tmp_path.iterdir()), "a word ran as a command"


def test_plain_words_stay_as_they_are() -> None:
    assert pick_command(Path("runs/a"), "default", 0.25) == (
        "supernet pick --run runs/a --latency-ms 0.25"
    )
    assert resume_command(Path("runs/a")) == "supernet train --out runs/a --resume"


def test_what_is_offered_leads_from_training_to_an_export(
    command: Command, a_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with a blank and a quotation mark, of a family that has to be trusted."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    Path("offered").mkdir()
    Path("offered/family.py").write_text("from supernet.families.ofa_mobilenetv3 import *\n")
    run = a_run.rename(tmp_path / "it's my run")
    record = json.loads((run / "run.json").read_text())
    record["family"] = "offered.family"
    del record["checksum"]
    (run / "run.json").write_text(json.dumps(record))
    words = ["train", "--out", str(run), "--resume", "--trust", "offered.family"]
    followed = []
    while words:
        followed.append(words[0])
        length = SEARCH if words[0] == "search" else []
        result = command(*words, *length)
        assert result.code == 0, result.err
        offered = [line for line in result.out.splitlines() if line.startswith("Next: ")]
        words = shlex.split(offered[0].removeprefix("Next: supernet ")) if offered else []
        words = [{"X": "1000", "DIR": str(tmp_path / "model")}.get(word, word) for word in words]
        assert ("--trust" in words) == ("will run as a program: only if" in result.out)
    assert followed == ["train", "profile", "search", "pick", "export"]
    assert (tmp_path / "model/model.onnx").is_file()


def test_errors_offer_commands_that_can_be_pasted(
    refused: Callable[..., str], a_run: Path, tmp_path: Path
) -> None:
    run = a_run.rename(tmp_path / "my run")
    quoted = f"'{run}'"
    said = refused("search", "--run", run, "--device", "my phone", "--name", "other")
    assert said.endswith(f"run: supernet profile --run {quoted} --device 'my phone'")
    said = refused("pick", "--run", run, "--search", "x", "--knee")
    assert said.endswith(f"run: supernet search --run {quoted}")
    (run / "searches").rename(tmp_path / "gone")
    assert refused("report", "--run", run).endswith(f"run: supernet search --run {quoted}")
    record = json.loads((run / "run.json").read_text())
    record["stages"]["train"]["status"] = "running"
    del record["checksum"]
    (run / "run.json").write_text(json.dumps(record))
    said = refused("search", "--run", run)
    assert said.endswith(f"run: supernet train --out {quoted} --resume")

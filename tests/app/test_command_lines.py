"""Commands that are offered for copying: a shell reads the words that were meant."""

from __future__ import annotations

import shlex
import subprocess
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

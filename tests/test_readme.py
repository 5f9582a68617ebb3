"""The README's commands exist, with the flags it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def commands() -> list[list[str]]:
    """Every ``supernet ...`` line of the README's code blocks, as words."""
    if not README.exists():
        return []
    blocks = re.findall(r"```(?:bash|sh|shell|console)?\n(.*?)```", README.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = (line.strip().removeprefix("$ ") for line in lines)
    return [shlex.split(line, comments=True) for line in found if line.startswith("supernet ")]


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words))
def test_command_exists_with_its_flags(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from app.cli import run

    name = next(word for word in words[1:] if not word.startswith("-"))
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for word in words[1:]:
        if word.startswith("--"):
            assert word.split("=")[0] in shown, f"{name} has no {word}"

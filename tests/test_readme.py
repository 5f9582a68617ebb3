"""The README's commands exist, with the flags it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def commands() -> list[list[str]]:
    """Every ``supernet COMMAND ...`` in the README's code, as words; a path in front is dropped."""
    if not README.exists():
        return []
    text = README.read_text(encoding="utf-8").replace("\\\n", " ")
    code = re.findall(r"```[a-z]*\n(.*?)```|`([^`\n]+)`", text, re.DOTALL)
    found = []
    for line in "\n".join(block or inline for block, inline in code).splitlines():
        for part in re.split(r"&&|\|\||[;|]", line):
            match = re.match(r"\s*(?:\S*/)?supernet ([a-z].*)", part)
            if match:
                found.append(shlex.split(match[1], comments=True))
    return [words for words in found if words and not words[0].startswith("-")]


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words))
def test_command_exists_with_its_flags(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from app.commands.main import run

    name = words[0]
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for word in words[1:]:
        if word.startswith("--"):
            assert word.split("=")[0] in shown, f"{name} has no {word}"

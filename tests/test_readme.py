"""The commands in the README and the other documents exist, with the flags they show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
_PROGRAM = re.compile(r"\s*(?:\w+=\S* )*(?:.* -m )?(?:\S*/)?supernet ([a-z].*)")


def read_code(path: Path) -> list[str]:
    """Lines of code blocks, and inline code as one line each."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    fence = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
    lines = [line for block in fence.findall(text) for line in block.splitlines()]
    return lines + [
        " ".join(code.split()) for code in re.findall(r"`([^`]+)`", fence.sub("", text))
    ]


def list_commands() -> list[list[str]]:
    """Every ``supernet COMMAND ...`` of the documents as words, each once."""
    found: dict[str, list[str]] = {}
    for line in (line for path in DOCUMENTS for line in read_code(path)):
        for part in re.split(r"&&|\|\||[;|](?!=)", line):
            match = _PROGRAM.match(part)
            if match:
                found.setdefault(match[1], shlex.split(match[1], comments=True))
    return list(found.values())


COMMANDS = list_commands()


def test_every_document_that_shows_commands_was_read() -> None:
    shown = {words[0] for words in COMMANDS}
    assert {"quickstart", "train", "profile", "search", "pick", "export", "audit"} <= shown
    assert any("my_package.hill_climbing" in words for words in COMMANDS), "docs/extending.md"
    assert any("fairnas" in words for words in COMMANDS), "docs/recipes.md"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_exists_with_its_flags(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from app.commands.main import run

    name = words[0]
    assert run([name, "--help"]) == 0
    shown = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", capsys.readouterr().out))
    asked = {word.split("=")[0] for word in words[1:] if word.startswith("--")}
    assert asked <= shown, f"{name} has no {', '.join(sorted(asked - shown))}"


def test_options_that_are_named_alone_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Of some command, or of the benchmark that the sentence is about."""
    from app.commands.main import run

    for name in {words[0] for words in COMMANDS} | {"import"}:
        assert run([name, "--help"]) == 0
    known = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", capsys.readouterr().out))
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"(--[a-z][\w-]*)"', script.read_text(encoding="utf-8")))
    named = {
        (path.name, option)
        for path in DOCUMENTS
        for code in read_code(path)
        if code.startswith("--")
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
    }
    assert len(named) > 15
    assert {(document, option) for document, option in named if option not in known} == set()

"""`supernet doctor` compares the versions that are installed with those that are declared."""

from __future__ import annotations

import json
from email.message import Message
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from app.commands import requirements
from app.commands.requirements import explain_misfit, read_declared
from tests.app.conftest import Command


def install(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Pretend that packages have these versions; ``None`` for one that is missing."""
    real = requirements.version

    def find(name: str) -> str:
        found = versions.get(name, "")
        if found is None:
            raise PackageNotFoundError(name)
        return found or real(name)

    monkeypatch.setattr(requirements, "version", find)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("2.5.1", "torch 2.5.1 is too old; run: pip install 'torch<2.14,>=2.6'"),
        ("2.14.0", "torch 2.14.0 is too new; run: pip install 'torch<2.14,>=2.6'"),
        (None, "torch is not installed; run: pip install 'torch<2.14,>=2.6'"),
        ("2.6.0", None),
        ("2.13.0+cpu", None),
        ("2.13.1.dev1", None),
        ("no version", None),
    ],
)
def test_a_version_is_compared_with_its_bounds(
    monkeypatch: pytest.MonkeyPatch, found: str | None, said: str | None
) -> None:
    install(monkeypatch, torch=found)
    assert explain_misfit(Requirement("torch>=2.6,<2.14")) == said


def test_the_doctor_names_what_is_too_old_or_missing(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, typer="0.1.0", pymoo=None, transformers="4.0", cmaes=None)
    outcome = command("doctor", "--json")
    health = json.loads(outcome.out)
    assert outcome.code == 1
    problems = " ".join(health["problems"])
    assert "typer 0.1.0 is too old; run: pip install 'typer>=" in problems
    assert "pymoo is not installed; run: pip install 'pymoo>=" in problems
    assert health["packages"]["pymoo"] is None
    assert health["packages"]["typer"] == "0.1.0"
    # What is optional is no problem of the installation.
    assert "transformers" not in problems
    assert "transformers 4.0 is too old" in health["extras"]["hf"]
    assert "cmaes is not installed" in health["extras"]["evolution"]
    assert "typer 0.1.0 is too old" in command("doctor").out


def test_the_doctor_speaks_where_torch_is_missing(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, torch=None)
    monkeypatch.setattr("app.commands.doctor._import", lambda name: None)
    outcome = command("doctor")
    assert outcome.code == 1
    assert "torch is not installed" in outcome.out


def test_an_installation_is_read_as_its_checkout_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkout = read_declared()
    names = {part.name for part in checkout.needed}
    assert {"torch", "typer", "streamlit"} <= names
    assert "pytest" not in names
    assert {part.name for part in checkout.extras["evolution"]} == {"numba", "cmaes"}
    assert "dev" not in checkout.extras
    # The same as a built package says it.
    lines = [str(part) for part in checkout.needed]
    lines += ['tomli>=2; python_version < "3.0"', 'pytest>=8; extra == "dev"']
    about = Message()
    for extra, parts in checkout.extras.items():
        about["Provides-Extra"] = extra
        lines += [f'{part}; extra == "{extra}"' for part in parts]
    about["Provides-Extra"] = "dev"
    monkeypatch.setattr(requirements, "_PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(requirements, "requires", lambda name: lines)
    monkeypatch.setattr(requirements, "metadata", lambda name: about)
    installed = read_declared()
    assert [str(part) for part in installed.needed] == [str(part) for part in checkout.needed]
    assert {extra: [part.name for part in parts] for extra, parts in installed.extras.items()} == {
        extra: [part.name for part in parts] for extra, parts in checkout.extras.items()
    }

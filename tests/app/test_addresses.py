"""Passwords of databases and clusters stay out of everything that is shown or stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.runs.addresses import hide_secrets, show_address, show_storage
from tests.app.conftest import Command, contents

SECRET = "hunter2"
STORAGES = [
    f"postgresql://user:{SECRET}@127.0.0.1:1/db",
    f"postgresql://:{SECRET}@127.0.0.1:1/db",
    f"postgresql+psycopg2://user:{SECRET}@127.0.0.1:1/db?sslmode=require",
    f"postgresql://127.0.0.1:1/db?user=u&password={SECRET}",
    f"postgresql://user:pass@{SECRET}@127.0.0.1:1/db",
    f"postgresql://user:pass@word:{SECRET}/x@127.0.0.1:1/db",
    f"postgresql:///user:{SECRET}@127.0.0.1:1/db",
    f"postgresql://us/er:{SECRET}@127.0.0.1:1/db",
    f"mysql://user:pass/{SECRET}@127.0.0.1:1/db",
    f"mysql://user:p%40{SECRET}@127.0.0.1:1/db",
    f"mysql://user:{SECRET}@127.0.0.1:port/db",
    f"mysql:/user:{SECRET}@127.0.0.1/db",
    f"user:{SECRET}@127.0.0.1",
    f"nonsense://user:{SECRET}@127.0.0.1/db",
    f"redis://:{SECRET}@127.0.0.1:1/0",
    f"sqlite://user:{SECRET}@127.0.0.1/db",
]


@pytest.mark.parametrize("url", STORAGES)
def test_no_storage_shows_its_password(url: str) -> None:
    try:
        shown = show_storage(url)
    except ValueError as error:
        shown = str(error)
    assert SECRET not in shown
    assert "pass" not in shown.replace("in a password", "")


@pytest.mark.parametrize("url", [STORAGES[0], STORAGES[5], STORAGES[10], STORAGES[14]])
def test_no_search_shows_or_stores_a_password(command: Command, a_run: Path, url: str) -> None:
    outcome = command("search", "--run", a_run, "--name", "b", "--storage", url, "--json")
    assert outcome.code == 2
    assert "the Optuna storage" in outcome.error
    assert SECRET not in outcome.out + outcome.err
    written = contents(a_run)
    assert not [name for name, content in written.items() if SECRET.encode() in content]


def test_what_can_be_shown_of_a_storage_is() -> None:
    assert show_storage("sqlite:///studies.db") == "sqlite:///studies.db"
    shown = show_storage(f"postgresql://user:{SECRET}@host:5432/db?password={SECRET}")
    assert shown == "postgresql://user:***@host:5432/db"


def test_a_reason_that_repeats_a_password_is_not_shown() -> None:
    url = "mysql://user:p%40ss@host/db?token=abcd"
    for reason in ("cannot parse mysql://user:p%40ss@host/db", "no user p@ss", "abcd is no token"):
        assert hide_secrets(reason, url) == "the reason repeats the password"
    assert hide_secrets("no host 'host'", url) == "no host 'host'"
    assert hide_secrets("no file a.db", "sqlite:///a.db") == "no file a.db"


@pytest.mark.parametrize(
    "address", [f"user:{SECRET}@127.0.0.1:1", f"{SECRET}@127.0.0.1:1", f"u:p@{SECRET}@127.0.0.1:1"]
)
def test_no_cluster_shows_its_password(
    refused: Callable[..., str], a_run: Path, address: str
) -> None:
    sentence = refused("search", "--run", a_run, "--name", "b", "--ray", address)
    assert "there is no Ray cluster at '***@127.0.0.1:1'" in sentence
    assert SECRET not in sentence


def test_what_can_be_shown_of_an_address_is() -> None:
    assert show_address("127.0.0.1:6379") == "127.0.0.1:6379"
    assert show_address("auto") == "auto"
    assert show_address(f"ray://user:{SECRET}@host:10001") == "ray://***@host:10001"


def test_a_password_typed_in_the_wrong_place_is_hidden(refused: Callable[..., str]) -> None:
    url = f"mysql://user:{SECRET}@host/db"
    for arguments in (("search", url), ("search", "--evaluations", url), (url,), (f"--x={url}",)):
        assert SECRET not in refused(*arguments)

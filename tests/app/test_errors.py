"""Which exceptions are the user's to put right, and which are bugs whose trace must be seen."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from app.commands import errors, main
from app.jobs.failures import SaidElsewhereError
from supernet.errors import DivergedError, InputError, MissingPackageError

ROOT = Path(__file__).parents[2]
OURS = sorted(
    path
    for package in errors.OUR_PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "testing" not in path.parts
)


def _raise_in(module: str, statement: str, file: str = "own.py") -> BaseException:
    names = {"__name__": module}
    with pytest.raises(ValueError) as caught:
        exec(compile(statement, file, "exec"), names)
    return caught.value


@pytest.mark.parametrize("kind", [InputError, MissingPackageError, DivergedError])
def test_what_the_user_can_put_right_is_one_sentence_and_exit_code_2(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.report(kind("what was wrong")) == errors.BAD_INPUT
    assert capsys.readouterr().err == "error: what was wrong\n"


@pytest.mark.parametrize(("bad_input", "code"), [(True, 2), (False, 1)])
def test_what_another_process_says_is_not_said_again(
    bad_input: bool, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.report(SaidElsewhereError(bad_input=bad_input)) == code
    assert capsys.readouterr().err == ""


def _ask_for_too_much(how: Callable[[], object]) -> BaseException:
    with pytest.raises((MemoryError, RuntimeError, OSError)) as caught:
        how()
    return caught.value


def _fail_to_map() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize(
    ("how", "amount"),
    [
        (lambda: bytearray(1 << 60), ""),
        (lambda: np.empty(1 << 50, dtype=np.uint8), " for another 1.00 PiB"),
        (lambda: torch.empty(1 << 50, dtype=torch.uint8), " for another 1125899906842624 bytes"),
        (_fail_to_map, ""),
    ],
)
def test_an_allocation_that_fails_is_one_sentence(
    how: Callable[[], object], amount: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.report(_ask_for_too_much(how)) == errors.BAD_INPUT
    assert capsys.readouterr().err == (
        f"error: not enough memory{amount}; use smaller batches or images, fewer workers, or a "
        "machine with more\n"
    )


@pytest.mark.parametrize("statement", ["int(float('nan'))", "[].index(3)", "a, b = 1, 2, 3"])
def test_a_mistake_of_ours_is_no_bad_input(
    statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _raise_in("app.jobs.search", statement)
    assert errors.report(error) == errors.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_a_value_error_of_an_own_module_is_its_own_sentence() -> None:
    error = _raise_in("gizmo", "raise ValueError('the gizmo has no wheels')")
    assert errors.exit_code(error) == errors.BAD_INPUT


def test_we_raise_no_plain_value_error() -> None:
    plain = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in OURS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("ValueError", "ModuleNotFoundError", "FloatingPointError")
    ]
    assert len(OURS) > 300
    assert plain == []


@pytest.mark.parametrize(
    ("command", "said"), [("train", "continues where it stopped"), ("generate", "begins anew")]
)
def test_an_interrupted_command_says_what_it_does_the_next_time(
    command: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "_build_command", lambda: interrupt)
    assert main.run([command]) == errors.INTERRUPTED
    assert capsys.readouterr().err == f"\ninterrupted; the same command {said}\n"

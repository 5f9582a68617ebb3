"""No damage to any file of a run ends in a trace, a wait, a wrong answer or lost work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.damage.commands import make_run
from tests.damage.harness import Harness, list_cases

# How many cases, and which: SUPERNET_DAMAGE_CASES=400 SUPERNET_DAMAGE_SEED=7 pytest -m slow ...
CASES = int(os.environ.get("SUPERNET_DAMAGE_CASES", "2500"))
SEED = int(os.environ.get("SUPERNET_DAMAGE_SEED", "0"))
FEW = 40


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; never write to it."""
    run = tmp_path_factory.mktemp("damage") / "whole"
    make_run(run)
    return run


def try_some(whole: Path, folder: Path, number: int) -> None:
    result = Harness(whole, folder).try_all(list_cases(whole, number, SEED))
    print(result.write_table())
    shown = "\n\n".join(f"{kind}: {case}\n{detail}" for kind, case, detail in result.faults[:20])
    assert not result.faults, f"{result.write_table()}\n\n{shown}"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_no_damage_does_harm(whole: Path, tmp_path: Path) -> None:
    try_some(whole, tmp_path, CASES)


@pytest.mark.filterwarnings("default")
def test_a_sample_of_damage_does_no_harm(whole: Path, tmp_path: Path) -> None:
    try_some(whole, tmp_path, FEW)

"""The whole path by one command, twice: nothing is done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.app.conftest import Command, contents


def test_quickstart_does_everything_once(command: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["quickstart", "--out", run, "--steps", 10, "--evaluations", 30, "--passes", 2,
             "--networks", 4]  # fmt: skip
    first = command(*flags, "--json")
    assert first.code == 0, first.err
    result = json.loads(first.out)
    assert result["pick"]["latency_ms"] <= result["budget_ms"]
    assert result["pick"]["digest"] == result["export"]["digest"]
    assert result["ends"]["smallest"]["parameters"] < result["ends"]["largest"]["parameters"]
    assert (run / "exports" / result["pick"]["digest"] / "card.md").exists()
    before = contents(run)
    second = command(*flags)
    assert second.code == 0, second.err
    assert f"Next: supernet explore {run}" in second.out
    after = contents(run)
    # Exporting writes its proof again; everything that costs time is as it was.
    unchanged = {name for name in before if not name.startswith(("exports", "metrics"))}
    assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}


def test_too_few_evaluations_are_refused_before_anything_is_trained(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    said = refused("quickstart", "--out", tmp_path / "run", "--evaluations", 29)
    assert "fewer than the 30 of the first sample of predictor_guided" in said
    assert not (tmp_path / "run").exists()

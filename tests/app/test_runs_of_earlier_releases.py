"""Runs that an earlier release has written: opened, continued, or refused with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.conftest import Command, contents

Refused = Callable[..., str]
FLAGS = ("--steps", 2, "--batch-size", 16)


def _rewrite(run: Path, **changes: object) -> None:
    path = run / "run.json"
    record = json.loads(path.read_text())
    del record["checksum"]
    record["family_config"].update(changes)
    path.write_text(json.dumps(record))


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    assert command("train", "--out", out, "--preset", "tiny", *FLAGS).code == 0
    return out


def test_a_float_run_that_names_bits_of_weights_is_the_same_run(
    run: Path, command: Command
) -> None:
    _rewrite(run, weight_bits=[])
    before = contents(run)
    done = command("train", "--out", run, "--preset", "tiny", *FLAGS)
    assert done.code == 0, done.err
    assert contents(run) == before, "there is nothing to do"
    assert command("train", "--out", run, "--resume").code == 0
    assert command("evaluate", "--run", run, "--arch", "smallest").code == 0


def test_no_other_setting_may_be_left_out(run: Path, refused: Refused) -> None:
    _rewrite(run, another=[])
    sentence = refused("train", "--out", run, "--preset", "tiny", *FLAGS)
    assert "family_config.another: [] -> None" in sentence


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "--run", "RUN", "--arch", "smallest"),
        ("profile", "--run", "RUN"),
        ("profile", "--run", "RUN", "--precision", "int8"),
        ("search", "--run", "RUN"),
        ("export", "--run", "RUN", "--arch", "smallest"),
        ("audit", "--run", "RUN"),
        ("quantize", "--run", "RUN", "--precision", "int8", "--out", "OTHER"),
        ("train", "--from", "RUN", "--out", "OTHER"),
        ("train", "--resume", "--out", "RUN"),
    ],
)
def test_weights_at_bits_of_their_own_are_refused_with_what_to_do(
    arguments: tuple[str, ...], run: Path, tmp_path: Path, refused: Refused
) -> None:
    _rewrite(run, weight_bits=[4, 8, 32])
    # As after an evaluation, which such runs mostly have behind them.
    (run / "evaluations.jsonl").touch()
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "preset": "tiny-bits"}))
    places = {"RUN": run, "OTHER": tmp_path / "other"}
    before = contents(run)
    sentence = refused(*(places.get(argument, argument) for argument in arguments))
    assert sentence == (
        f"{run} is a run of an earlier release: bits of weights are number formats now "
        "(weight_bits = [4, 8, 32] was a setting of the network); train it again with --preset "
        "tiny --precision w4a32,w8a32,fp32"
    )
    assert contents(run) == before
    assert not (tmp_path / "other").exists()


def test_what_was_found_is_reported_without_a_baseline(
    run: Path, command: Command, refused: Refused
) -> None:
    search = ("--strategy", "random_search", "--evaluations", 5, "--objectives", "accuracy,size")
    found = command("search", "--run", run, *search)
    assert found.code == 0, found.err
    _rewrite(run, weight_bits=[4, 8, 32])
    sentence = refused("report", "--run", run)
    assert "is a run of an earlier release" in sentence
    assert sentence.endswith("; or report with --no-baseline")
    assert command("report", "--run", run, "--no-baseline").code == 0

"""A training that diverged says what helps, and its run does not stand in the way of that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from app.jobs.train import TrainRequest, train_job
from supernet.errors import DivergedError, InputError

STEPS = 30


def _request(out: Path, rate: float, **changes: object) -> TrainRequest:
    fields: dict[str, object] = {
        "family": "ofa_mobilenetv3",
        "preset": "tiny",
        "batch_size": 16,
        "checkpoint_every": 10,
        "steps": STEPS,
    }
    return TrainRequest(out=out, learning_rate=rate, **{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def diverged(tmp_path: Path) -> Path:
    """A run whose loss is not a number any more."""
    with pytest.raises(DivergedError, match=r"^the loss is (nan|inf) at step \d+; ") as caught:
        train_job(_request(tmp_path / "run", 1e9), lambda _: None)
    flag = re.search(r"give the command --learning-rate (\S+) instead of 1e\+09", str(caught.value))
    assert flag is not None
    assert float(flag.group(1)) == pytest.approx(1e8)
    return tmp_path / "run"


def test_the_advice_works_in_the_same_folder(diverged: Path, tmp_path: Path) -> None:
    stages = json.loads((diverged / "run.json").read_text())["stages"]
    assert stages["train"]["status"] == "diverged"
    done = train_job(_request(diverged, 0.1), lambda _: None)
    fresh = train_job(_request(tmp_path / "fresh", 0.1), lambda _: None)
    assert done.resumed_from == 0
    assert done.checkpoint == fresh.checkpoint, "as if nothing had been there"
    record = json.loads((diverged / "run.json").read_text())
    assert record["recipe"]["learning_rate"] == 0.1
    assert record["stages"]["train"]["status"] == "complete"
    ours = (diverged / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in ours] == [25, 30]


def test_the_same_settings_diverge_again_and_leave_the_run_as_it_was(diverged: Path) -> None:
    with pytest.raises(DivergedError):
        train_job(_request(diverged, 1e9), lambda _: None)
    assert not list((diverged / "metrics.jsonl").read_text().splitlines())


def test_a_profile_stays_with_networks_that_stay(diverged: Path) -> None:
    path = diverged / "run.json"
    record = json.loads(path.read_text())
    profile = {"status": "complete", "trustworthy": True}
    del record["checksum"]
    path.write_text(json.dumps({**record, "stages": {**record["stages"], "profile": profile}}))
    with pytest.raises(InputError, match="holds another run"):
        train_job(_request(diverged, 0.1, family="resnet"), lambda _: None)
    train_job(_request(diverged, 0.1), lambda _: None)
    stages = json.loads(path.read_text())["stages"]
    assert stages["profile"] == profile
    assert stages["train"]["status"] == "complete"


def test_a_training_that_did_not_diverge_is_never_given_up(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_job(_request(out, 0.1, steps=2), lambda _: None)
    with pytest.raises(InputError, match="holds another run"):
        train_job(_request(out, 0.05, steps=2), lambda _: None)


def test_commands_that_need_weights_say_why_there_are_none(
    refused: Callable[..., str], diverged: Path
) -> None:
    sentence = refused("evaluate", "--run", diverged, "--arch", "smallest")
    assert "diverged; give the command that trained it a lower --learning-rate" in sentence

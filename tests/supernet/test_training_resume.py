"""A training that is stopped, killed, damaged or out of disk ends with the same weights."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from supernet import checkpoints, files
from supernet.space import Architecture
from supernet.testing.toy_supernets import build_toy_supernet, make_toy_data
from supernet.training import Progress, Recipe, loop, train

pytestmark = pytest.mark.exactness

RECIPE = Recipe(
    steps=20,
    batch_size=16,
    learning_rate=0.1,
    warmup_steps=3,
    ema_decay=0.9,
    augment="affine",
    clip_norm=1.0,
    checkpoint_every=5,
    log_every=2,
    random_architectures=1,
)
UNIFORM = replace(RECIPE, sampler="uniform", distill="none", clip_norm=0.0)
ADAMW = replace(RECIPE, optimizer="adamw", learning_rate=0.01)
MUON = replace(RECIPE, optimizer="muon", distill="none", sequential=True)


def run(folder: Path, recipe: Recipe = RECIPE, seed: int = 0, **options: Any) -> dict[str, Tensor]:
    supernet = build_toy_supernet(seed, dropout=0.2)
    train(supernet, make_toy_data(), recipe, folder, **options)
    return {name: tensor.clone() for name, tensor in supernet.state_dict().items()}


def stop_after(step: int) -> Any:
    def callback(progress: Progress) -> None:
        if progress.step >= step:
            raise KeyboardInterrupt

    return callback


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def contents(folder: Path, step: int) -> dict[str, str]:
    path = folder / "checkpoints" / str(step)
    return {file.name: files.digest_file(file) for file in path.iterdir()}


@pytest.mark.parametrize(
    "recipe", [RECIPE, UNIFORM, ADAMW, MUON], ids=["sgd", "uniform", "adamw", "muon"]
)
def test_ten_steps_and_ten_more_are_twenty_bit_for_bit(tmp_path: Path, recipe: Recipe) -> None:
    whole = run(tmp_path / "whole", recipe)
    recipe = replace(recipe, checkpoint_every=10)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", recipe, progress=stop_after(12))
    assert [p.name for p in (tmp_path / "parts/checkpoints").iterdir()] == ["10"]
    # Other initial weights prove that everything comes from the checkpoint.
    parts = run(tmp_path / "parts", recipe, seed=1)
    assert same(whole, parts)
    first, second = contents(tmp_path / "whole", 20), contents(tmp_path / "parts", 20)
    for name in (checkpoints.WEIGHTS, checkpoints.OPTIMIZER):
        assert first[name] == second[name]
    steps = [line["step"] for line in files.read_records(tmp_path / "parts/metrics.jsonl")]
    assert steps == list(range(2, 21, 2))


def test_the_loss_of_sampled_networks_is_the_mean_over_those_that_are_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[dict[Architecture, Tensor]] = []

    def take(*given: Any) -> dict[Architecture, Tensor]:
        taken.append(loop_step(*given))
        return taken[-1]

    loop_step = loop.take_step
    monkeypatch.setattr(loop, "take_step", take)
    reports: list[Progress] = []
    recipe = replace(RECIPE, random_architectures=2, log_every=1, steps=8)
    run(tmp_path, recipe, progress=reports.append)
    space = build_toy_supernet(0).space
    for losses, report in zip(taken, reports, strict=True):
        others = [float(v) for a, v in losses.items() if a not in (space.largest, space.smallest)]
        expected = pytest.approx(sum(others) / len(others)) if others else None
        assert report.loss_sampled == expected
    assert any(report.loss_sampled is not None for report in reports)
    ends = replace(recipe, random_architectures=0)
    reports.clear()
    run(tmp_path / "ends", ends, progress=reports.append)
    assert {report.loss_sampled for report in reports} == {None}


def test_training_learns_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    reports: list[Progress] = []
    run(tmp_path, replace(RECIPE, steps=60, augment="none"), progress=reports.append)
    assert torch.equal(torch.rand(3), expected)
    assert reports[-1].loss_largest is not None
    assert reports[0].loss_largest is not None
    assert reports[-1].loss_largest < 0.7 * reports[0].loss_largest
    assert reports[-1].loss_smallest is not None


def test_finished_training_is_loaded_not_repeated(tmp_path: Path) -> None:
    whole = run(tmp_path)
    supernet = build_toy_supernet(1)
    result = train(supernet, make_toy_data(), RECIPE, tmp_path)
    assert (result.resumed_from, result.steps) == (20, 20)
    assert same(whole, supernet.state_dict())
    assert not supernet.training


def test_only_two_checkpoints_are_kept(tmp_path: Path) -> None:
    run(tmp_path)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["15", "20"]


@pytest.mark.parametrize("name", [checkpoints.WEIGHTS, checkpoints.OPTIMIZER, checkpoints.STATE])
def test_truncated_checkpoint_falls_back_and_says_so(tmp_path: Path, name: str) -> None:
    whole = run(tmp_path)
    file = tmp_path / "checkpoints" / "20" / name
    file.write_bytes(file.read_bytes()[:100])
    supernet = build_toy_supernet(1, dropout=0.2)
    result = train(supernet, make_toy_data(), RECIPE, tmp_path)
    assert result.resumed_from == 15
    assert "20 is damaged" in result.notes[0]
    assert name in result.notes[0]
    assert "using the previous good checkpoint" in result.notes[1]
    assert same(whole, supernet.state_dict())


def test_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole")
    original = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        tenth = self.parent.name.startswith(f"{files.TEMPORARY}10-")
        if self.name == checkpoints.OPTIMIZER and tenth:
            original(self, data[:50])
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"no space left on the disk while writing .*/10;") as caught:
        run(tmp_path / "parts")
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in (tmp_path / "parts/checkpoints").iterdir()] == ["5"]
    monkeypatch.undo()
    assert same(whole, run(tmp_path / "parts"))


def test_another_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    other = replace(RECIPE, learning_rate=0.3, seed=4, log_every=10)
    with pytest.raises(
        ValueError, match=r"another recipe \(learning_rate: 0\.1 -> 0\.3, seed: 0 -> 4\)"
    ):
        run(tmp_path, other)
    with pytest.raises(ValueError, match="already holds a training"):
        run(tmp_path, resume=False)
    with pytest.raises(ValueError, match="trained on other data: toy then, toy now"):
        train(build_toy_supernet(), make_toy_data(seed=1), RECIPE, tmp_path)


def test_diverging_training_stops_with_advice(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        run(tmp_path, replace(RECIPE, learning_rate=1e30, clip_norm=0.0))
    assert checkpoints.find(tmp_path / "checkpoints").checkpoint is None


def test_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    found = checkpoints.require(tmp_path / "checkpoints")
    assert found.checkpoint is not None
    with pytest.raises(ValueError, match=r"model\.classifier\.weight is \(3, 32\) in the file"):
        checkpoints.load_weights(build_toy_supernet(classes=4), found.checkpoint)
    with pytest.raises(ValueError, match=r"no usable checkpoint in .*: train first"):
        checkpoints.require(tmp_path / "none")


SCRIPT = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.supernet.test_training_resume import RECIPE, make_toy_data, build_toy_supernet, train
def slow(progress):
    print(progress.step, flush=True)
    time.sleep(0.05)
train(build_toy_supernet(dropout=0.2), make_toy_data(), RECIPE, Path(sys.argv[1]), progress=slow)
"""


@pytest.mark.parametrize("step", [4, 14])
def test_killed_training_ends_with_the_same_weights(tmp_path: Path, step: int) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "killed")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    for line in running.stdout:
        if int(line) == step:
            break
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    running.stdout.close()
    left = checkpoints.find(tmp_path / "killed/checkpoints").checkpoint
    assert (left.step if left else 0) == step // 5 * 5
    assert same(run(tmp_path / "whole"), run(tmp_path / "killed"))
    assert contents(tmp_path / "whole", 20) == contents(tmp_path / "killed", 20)

"""Two processes with half a batch each train what one process trains with the whole of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from supernet import checkpoints
from supernet.data import augment, open_data
from supernet.families import matlm, ofa_mobilenetv3
from supernet.training import distributed, find_recipe, train

# Each process runs this with torchrun's environment; FOLDER, FAMILY and BATCH are arguments.
WORKER = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from test_distributed import training
from supernet.training import distributed
torch.set_num_threads(1)
with distributed.join_ranks():
    training(sys.argv[1], Path(sys.argv[2]), 1)
"""
TEXT = "the quick brown fox jumps over the lazy dog; " * 60


def training(family: str, folder: Path, micro_batches: int) -> dict[str, torch.Tensor]:
    """Raw weights after a few steps of a tiny training, in double precision where it can be."""
    changes = {"steps": 3, "batch_size": 16, "warmup_steps": 1, "log_every": 1,
               "checkpoint_every": 2, "micro_batches": micro_batches, "ema_decay": 0.0}  # fmt: skip
    recipe = find_recipe("digits+inplace").replace(changes)
    if family == "matlm":
        path = folder.parent / "text.txt"
        data = open_data(f"text:{path}", context=16)
        supernet = matlm.build(matlm.configure("tiny", data.shape)).double()
        recipe = replace(recipe, augment="none")
    else:
        data = open_data("digits")
        supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.configure("tiny", data.shape))
    result = train(supernet, data, recipe, folder)
    tensors = checkpoints.read_tensors(result.checkpoint, checkpoints.WEIGHTS)
    names = {name for name, _ in supernet.named_parameters()}
    return {name: tensor for name, tensor in tensors.items() if name in names}


def torchrun(code: list[str], processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Start processes with the launcher of torch and wait for them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", str(processes), *code]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=environment, check=False
    )


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "text.txt").write_text(TEXT)
    path = folder / "worker.py"
    path.write_text(WORKER.format(tests=str(Path(__file__).parent)))
    return path


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Between trained weights, relative to the largest of each tensor."""
    assert first.keys() == second.keys()
    return max(
        float((first[name] - tensor).abs().max() / tensor.abs().max().clamp_min(1e-3))
        for name, tensor in second.items()
    )


@pytest.mark.exactness
# Pixels are float32, whose sums end in other bits on other processors.
@pytest.mark.parametrize(
    ("family", "parts", "tolerance"),
    [pytest.param("ofa", 2, 1e-5, marks=pytest.mark.slow), ("matlm", 1, 1e-12)],
)
def test_two_ranks_are_one_process(worker: Path, family: str, parts: int, tolerance: float) -> None:
    folder = worker.parent / family
    run = torchrun([str(worker), family, str(folder)])
    assert run.returncode == 0, run.stderr
    found = checkpoints.require(folder / "checkpoints").checkpoint
    assert found is not None
    ranks = checkpoints.read_tensors(found, checkpoints.WEIGHTS)
    alone = training(family, worker.parent / f"{family}-alone", parts)
    assert largest_difference({name: ranks[name] for name in alone}, alone) < tolerance
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    if family == "ofa":  # batch statistics of halves are not those of the whole
        whole = training(family, worker.parent / f"{family}-whole", 1)
        assert largest_difference({name: ranks[name] for name in whole}, whole) > 1e-3


@pytest.mark.slow
def test_number_formats_are_trained_under_torchrun(tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ["--family", "resnet", "--data", "digits", "--precision", "fp32,int8,w4a8"]
    flags += ["--steps", "4", "--batch-size", "32", "--checkpoint-every", "2"]
    run = torchrun(["-m", "supernet", "train", *flags, "--out", str(out), "--json"])
    assert run.returncode == 0, run.stderr
    whole = json.loads(run.stdout)["checkpoint"]
    shutil.rmtree(out / "checkpoints" / "4")
    again = torchrun(["-m", "supernet", "train", "--resume", "--out", str(out), "--json"])
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["resumed_from"] == 2
    assert json.loads(again.stdout)["checkpoint"] == whole, "to the bit"
    begun = ["--from", str(out), *flags[2:], "--out", str(tmp_path / "begun")]
    later = torchrun(["-m", "supernet", "train", *begun, "--json"])
    assert later.returncode == 0, later.stderr
    for processes in (out, tmp_path / "begun"):
        found = checkpoints.require(processes / "checkpoints").checkpoint
        assert found is not None
        weights = checkpoints.read_tensors(found, checkpoints.WEIGHTS)
        steps = [tensor for name, tensor in weights.items() if name.startswith("shared.step|")]
        assert steps
        assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


@pytest.mark.slow
def test_the_command_trains_under_torchrun(tmp_path: Path) -> None:
    flags = ["--data", "digits", "--steps", "4", "--batch-size", "32"]
    out = ["--out", str(tmp_path / "run"), "--json"]
    arguments = ["-m", "supernet", "train", *flags, *out]
    run = torchrun(arguments)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["steps"] == 4
    again = torchrun([*arguments, "--resume"])
    assert json.loads(again.stdout)["resumed_from"] == 4
    refused = torchrun([*arguments[:-1], "--batch-size", "33"])
    assert refused.returncode != 0
    assert "world size 2 does not divide batch_size 33" in refused.stderr
    other = torchrun([*arguments, "--seed", "1"])
    assert other.returncode != 0
    assert "holds another run" in other.stderr
    # One image for each process, which batch normalisation cannot use; nothing is written.
    fresh = [*arguments[:-3], "--out", str(tmp_path / "fresh"), "--batch-size", "2"]
    lonely = torchrun(fresh)
    assert "sees 1 in each of 2 processes; use a batch size of at least 4" in lonely.stderr
    assert not (tmp_path / "fresh").exists()
    for failed in (refused, other, lonely):
        # The launcher ends the others when the first has ended; none may call it a bug.
        assert "exitcode  : 2 " in failed.stderr
        assert "exitcode  : 1 " not in failed.stderr
    for failed in (refused, other, lonely):  # one sentence, and no trace but the launcher's own
        lines = failed.stderr.splitlines()
        assert len([line for line in lines if line.startswith("error: ")]) == 1
        assert sum(line.startswith("Traceback") for line in lines) == 1


def test_a_process_alone_says_what_happened_itself() -> None:
    with pytest.raises(ValueError, match="as it was"), distributed.fail_together():
        raise ValueError("as it was")


@pytest.mark.exactness
def test_micro_batches_of_a_network_without_batch_statistics_are_the_batch(worker: Path) -> None:
    whole = training("matlm", worker.parent / "whole", 1)
    parts = training("matlm", worker.parent / "parts", 4)
    assert whole["model.head.norm.weight"].dtype == torch.float64
    assert largest_difference(whole, parts) < 1e-12


@pytest.mark.parametrize("kind", ["shift", "affine", "crop_flip"])
def test_parts_of_a_batch_are_augmented_as_in_the_whole(kind: str) -> None:
    images = torch.rand(8, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    whole = augment(images, kind, torch.Generator().manual_seed(1))
    part = slice(4, 8)
    half = augment(images[part], kind, torch.Generator().manual_seed(1), 8, part)
    torch.testing.assert_close(half, whole[part], rtol=0, atol=1e-6)
    assert not torch.allclose(
        augment(images[part], kind, torch.Generator().manual_seed(1)), whole[part]
    )


def test_one_process_is_a_world_of_its_own() -> None:
    assert distributed.get_world() == (0, 1)
    assert distributed.is_main()
    assert distributed.take_share(33) == slice(0, 33)
    with distributed.join_ranks() as device:
        assert device.type in ("cpu", "cuda")
        assert distributed.get_world() == (0, 1)


def test_a_batch_that_ranks_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "get_world", lambda: (1, 3))
    with pytest.raises(ValueError, match="world size 3 does not divide batch_size 64"):
        distributed.take_share(64)
    assert distributed.take_share(66) == slice(22, 44)
    with pytest.raises(ValueError, match="a multiple of 3, at least 6"):
        distributed.take_share(4, least=2)

"""Two processes with half a batch each train what one process trains with the whole of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet import checkpoints
from supernet.checkpoints import Checkpoint
from supernet.data import DataSource, augment, open_data
from supernet.errors import InputError
from supernet.families import matlm, matvit, ofa_mobilenetv3, shell_elastic
from supernet.supernet import Supernet
from supernet.testing.toy_supernets import make_toy_data
from supernet.training import Recipe, compose, distributed, find_recipe, sharding, train
from supernet.training.loop import take_step
from supernet.training.state import TrainingState

# Each process runs this with torchrun's environment: all cases, one after the other.
WORKER = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from test_distributed import run_cases
from supernet.training import distributed
torch.set_num_threads(1)
with distributed.join_ranks():
    run_cases(Path(sys.argv[1]), sys.argv[2:])
"""
TEXT = "the quick brown fox jumps over the lazy dog; " * 60


@dataclass(frozen=True)
class Case:
    """A tiny training that two processes and one must agree on, of as few layers as can differ.

    ``tolerance`` is relative to the largest entry of each tensor. AdamW and Muon divide by what may
    be small.
    """

    family: str
    recipe: str = "inplace"
    preset: str = "tiny"
    changes: Mapping[str, object] = field(default_factory=dict)
    shard: bool = False
    tolerance: float = 1e-12


ADAMW: Mapping[str, object] = {"optimizer": "adamw", "learning_rate": 0.01, "clip_norm": 0.5,
                               "ema_decay": 0.9, "checkpoint_every": 2}  # fmt: skip
CASES = {
    "matlm": Case("matlm"),
    "matlm-joint": Case("matlm", "matformer"),
    "shells": Case("shell_elastic", "matformer"),
    "matvit": Case("matvit", "matformer"),
    "adamw": Case("matlm", preset="wide", changes=ADAMW, shard=True, tolerance=1e-9),
    "muon": Case("shell_elastic", "matformer+muon", shard=True, tolerance=1e-9),
    # It learns from losses, so that gradients stay whole until it has.
    "shift": Case("matlm", "shift", changes={"clip_value": 0.01}, shard=True),
}
# Augmented pixels are float32, whose sums end in other bits on other processors.
SLOW_CASES = {
    "ofa": Case("ofa_mobilenetv3", changes={"augment": "shift"}, tolerance=1e-5),
    "ofa-shard": Case("ofa_mobilenetv3", changes={"augment": "shift"}, shard=True, tolerance=1e-5),
}
FAMILIES = {
    "matlm": matlm,
    "shell_elastic": shell_elastic,
    "matvit": matvit,
    "ofa_mobilenetv3": ofa_mobilenetv3,
}
SHALLOW: Mapping[str, dict[str, Any]] = {
    "matlm": {"depths": (1, 2)},
    "shell_elastic": {"depth": 1},
    "matvit": {"depths": (1, 2)},
}
CONTINUED = "adamw"


def open_case(case: Case, folder: Path) -> tuple[Supernet, DataSource, Recipe]:
    """What a case trains, in double precision, beside the text in ``folder``."""
    changes = {"steps": 3, "batch_size": 16, "warmup_steps": 1, "log_every": 1, "augment": "none",
               "checkpoint_every": 3, "ema_decay": 0.0, **case.changes}  # fmt: skip
    recipe = find_recipe(f"digits+{case.recipe}").replace(changes)
    if case.family == "matvit":
        data = make_toy_data()
    elif case.family == "ofa_mobilenetv3":
        data = open_data("digits")
    else:
        data = open_data(f"text:{folder / 'text.txt'}", context=16)
    family = FAMILIES[case.family]
    config = family.configure(case.preset, data.shape)
    if case.family in SHALLOW:
        config = replace(config, **SHALLOW[case.family])
    supernet = family.build(config)
    return supernet if case.family == "ofa_mobilenetv3" else supernet.double(), data, recipe


def train_case(
    name: str, folder: Path, out: Path, *, shard: bool, micro_batches: int = 1
) -> dict[str, torch.Tensor]:
    """Weights after the training of a case in ``out``, or of what is left of it there."""
    supernet, data, recipe = open_case({**CASES, **SLOW_CASES}[name], folder)
    recipe = recipe.replace({"micro_batches": micro_batches})
    return read_weights(train(supernet, data, recipe, out, shard=shard).checkpoint)


def read_weights(
    checkpoint: Checkpoint, kind: str = checkpoints.WEIGHTS
) -> dict[str, torch.Tensor]:
    """All tensors of one of a checkpoint's files, in double precision."""
    return {n: t.double() for n, t in checkpoints.read_tensors(checkpoint, kind).items()}


def run_cases(folder: Path, names: list[str]) -> None:
    """What each of the two processes does."""
    for name in names:
        shard = {**CASES, **SLOW_CASES}[name].shard
        train_case(name, folder, folder / "pair" / name, shard=shard)
    if CONTINUED not in names:
        return
    train_case(CONTINUED, folder, folder / "continued", shard=True)
    rank = distributed.get_world()[0]
    (folder / f"memory{rank}.json").write_text(json.dumps(measure_memory(folder)))


def measure_memory(folder: Path) -> dict[str, int]:
    """Entries that a sharded process keeps after a step, beside those of all parameters."""
    supernet, data, recipe = open_case(CASES["adamw"], folder)
    method = compose(supernet, data, recipe, recipe.steps)
    method.shards = sharding.Shards(supernet)
    state = TrainingState.begin(method, data, recipe, folder / "unused")
    part = distributed.take_share(recipe.batch_size)
    take_step(state, data, recipe, 0, recipe.steps, torch.device("cpu"), part)
    parameters = list(supernet.parameters())
    moments = (t for kept in state.optimizer.state.values() for t in kept.values() if t.dim())
    pieces = (leaf.piece for shell in supernet._shells.values() for leaf in shell.leaves)
    viewed = {p.grad.untyped_storage().data_ptr(): p.grad for p in pieces if p.grad is not None}
    return {
        "parameters": sum(p.numel() for p in parameters),
        "moments": sum(t.numel() for t in moments),
        "averages": sum(t.numel() for t in state.average.weights.values()),
        "gradients": sum(p.grad.numel() for p in parameters if p.grad is not None),
        "viewed": sum(t.untyped_storage().nbytes() // t.itemsize for t in viewed.values()),
    }


def torchrun(code: list[str], processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Start processes with the launcher of torch and wait for them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", str(processes), *code]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=environment, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, trained by one process in ``alone`` and by two in ``pair``."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "text.txt").write_text(TEXT)
    for name in CASES:
        train_case(name, folder, folder / "alone" / name, shard=False)
    # What one process began, two continue.
    shutil.copytree(folder / "alone" / CONTINUED, folder / "continued")
    shutil.rmtree(folder / "continued" / "checkpoints" / "3")
    start_pair(folder, [*CASES])
    return folder


def start_pair(folder: Path, names: list[str]) -> None:
    """Let two processes train cases."""
    path = folder / "worker.py"
    path.write_text(WORKER.format(tests=str(Path(__file__).parent)))
    run = torchrun([str(path), str(folder), *names])
    assert run.returncode == 0, run.stderr


def find_checkpoint(out: Path) -> Checkpoint:
    found = checkpoints.require(out / "checkpoints").checkpoint
    assert found is not None
    return found


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Between trained weights, relative to the largest of each tensor."""
    assert first.keys() == second.keys()
    return max(
        float((first[name] - tensor).abs().max() / tensor.abs().max().clamp_min(1e-3))
        for name, tensor in second.items()
    )


@pytest.mark.exactness
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_are_one_process(folder: Path, name: str) -> None:
    ranks, alone = (find_checkpoint(folder / which / name) for which in ("pair", "alone"))
    for kind in (checkpoints.WEIGHTS, checkpoints.OPTIMIZER):
        two, one = read_weights(ranks, kind), read_weights(alone, kind)
        # What a sampler remembers of losses came through single precision.
        learnt = {key for key in one if key.startswith("strategy/")}
        for keys, most in ((one.keys() - learnt, CASES[name].tolerance), (learnt, 1e-5)):
            assert two.keys() == one.keys()
            ours, theirs = ({key: held[key] for key in keys} for held in (two, one))
            assert not keys or largest_difference(ours, theirs) < most, kind
    lines = (folder / "pair" / name / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.exactness
def test_two_ranks_are_two_micro_batches_of_batch_statistics(tmp_path: Path) -> None:
    start_pair(tmp_path, [*SLOW_CASES])
    names = {name for name, _ in open_case(SLOW_CASES["ofa"], tmp_path)[0].named_parameters()}
    alone = train_case("ofa", tmp_path, tmp_path / "alone", shard=False, micro_batches=2)
    # Batch statistics of halves are not those of the whole.
    whole = train_case("ofa", tmp_path, tmp_path / "whole", shard=False)
    for name, case in SLOW_CASES.items():
        ranks = read_weights(find_checkpoint(tmp_path / "pair" / name))
        ours = {name: ranks[name] for name in names}
        assert largest_difference(ours, {n: alone[n] for n in names}) < case.tolerance
        assert largest_difference(ours, {n: whole[n] for n in names}) > 1e-3


def test_shells_answer_together_in_the_cases(folder: Path) -> None:
    supernet, data, recipe = open_case(CASES["shells"], folder)
    drawn = compose(supernet, data, recipe, 3).sampler.draw(0, lambda some: [0.0] * len(some))
    assert supernet.answers_together(drawn)


@pytest.mark.exactness
def test_a_sharded_training_goes_on_with_another_number_of_processes(folder: Path) -> None:
    whole = read_weights(find_checkpoint(folder / "alone" / CONTINUED))
    tolerance = CASES[CONTINUED].tolerance
    # One process, then two.
    continued = find_checkpoint(folder / "continued")
    assert continued.step == 3
    assert largest_difference(read_weights(continued), whole) < tolerance
    # Two processes, then one, which reads the optimiser's whole state.
    shutil.copytree(folder / "pair" / CONTINUED, folder / "later")
    shutil.rmtree(folder / "later" / "checkpoints" / "3")
    later = train_case(CONTINUED, folder, folder / "later", shard=False)
    assert largest_difference(later, whole) < tolerance
    # It matters: without its state, training goes elsewhere.
    supernet, data, recipe = open_case(CASES[CONTINUED], folder)
    state = TrainingState.begin(compose(supernet, data, recipe, 3), data, recipe, folder / "x")
    state.restore(checkpoints.read(folder / "pair" / CONTINUED / "checkpoints" / "2"))
    state.optimizer.state.clear()
    take_step(state, data, recipe, 2, 3, torch.device("cpu"))
    assert largest_difference(state.average.weights, whole) > 1e-4


def test_each_process_keeps_half(folder: Path) -> None:
    kept = [json.loads((folder / f"memory{rank}.json").read_text()) for rank in (0, 1)]
    whole = kept[0]["parameters"]
    assert sum(rank["moments"] for rank in kept) == 2 * whole
    for name, times in (("moments", 2), ("averages", 1), ("gradients", 1), ("viewed", 1)):
        assert sum(rank[name] for rank in kept) == times * whole, name
        assert all(0.45 < rank[name] / (times * whole) < 0.55 for rank in kept), name


def test_one_process_has_nobody_to_share_with(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    with pytest.raises(InputError, match="this one is alone; start it with torchrun") as found:
        train_case("adamw", tmp_path, tmp_path / "run", shard=True)
    assert str(found.value).count(". ") == 0
    assert not (tmp_path / "run").exists()


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
def test_the_command_shards_under_torchrun(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    flags = ["--family", "matlm", "--data", f"text:{tmp_path / 'text.txt'}", "--context", "16"]
    flags += ["--steps", "4", "--batch-size", "32", "--checkpoint-every", "2", "--json"]
    found = {}
    for name, extra in (("whole", []), ("shards", ["--shard"])):
        out = ["--out", str(tmp_path / name)]
        run = torchrun(["-m", "supernet", "train", *flags, *out, *extra])
        assert run.returncode == 0, run.stderr
        found[name] = find_checkpoint(tmp_path / name)
    for kind in (checkpoints.WEIGHTS, checkpoints.OPTIMIZER):
        ours, theirs = (read_weights(found[name], kind) for name in ("shards", "whole"))
        assert largest_difference(ours, theirs) < 1e-3, kind  # single precision
    shutil.rmtree(tmp_path / "shards" / "checkpoints" / "4")
    again = torchrun(
        ["-m", "supernet", "train", "--resume", "--out", str(tmp_path / "shards"), "--json"]
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["resumed_from"] == 2
    later = read_weights(find_checkpoint(tmp_path / "shards"))
    assert largest_difference(later, read_weights(found["whole"])) < 1e-3


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
def test_micro_batches_of_a_network_without_batch_statistics_are_the_batch(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    whole = train_case("matlm", tmp_path, tmp_path / "whole", shard=False)
    parts = train_case("matlm", tmp_path, tmp_path / "parts", shard=False, micro_batches=4)
    read = checkpoints.read_tensors(find_checkpoint(tmp_path / "whole"), checkpoints.WEIGHTS)
    assert read["model.head.norm.weight"].dtype == torch.float64
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

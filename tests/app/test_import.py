"""`supernet import ofa`: released checkpoints become runs that other commands accept."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from supernet.errors import InputError
from supernet.families import ofa_mobilenetv3
from supernet.importing.ofa import map_names, recognise
from supernet.importing.tensors import read_tensors
from tests.app.conftest import Command

Refused = Callable[..., str]
SIZE = 64


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """A small network of the published structure, under the published names."""
    config = ofa_mobilenetv3.Config(
        classes=3, width_multiplier=0.25, kernels=(3, 5), expands=(3, 4), depths=(2,)
    )
    state = ofa_mobilenetv3.build(config).state_dict()
    names = map_names(ofa_mobilenetv3, config, state)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in state.items():
        if name.endswith("bn.weight"):
            tensor.uniform_(0.5, 1.5, generator=generator)
    return {theirs: state[ours].clone() for theirs, ours in names.items()}


@pytest.fixture(scope="module")
def checkpoint(weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ofa") / "ofa_small"
    torch.save({"state_dict": weights}, path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for label in "abc":
        (folder / label).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


def test_an_imported_run_is_evaluated_and_exported(
    command: Command, checkpoint: Path, images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    flags = ("--data", f"folder:{images}", "--image-size", SIZE, "--json")
    outcome = command("import", "ofa", checkpoint, "--out", run, *flags)
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert (result["family"], result["preset"]) == ("ofa_mobilenetv3", "custom")
    assert result["resolutions"] == [37, 46, 55, 64]
    assert "smaller options" in outcome.err
    evaluated = command("evaluate", "--run", run, "--arch", "smallest", "--json")
    assert evaluated.code == 0, evaluated.err
    assert 0 <= json.loads(evaluated.out)["value"] <= 1
    exported = command("export", "--run", run, "--arch", "smallest", "--json")
    assert exported.code == 0, exported.err
    assert command("import", "ofa", checkpoint, "--out", run, *flags).code == 0, "once is enough"


def test_an_imported_run_has_no_training_to_continue(
    command: Command, refused: Refused, checkpoint: Path, images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    data = ("--data", f"folder:{images}", "--image-size", SIZE)
    assert command("import", "ofa", checkpoint, "--out", run, *data).code == 0
    asked = "there is no training to continue; evaluate, audit or search"
    assert asked in refused("train", "--resume", "--out", run)
    assert command("import", "ofa", checkpoint, "--out", tmp_path / "alone").code == 0
    assert asked in refused("train", "--resume", "--out", tmp_path / "alone")


def test_without_data_a_run_is_evaluated_on_data_of_the_same_size(
    command: Command, refused: Refused, weights: dict[str, torch.Tensor], images: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    path, run = tmp_path / "x.safetensors", tmp_path / "run"
    save_file(weights, path)
    outcome = command("import", "ofa", path, "--out", run, "--image-size", SIZE)
    assert outcome.code == 0, outcome.err
    assert "3 classes and no data" in outcome.out
    data = ("--data", f"folder:{images}")
    evaluated = command("evaluate", "--run", run, "--arch", "smallest", *data, "--json")
    assert evaluated.code == 0, evaluated.err
    assert "imported without data" in refused("evaluate", "--run", run, "--arch", "smallest")
    assert "imported without data" in refused("export", "--run", run, "--arch", "smallest")


def test_bad_checkpoints(
    refused: Refused, weights: dict[str, torch.Tensor], images: Path, tmp_path: Path
) -> None:
    def sentence(content: object, *flags: object) -> str:
        path = tmp_path / "file.pth"
        torch.save(content, path)
        return refused("import", "ofa", path, "--out", tmp_path / "run", *flags)

    halves = dict(list(weights.items())[:100])
    assert "is incomplete: " in sentence(halves)
    partial = {n: t for n, t in weights.items() if not n.startswith("blocks.3.")}
    message = sentence(partial)
    assert "is incomplete: 20 of 207 tensors" in message
    assert "blocks.3.conv.inverted_bottleneck.conv.weight" in message
    assert "1 tensors that this network does not have (extra.weight)" in sentence(
        {**weights, "extra.weight": torch.zeros(3)}
    )
    assert "of shape (4, 16)" in sentence(
        {**weights, "classifier.linear.weight": torch.zeros(4, 16)}
    )
    assert "not a supernet of the ofa package" in sentence({"layer1.0.conv1.weight": torch.ones(3)})
    assert "entries that are not finite" in sentence(
        {**weights, "classifier.linear.bias": torch.full((3,), torch.nan)}
    )
    assert "not a state dict" in sentence({"state_dict": {"epoch": 3}})
    assert "tells 4 classes apart, and" in sentence(
        {
            **weights,
            "classifier.linear.weight": torch.zeros(
                4, *weights["classifier.linear.weight"][0].shape
            ),
            "classifier.linear.bias": torch.zeros(4),
        },
        "--data",
        f"folder:{images}",
        "--image-size",
        SIZE,
    )
    assert "images of 3 channels" in sentence(
        {
            **weights,
            "classifier.linear.weight": torch.zeros(
                10, *weights["classifier.linear.weight"][0].shape
            ),
            "classifier.linear.bias": torch.zeros(10),
        },
        "--data",
        "digits",
    )
    assert "resolution 9 is below the total stride 32" in sentence(weights, "--image-size", 16)
    assert not (tmp_path / "run").exists(), "nothing is written"


def read(content: object, path: Path, *, legacy: bool = False) -> dict[str, torch.Tensor]:
    """What is found in a checkpoint, under the published names."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return dict(recognise(read_tensors(path), "it").tensors)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["numpy", "namespace", "containers", "code"])
def test_what_a_training_script_had_at_hand_is_passed_over(
    weights: dict[str, torch.Tensor], tmp_path: Path, name: str, legacy: bool
) -> None:
    beside = {
        "numpy": {"best": np.float64(0.7), "epoch": np.int32(3), "history": np.arange(3.0)},
        "namespace": {"args": Namespace(lr=0.1, out=Path("x")), "kind": Path},
        "containers": {"log": defaultdict(list, {"loss": [1.0]}), "when": datetime(2020, 1, 1)},
        "code": {"hook": Hostile(tmp_path / "ran")},
    }
    content = {"model": weights, "optimizer": {"state": {0: {"step": 1}}}, **beside[name]}
    found = read(content, tmp_path / "file.pth", legacy=legacy)
    assert not (tmp_path / "ran").exists(), "nothing of theirs is run"
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (f"open({str(self.trace)!r}, 'w').close()",)


@pytest.mark.parametrize(
    "key",
    [
        "state_dict",
        "model",
        "model_state_dict",
        "module",
        "net",
        "ema",
        "state_dict_ema",
        "weights",
    ],
)
def test_the_state_dict_is_found_under_any_key(
    weights: dict[str, torch.Tensor], tmp_path: Path, key: str
) -> None:
    path = tmp_path / "file.pth"
    for content in ({key: weights, "epoch": 3}, {"checkpoint": {key: weights, "epoch": 3}}):
        assert read(content, path).keys() == weights.keys()


@pytest.mark.parametrize(
    "wrapper",
    ["_orig_mod.", "module.", "module.module.", "model.", "_orig_mod.module.",
     "module._orig_mod.", "module.model._orig_mod.net."],
)  # fmt: skip
def test_what_wrappers_put_before_names_is_taken_off(
    weights: dict[str, torch.Tensor], tmp_path: Path, wrapper: str
) -> None:
    wrapped = {f"{wrapper}{name}": tensor for name, tensor in weights.items()}
    assert read(wrapped, tmp_path / "file.pth").keys() == weights.keys()


def test_compiled_parts_and_weight_averages_are_unwrapped(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    parts = {name.replace("blocks.1.", "blocks.1._orig_mod."): t for name, t in weights.items()}
    assert read(parts, tmp_path / "file.pth").keys() == weights.keys()
    averaged = {f"module.{name}": tensor for name, tensor in weights.items()}
    averaged["n_averaged"] = torch.tensor(5)
    assert read(averaged, tmp_path / "file.pth").keys() == weights.keys()


def test_of_several_state_dicts_one_is_named(
    command: Command, refused: Refused, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path, out = tmp_path / "file.pth", ("--out", tmp_path / "run")
    other = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save({"model": weights, "state_dict_ema": other, "epoch": 3}, path)
    said = refused("import", "ofa", path, *out)
    assert said == f"{path} holds 2 state dicts (model, state_dict_ema); say which one with --key"
    said = refused("import", "ofa", path, *out, "--key", "ema")
    assert said == f"{path} has no state dict under 'ema'; it has model, state_dict_ema"
    assert command("import", "ofa", path, *out, "--key", "state_dict_ema").code == 0
    source = json.loads((tmp_path / "run/run.json").read_text())["stages"]["train"]["source"]
    assert source["key"] == "state_dict_ema"
    assert command("import", "ofa", path, *out, "--key", "state_dict_ema").code == 0
    assert "holds other weights than" in refused("import", "ofa", path, *out, "--key", "model")


def test_what_cannot_be_read_is_named_with_what_to_do(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "file.pth"

    def sentence(content: object, **options: Any) -> str:
        torch.save(content, path, **options)
        with pytest.raises(InputError) as error:
            read_tensors(path)
        said = str(error.value)
        assert said.endswith("save the tensors alone: torch.save(network.state_dict(), FILE)")
        return said

    whole = torch.nn.Linear(2, 2)
    assert "holds a whole torch.nn.modules.linear.Linear, which only its own" in sentence(whole)
    legacy = {"_use_new_zipfile_serialization": False}
    assert "holds a whole network, which only its own" in sentence(whole, **legacy)
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    assert "it holds 'first_conv.conv.weight' (numpy array), " in sentence(arrays)
    mixed = {**weights, "scale": np.float32(2)}
    assert "'scale' is a numpy scalar" in sentence({"model": mixed})
    # Which of two sentences says it depends on the version of torch.
    assert "tests.app.test_import.Settings" in sentence({"model": Settings(weights)})
    assert "was not written in the way of torch.save" in sentence(weights, pickle_protocol=4)
    assert "it holds a list" in sentence([weights])


class Settings(dict[str, torch.Tensor]):
    """A dictionary with another name."""


def test_bad_files(refused: Refused, checkpoint: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    assert "nowhere.pth is not there" in refused("import", "ofa", tmp_path / "nowhere.pth", *out)
    assert "is a folder" in refused("import", "ofa", tmp_path, *out)
    assert "did you mean 'ofa'" in refused("import", "ofaa", checkpoint, *out)
    noise = tmp_path / "noise.pth"
    # The reader of such files fails in another way for each of these.
    for content in (b"\x93no checkpoint at all", b"abc", b"", b"K"):
        noise.write_bytes(content)
        assert "not a checkpoint of tensors alone: " in refused("import", "ofa", noise, *out)
    for content in (b"hello", b""):
        noise.write_bytes(content)
        assert "in the way of torch.save; where" in refused("import", "ofa", noise, *out)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(checkpoint.read_bytes()[:100])
    assert "not a safetensors file" in refused("import", "ofa", broken, *out)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(checkpoint.read_bytes()[:-5000])
    assert "not a checkpoint of tensors alone" in refused("import", "ofa", cut, *out)

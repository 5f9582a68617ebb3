"""Number formats in runs of unusual weights and data: imported networks, images of one color."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.families import ofa_mobilenetv3
from supernet.importing.ofa import map_names
from tests.app.conftest import Command
from tests.app.exact_exports import skip_unless_smallest_is_exact

Refused = Callable[..., str]
SIZE, IMPORTED = 32, 64
RANDOM = ("--strategy", "random_search", "--evaluations", 5)


def _write_images(folder: Path, draw: Callable[[int, int], np.ndarray]) -> Path:
    """Twelve images of each of three classes, by the numbers of class and image."""
    for index, label in enumerate("abc"):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(draw(index, number)).save(folder / label / f"{number}.png")
    return folder


def _fill(value: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), value, dtype=np.uint8)


@pytest.fixture
def imported(tmp_path: Path, command: Command) -> Path:
    """A run of a checkpoint under the names of the ofa package."""
    config = ofa_mobilenetv3.Config(
        classes=3, width_multiplier=0.1, kernels=(3, 5), expands=(3, 4), depths=(2,)
    )
    state = ofa_mobilenetv3.build(config).state_dict()
    names = map_names(ofa_mobilenetv3, config, state)
    weights = {theirs: state[ours].clone() for theirs, ours in names.items()}
    torch.save({"state_dict": weights}, tmp_path / "checkpoint")
    rng = np.random.default_rng(0)
    folder = _write_images(
        tmp_path / "images",
        lambda *_: rng.integers(0, 256, (IMPORTED, IMPORTED, 3), dtype=np.uint8),
    )
    flags = ("--data", f"folder:{folder}", "--image-size", IMPORTED, "--out", tmp_path / "run")
    outcome = command("import", "ofa", tmp_path / "checkpoint", *flags)
    assert outcome.code == 0, outcome.err
    return tmp_path / "run"


def test_an_imported_network_goes_all_the_way_in_number_formats(
    imported: Path, tmp_path: Path, command: Command
) -> None:
    run = tmp_path / "quantized"
    done = command("quantize", "--run", imported, "--precision", "fp32,int8,w4a8", "--out", run)
    assert done.code == 0, done.err
    _search_and_export(run, ("accuracy", "size"), "w4a8", command)


@pytest.mark.slow
def test_an_imported_network_is_measured_in_number_formats_in_its_place(
    imported: Path, command: Command
) -> None:
    flags = ("--precision", "fp32,int8", "--passes", 2, "--networks", 4)
    done = command("profile", "--run", imported, *flags)
    assert done.code == 0, done.err
    _search_and_export(imported, ("accuracy", "latency", "size"), "int8", command)


def _search_and_export(
    run: Path, objectives: tuple[str, ...], smallest: str, command: Command
) -> None:
    for arguments in (
        ("search", "--run", run, *RANDOM, "--objectives", ",".join(objectives)),
        ("pick", "--run", run, "--knee"),
    ):
        done = command(*arguments)
        assert done.code == 0, (arguments, done.err)
    out = run.parent / "exported"
    done = command("export", "--run", run, "--arch", "smallest", "--out", out, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert set(result["formats"].values()) == {smallest}
    assert result["tensor_bytes"] == result["size_bytes"]


@pytest.mark.parametrize("precision", ["fp32,int8", "fp32,w6a8"])
def test_images_of_one_color_each_are_data_like_any(
    tmp_path: Path, command: Command, precision: str
) -> None:
    data = _write_images(tmp_path / "images", lambda label, n: _fill(100 * label + n))
    _quantize(tmp_path, data, command, precision)
    run = tmp_path / "quantized"
    done = command("search", "--run", run, *RANDOM, "--objectives", "accuracy,size")
    assert done.code == 0, done.err
    skip_unless_smallest_is_exact(run)
    done = command("export", "--run", run, "--arch", "smallest", "--out", tmp_path / "exported")
    assert done.code == 0, done.err


def test_images_that_are_all_of_one_color_have_no_ranges(
    tmp_path: Path, command: Command, refused: Refused
) -> None:
    data = tmp_path / "images"
    _write_images(data / "train", lambda *_: _fill(77))
    _write_images(data / "val", lambda label, n: _fill(100 * label + n))
    _write_images(data / "test", lambda label, n: _fill(100 * label + n + 20))
    # Without float: a network that computes in float needs no ranges.
    _quantize(tmp_path, data, command, "int8,w4a8")
    run = ("--run", tmp_path / "quantized")
    why = f"every entry of the calibration samples is {77 / 255:.6g}: no range of activations"
    assert refused("export", *run, "--arch", "smallest").startswith(why)
    shown = command("evaluate", *run, "--arch", "smallest").out
    assert f"accuracy failed on the val split of folder:{data}: InputError: {why}" in shown
    said = refused("search", *run, *RANDOM, "--objectives", "accuracy,size")
    assert "search 'default' found nothing: all 5 evaluations failed" in said
    assert why in said, "five times the same reason is one"


def _quantize(folder: Path, data: Path, command: Command, precision: str) -> None:
    flags = ("--family", "resnet", "--image-size", SIZE, "--steps", 2, "--batch-size", 8)
    float_ = folder / "float"
    done = command("train", "--data", f"folder:{data}", *flags, "--out", float_)
    assert done.code == 0, done.err
    done = command(
        "quantize", "--run", float_, "--precision", precision, "--out", folder / "quantized"
    )
    assert done.code == 0, done.err

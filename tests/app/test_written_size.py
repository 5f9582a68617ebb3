"""What was promised as size is what the files of an export hold, to the byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.commands.texts.runs import format_export
from app.jobs.export import export_job
from app.jobs.outcomes import ExportOutcome
from app.jobs.train import TrainRequest, train_job
from supernet.costs.enumeration import measure_size
from supernet.families import matlm, ofa_mobilenetv3, resnet
from supernet.precision.elastic import make_precision_elastic
from supernet.quantization.formats import parse_policy


def _export(folder: Path, precision: str | None, name: str) -> ExportOutcome:
    request = TrainRequest(
        out=folder / "run", preset="tiny", precision=precision, steps=1, batch_size=16
    )
    train_job(request, lambda _: None)
    return export_job(folder / "run", name, folder / "out", lambda _: None)


def test_an_export_of_few_bits_keeps_them(tmp_path: Path) -> None:
    found = _export(tmp_path, "w4a32,fp32", "smallest")
    assert set(found.formats.values()) == {"w4a32"}
    files = {name: (tmp_path / "out" / name).stat().st_size for name in found.file_bytes}
    assert dict(found.file_bytes) == files
    assert found.tensor_bytes == found.size_bytes < 4 * found.parameters
    assert files["model.onnx"] == found.size_bytes + found.overhead_bytes
    text = format_export(found)
    assert f"Weights take {_kb(found.size_bytes)}, as promised" in text
    assert f"weights.safetensors {_kb(files['weights.safetensors'])}" in text
    card = (tmp_path / "out/card.md").read_text()
    assert f"| Size | {found.size_bytes:,} bytes |" in card
    assert f"`model.onnx` {files['model.onnx']:,} bytes" in card


def test_an_export_in_float_says_how_large_its_files_are(tmp_path: Path) -> None:
    found = _export(tmp_path, None, "smallest")
    assert found.tensor_bytes == found.size_bytes, "what was promised is what is stored"
    assert found.size_bytes > 4 * found.parameters, "statistics are stored, too"
    text = format_export(found)
    assert f"Written: model.onnx {_kb(found.file_bytes['model.onnx'])} and weights" in text
    assert f"| Size | {found.size_bytes:,} bytes |" in (tmp_path / "out/card.md").read_text()


def _kb(size: int) -> str:
    return f"{size / 1000:#.3g}".rstrip(".") + " KB"


@pytest.mark.parametrize("policy", ["", "fp32,w4a32,w8a32"])
def test_the_size_of_one_subnetwork_is_that_of_the_cost_model(policy: str) -> None:
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.PRESETS["tiny"])
    if policy:
        supernet = make_precision_elastic(supernet, parse_policy(policy))
    space = supernet.space
    positions = space.sample(np.random.default_rng(0), 4)
    chosen = [*space.decode(positions), space.smallest, space.largest]
    sizes = supernet.cost_model().size_bytes(space.encode(chosen))
    ours = [measure_size(supernet, a, supernet.extract(a)) for a in chosen]
    assert ours == sizes.tolist()


@pytest.mark.parametrize("family", [matlm, resnet])
def test_so_it_is_in_other_families(family: object) -> None:
    supernet = family.build(family.PRESETS["tiny"])  # type: ignore[attr-defined]
    space = supernet.space
    for chosen in (space.smallest, space.largest):
        size = supernet.cost_model().size_bytes(space.encode([chosen]))[0]
        assert measure_size(supernet, chosen, supernet.extract(chosen)) == size

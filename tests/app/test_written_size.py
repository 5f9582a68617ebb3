"""Where weight bits promise fewer bytes than the files have, both are said; size is exact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from app.commands.texts.runs import format_export
from app.commands.texts.searches import format_pick
from app.jobs.export import export_job
from app.jobs.outcomes import ExportOutcome
from app.jobs.pick import pick_job
from app.jobs.train import TrainRequest, train_job
from supernet.costs.enumeration import measure_size
from supernet.families import matlm, ofa_mobilenetv3, resnet
from tests.toys.explored_runs import write_run


def _export(folder: Path, preset: str, name: str) -> ExportOutcome:
    request = TrainRequest(out=folder / "run", preset=preset, steps=1, batch_size=16)
    train_job(request, lambda _: None)
    return export_job(folder / "run", name, folder / "out", lambda _: None)


def test_an_export_with_weight_bits_states_both_sizes(tmp_path: Path) -> None:
    found = _export(tmp_path, "tiny-bits", "smallest")
    files = {name: (tmp_path / "out" / name).stat().st_size for name in found.file_bytes}
    assert dict(found.file_bytes) == files
    assert set(files) == {"model.onnx", "weights.safetensors"}
    assert found.size_bytes < found.tensor_bytes < min(files.values())
    assert 4 * found.parameters < found.tensor_bytes, "statistics are stored, too"
    text = format_export(found)
    assert (
        f"every weight as float32 for now; at its weight bits it is {_kb(found.size_bytes)}" in text
    )
    assert f"weights.safetensors {_kb(files['weights.safetensors'])}" in text
    card = (tmp_path / "out/card.md").read_text()
    assert (
        f"| Size | {found.size_bytes:,} bytes at its weight bits, which these files do not keep "
        "yet: every weight is written as float32 |" in card
    )
    assert f"`model.onnx` {files['model.onnx']:,} bytes" in card
    assert f"`weights.safetensors` {files['weights.safetensors']:,} bytes |" in card


def test_an_export_without_weight_bits_says_how_large_its_files_are(tmp_path: Path) -> None:
    found = _export(tmp_path, "tiny", "smallest")
    assert found.tensor_bytes == found.size_bytes, "what was promised is what is stored"
    text = format_export(found)
    assert "float32" not in text
    assert f"Written: model.onnx {_kb(found.file_bytes['model.onnx'])} and weights" in text
    assert f"| Size | {found.size_bytes:,} bytes |" in (tmp_path / "out/card.md").read_text()


def _kb(size: int) -> str:
    return f"{size / 1000:#.3g}".rstrip(".") + " KB"


def test_a_pick_says_what_its_files_would_take_at_least(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run)
    plain = pick_job(run, knee=True)
    assert plain.float32_bytes is None
    assert "float32" not in format_pick(plain)
    path = run / "searches/default/front.json"
    payload = json.loads(path.read_text())
    for point in payload["points"]:
        point["parameters"], point["size_bytes"] = 30_000, 80_892
    path.write_text(json.dumps(payload))
    bits = pick_job(run, knee=True)
    assert bits.float32_bytes == 120_000
    assert (
        "  exported files hold every weight as float32 for now: 120 KB or more, not the 80.9 KB "
        "of its weight bits" in format_pick(bits)
    )


@pytest.mark.parametrize("preset", ["tiny", "tiny-bits"])
def test_the_size_of_one_subnetwork_is_that_of_the_cost_model(preset: str) -> None:
    supernet = ofa_mobilenetv3.build(ofa_mobilenetv3.PRESETS[preset])
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

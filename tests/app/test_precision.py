"""Number formats as choices of a run: trained, quantized, searched, exported, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from app.jobs import parity
from app.records.formats import count_formats, list_formats, read_formats
from app.records.numbers import format_items
from app.records.run import OriginRecord, PrecisionRecord
from app.runs.directory import open_run
from app.runs.offer_precision import offer_precision
from app.runs.precision import read_precision, show_policy, write_policy
from app.runs.trained import build, open_trained
from hardware.fusion_probe import count_operators
from supernet import checkpoints
from supernet.data.source import make_image_source
from supernet.errors import InputError
from supernet.quality.evaluate import evaluate
from supernet.quantization.formats import parse_policy
from tests.app.conftest import Command, contents
from tests.app.exact_exports import skip_unless_smallest_is_exact

Refused = Callable[..., str]
SHORT = ["--family", "resnet", "--steps", "8", "--batch-size", "32", "--checkpoint-every", "4"]
SIZES = ["--objectives", "accuracy,size,bitops,peak_memory"]
RANDOM = ["--strategy", "random_search", "--evaluations", "6"]


@pytest.fixture(scope="module")
def floating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float run that nothing was done with since; never write to it, copy it."""
    from app.commands.main import run

    path = tmp_path_factory.mktemp("runs") / "float"
    assert run(["train", "--out", str(path), *SHORT]) == 0
    return path


@pytest.fixture(scope="module")
def quantized(floating: Path) -> Path:
    """The same weights in units that choose between float and 8 bits, searched."""
    from app.commands.main import run

    path = floating.parent / "quantized"
    for arguments in (
        ["quantize", "--run", str(floating), "--precision", "int8", "--out", str(path)],
        ["search", "--run", str(path), *SIZES, *RANDOM],
    ):
        assert run(arguments) == 0
    return path


@pytest.fixture(scope="module")
def learned(floating: Path) -> Path:
    """Trained from the float run, with steps of its own for 8 and 4 bits."""
    from app.commands.main import run

    path = floating.parent / "learned"
    begin = ["--from", str(floating), "--precision", "fp32,int8,w4a8"]
    assert run(["train", "--out", str(path), *begin, *SHORT[2:]]) == 0
    return path


# -- quantizing ------------------------------------------------------------------------------------


def test_a_quantized_run_has_the_weights_and_a_larger_space(
    floating: Path, quantized: Path, command: Command
) -> None:
    before, after = open_run(floating), open_run(quantized)
    assert after.record.precision == PrecisionRecord(
        policy="fp32,int8", method="calibrated", calibration="mse"
    )
    digest = checkpoints.require(floating / "checkpoints").checkpoint
    assert digest is not None
    assert after.record.origin == OriginRecord(run=str(floating), checkpoint=digest.digest)
    ours, theirs = (open_trained(run, print).supernet for run in (after, before))
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)
    assert ours.space.digest == after.record.space == after.space.digest
    assert ours.space.size > theirs.space.size
    stored = contents(quantized)
    again = ("quantize", "--run", floating, "--precision", "fp32,int8", "--out", quantized)
    assert command(*again).code == 0
    assert contents(quantized) == stored, "another spelling of the same, and nothing was written"


def test_a_run_without_precision_says_nothing_of_it(floating: Path) -> None:
    stored = json.loads((floating / "run.json").read_text())
    assert not {"precision", "origin"} & set(stored)
    assert not {"quantizer", "step_rate", "weight_distribution"} & set(stored["recipe"])


def test_what_cannot_be_quantized(
    floating: Path, quantized: Path, refused: Refused, tmp_path: Path
) -> None:
    def quantize(*arguments: object, run: Path = floating) -> str:
        said = refused("quantize", "--run", run, "--out", tmp_path / "new", *arguments)
        assert not (tmp_path / "new").exists()
        return said

    assert "did you mean 'int8'" in quantize("--precision", "intt8")
    assert "w9a8 has weights of 9 bits; they can have 2, 3" in quantize("--precision", "w9a8")
    assert "leaves nothing to choose" in quantize("--precision", "fp32")
    assert "did you mean 'mse'" in quantize("--precision", "int8", "--calibration", "mean")
    other = refused("quantize", "--run", floating, "--precision", "w4a8", "--out", quantized)
    assert "precision.policy: fp32,int8 -> fp32,w4a8" in other
    said = refused("train", "--out", quantized, "--resume")
    assert said.startswith(f"the weights in {quantized} are those of {floating}")
    remedy = f"train --from {quantized} --precision fp32,int8 --out {quantized}-fp32-int8"
    assert said.endswith(f"; run: supernet {remedy}")


@pytest.mark.parametrize("field", ["policy", "method", "calibration"])
def test_a_damaged_precision_is_named(
    quantized: Path, tmp_path: Path, refused: Refused, field: str
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(quantized, damaged)
    stored = json.loads((damaged / "run.json").read_text())
    stored["precision"][field] = "nonsense"
    del stored["checksum"]
    (damaged / "run.json").write_text(json.dumps(stored))
    before = contents(damaged)
    said = refused("evaluate", "--run", damaged, "--arch", "smallest")
    assert said.startswith(f"{damaged / 'run.json'} was damaged or edited: precision cannot be")
    assert "'nonsense'" in said
    assert contents(damaged) == before, "no evaluation is recorded as failed"


def test_a_calibration_is_used(floating: Path, tmp_path: Path, command: Command) -> None:
    values = set()
    for calibration in ("minmax", "percentile"):
        out = tmp_path / calibration
        flags = ("--precision", "int8", "--calibration", calibration, "--out", out)
        assert command("quantize", "--run", floating, *flags).code == 0
        trained = open_trained(open_run(out), print)
        assert trained.estimator == calibration
        limits = measure_ranges(out)
        values.add(tuple(limits))
    assert len(values) == 2


def measure_ranges(run: Path) -> list[float]:
    """Scales of the activations of the smallest network."""
    from supernet.quality.evaluate import recalibrate_extracted
    from supernet.quantization.execution import find_execution

    trained = open_trained(open_run(run), print)
    supernet, smallest = trained.supernet, trained.supernet.space.smallest
    network = supernet.extract(smallest)
    recalibrate_extracted(
        network, supernet, smallest, trained.data, 64, estimator=trained.estimator
    )
    execution = find_execution(network)
    assert execution is not None
    return [float(a.scale) for a in execution.calibrated.values() if a.scale is not None]


# -- in place --------------------------------------------------------------------------------------


def test_a_run_without_results_offers_formats_in_its_place(
    floating: Path, tmp_path: Path, command: Command, refused: Refused
) -> None:
    run = Path(shutil.copytree(floating, tmp_path / "run"))
    told: list[str] = []
    offer_precision(open_run(run), "fp32,int8", told.append)
    assert "may compute in fp32,int8 from now on" in told[0]
    assert open_run(run).space.digest == open_run(run).record.space
    assert build(open_run(run)).space.digest == open_run(run).record.space
    assert command("train", "--out", run, *SHORT).code == 0, "the training is complete as before"
    offer_precision(open_run(run), "int8", told.append)
    assert len(told) == 1, "it offers them already"
    size = format_items(open_run(run).space.size, "subnetwork")
    for arguments in (("--out", run, *SHORT), ("--out", run, "--resume")):
        assert f"The space holds {size}" in command("train", *arguments).out
    assert "leave out --precision" in refused("profile", "--run", run, "--precision", "fp32")


def test_a_run_with_formats_is_quantized_to_others(
    floating: Path, quantized: Path, tmp_path: Path, command: Command, refused: Refused
) -> None:
    run = Path(shutil.copytree(floating, tmp_path / "run"))
    offer_precision(open_run(run), "fp32,int8", print)
    copy = Path(shutil.copytree(quantized, tmp_path / "copy"))
    for given in (run, copy):
        said = refused("search", "--run", given, "--precision", "w4a8")
        assert "compute in fp32,int8, not in fp32,w4a8" in said
        remedy = f"supernet quantize --run {given} --precision fp32,w4a8 --out {given}-fp32-w4a8"
        assert said.endswith(f"; run: {remedy}")
        assert command(*remedy.split()[1:]).code == 0
        found = open_run(Path(f"{given}-fp32-w4a8"))
        assert show_policy(found.record.precision) == "fp32,w4a8"
        assert _read_weights(found.path) == _read_weights(floating)


def test_a_run_trained_for_formats_is_trained_for_others(
    learned: Path, tmp_path: Path, refused: Refused, command: Command
) -> None:
    run = Path(shutil.copytree(learned, tmp_path / "run"))
    remedy = f"supernet train --from {run} --precision fp32,int8 --out {run}-fp32-int8"
    said = refused("profile", "--run", run, "--precision", "int8")
    assert said.endswith(f"not in fp32,int8; run: {remedy}")
    said = refused("quantize", "--run", run, "--precision", "int8", "--out", tmp_path / "new")
    assert said.endswith(f"only those of a training in float can be quantized; run: {remedy}")
    assert command(*remedy.split()[1:], *SHORT[2:]).code == 0


def test_a_run_that_is_not_trained_offers_nothing_yet(
    floating: Path, tmp_path: Path, refused: Refused
) -> None:
    run = Path(shutil.copytree(floating, tmp_path / "run"))
    open_run(run).set_stage("train", "running")
    said = refused("profile", "--run", run, "--precision", "int8")
    assert said == (
        f"the training of {run} is not complete; run: supernet train --out {run} --resume"
    )


def _read_weights(run: Path) -> dict[str, bytes]:
    found = checkpoints.require(run / "checkpoints").checkpoint
    assert found is not None
    tensors = checkpoints.read_tensors(found, checkpoints.WEIGHTS)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def test_a_run_with_results_is_left_alone(
    floating: Path, tmp_path: Path, command: Command, refused: Refused
) -> None:
    run = Path(shutil.copytree(floating, tmp_path / "run"))
    assert command("evaluate", "--run", run, "--arch", "smallest").code == 0
    stored = contents(run)
    said = refused("profile", "--run", run, "--precision", "fp32,int8")
    expected = f"supernet quantize --run {run} --precision fp32,int8 --out {run}-fp32-int8"
    assert said.endswith(f"run: {expected}")
    assert contents(run) == stored
    assert command(*expected.split()[1:]).code == 0


# -- training --------------------------------------------------------------------------------------


def test_a_training_that_began_with_float_weights_has_steps_and_continues(
    floating: Path, learned: Path, tmp_path: Path, command: Command
) -> None:
    record = open_run(learned).record
    assert record.precision is not None
    assert (record.precision.policy, record.precision.method) == ("fp32,int8,w4a8", "lsq")
    assert record.recipe["sampler"] == "precision_sandwich"
    supernet = open_trained(open_run(learned), print).supernet
    steps = [p for name, p in supernet.shared.items() if name.startswith("step|")]
    assert {name.rpartition("@")[2] for name in supernet.shared} == {"4", "8"}
    assert all(bool((step != 1).all()) for step in steps), "calibrated and trained"
    copy = Path(shutil.copytree(learned, tmp_path / "copy"))
    shutil.rmtree(copy / "checkpoints" / "8")
    assert command("train", "--out", copy, "--resume").code == 0
    ends = [checkpoints.require(run / "checkpoints").checkpoint for run in (learned, copy)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].digest == ends[1].digest, "to the bit"


def test_the_run_that_weights_came_from(
    floating: Path, learned: Path, tmp_path: Path, refused: Refused, command: Command
) -> None:
    def train(*arguments: object) -> str:
        said = refused("train", "--out", tmp_path / "new", *SHORT[2:], *arguments)
        assert not (tmp_path / "new").exists()
        return said

    assert "is not a run directory" in train("--from", tmp_path / "nowhere")
    assert "whose weights do not fit matlm" in train("--from", floating, "--family", "matlm")
    assert "give --precision" in train("--precision-method", "lsq")
    assert "did you mean 'lsq'" in train("--precision", "int8", "--precision-method", "lsd")
    moved = Path(shutil.copytree(floating, tmp_path / "moved"))
    copy = Path(shutil.copytree(learned, tmp_path / "copy"))
    flags = ("--from", moved, "--precision", "fp32,int8,w4a8", *SHORT[2:])
    assert command("train", "--out", copy, *flags).code == 0
    record = open_run(copy).record.origin
    assert record is not None
    assert record.run == str(moved)
    shutil.rmtree(moved)
    assert command("train", "--out", copy, "--resume").code == 0, "it is not needed any more"
    shutil.rmtree(copy / "checkpoints")
    assert f"no longer in {moved}" in refused("train", "--out", copy, "--resume")


# -- searching -------------------------------------------------------------------------------------


def test_a_search_counts_exact_bytes_and_shows_formats(quantized: Path, command: Command) -> None:
    front = json.loads((quantized / "searches/default/front.json").read_text())
    trained = open_trained(open_run(quantized), print)
    space, costs = trained.supernet.space, trained.cost_model
    for point in front["points"]:
        row = space.encode([space.architecture(point["architecture"])])
        assert point["objectives"]["size_bytes"]["value"] == costs.size_bytes(row)[0]
        memory = point["objectives"]["peak_memory"]["value"]
        assert memory > point["objectives"]["size_bytes"]["value"]
        assert "bit_operations" not in point, "it is told once, as an objective"
    outcome = command("pick", "--run", quantized, "--knee")
    assert outcome.code == 0, outcome.err
    chosen = json.loads(command("pick", "--run", quantized, "--knee", "--json").out)
    assert list_formats(read_formats(chosen["architecture"])) in outcome.out
    assert command("report", "--run", quantized, "--no-baseline").code == 0
    page = (quantized / "report/default/report.md").read_text()
    assert "| unit |" in page
    assert "| stem | " in page


def test_a_table_of_float_units_is_told_from_the_one_needed(
    floating: Path, tmp_path: Path, command: Command, refused: Refused
) -> None:
    run, other = (Path(shutil.copytree(floating, tmp_path / name)) for name in ("run", "other"))
    profile = ("--passes", 2, "--networks", 4)
    assert command("profile", "--run", run, *profile).code == 0
    offer_precision(open_run(other), "fp32,int8", print)
    shutil.copytree(run / "devices", other / "devices")
    command_line = f"profile --run {other} --device cpu --replace"
    for name in ("search", "profile"):
        said = refused(name, "--run", other, *(RANDOM if name == "search" else profile))
        assert said.endswith(
            "the latency table holds fp32 and the space needs fp32,int8; profile the device for "
            f"all of these; run: supernet {command_line}"
        )
    assert command(*command_line.split(), *profile).code == 0
    assert command("search", "--run", other, *RANDOM).code == 0


def test_a_format_that_the_runtime_cannot_execute(
    floating: Path, tmp_path: Path, refused: Refused
) -> None:
    run = Path(shutil.copytree(floating, tmp_path / "run"))
    said = refused("profile", "--run", run, "--precision", "w4a4")
    assert said.startswith("unit stem cannot be executed in w4a4: ONNX Runtime ")
    assert "it executes w4a8" in said
    assert not (run / "devices").exists()


# -- exporting -------------------------------------------------------------------------------------


def test_an_export_in_integers_proves_itself(
    quantized: Path, tmp_path: Path, command: Command
) -> None:
    skip_unless_smallest_is_exact(quantized)
    assert "VNNI" in export_smallest(quantized, "int8", tmp_path / "deploy", command)


def test_an_export_of_weights_of_six_bits_proves_itself_on_every_processor(
    floating: Path, tmp_path: Path, command: Command
) -> None:
    run = tmp_path / "quantized"
    done = command("quantize", "--run", floating, "--precision", "w6a8", "--out", run)
    assert done.code == 0, done.err
    card = export_smallest(run, "w6a8", tmp_path / "deploy", command)
    assert "are exact on processors without 8-bit dot products (VNNI), too" in card


def export_smallest(run: Path, precision: str, out: Path, command: Command) -> str:
    """Export the smallest network of a run; its card, after a look at all of its files.

    Args:
        run: whose smallest network computes in ``precision``.
        precision: the format of every unit.
        out: the folder to write.
        command: runs the command line.
    """
    outcome = command("export", "--run", run, "--arch", "smallest", "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert set(result["formats"].values()) == {precision}
    assert result["tensor_bytes"] == result["size_bytes"]
    size = (out / "model.onnx").stat().st_size
    assert size == result["size_bytes"] + result["overhead_bytes"]
    assert result["overhead_bytes"] <= 64_000
    proof = json.loads((out / "parity.json").read_text())
    assert proof["integers"]["equal"] > 0.99
    assert count_operators(out / "model.onnx")["QLinearConv"] > 3
    card = (out / "card.md").read_text()
    assert "Integer simulator against ONNX Runtime" in card
    assert f"| stem | {precision} |" in card
    assert "in ONNX Runtime" in card
    return card


def test_wrong_integers_of_a_processor_leave_nothing_behind(
    quantized: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = parity.RuntimeNetwork.run

    def wrong(network: parity.RuntimeNetwork, inputs: np.ndarray) -> np.ndarray:
        found = right(network, inputs)
        found[:, 3] = 0
        return found

    monkeypatch.setattr(parity.RuntimeNetwork, "run", wrong)
    out = tmp_path / "deploy"
    outcome = command("export", "--run", quantized, "--arch", "smallest", "--out", out)
    # Layers of this network can saturate, which may be why.
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert "gives other results for" in outcome.err
    assert "nothing was exported. Sums of pairs" in outcome.err
    assert "w6a8, or export on another processor" in outcome.err
    assert not out.exists()


# -- policies and formats --------------------------------------------------------------------------


def test_spellings_of_one_policy_are_one() -> None:
    for text in ("int8", "fp32,int8", "int8,fp32", "unit:int8"):
        assert write_policy(parse_policy(text)) == "fp32,int8"
    assert write_policy(parse_policy("research")) == "research"
    assert write_policy(parse_policy("layer:int8")) == "layer:fp32,int8"
    with pytest.raises(InputError, match="names int8 twice"):
        read_precision("int8,int8", "lsq")


def test_formats_are_read_from_choices() -> None:
    choices = {
        "stage.depth": 2,
        "stem.precision": "int8",
        "block.weight_bits": 4,
        "block.activation_bits": 8,
        "head.weight_bits": 8,
        "tail.precision": "int8",
    }
    found = read_formats(choices)
    assert found == {"stem": "int8", "block": "w4a8", "tail": "int8"}
    assert count_formats(found) == "2 int8, 1 w4a8"
    assert list_formats(found) == "int8: stem, tail; w4a8: block"
    assert read_formats({"odd.weight_bits": 9, "odd.activation_bits": 1}) == {"odd": "w9a1"}


# -- calibration data ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (torch.zeros(40, 1, 8, 8), "is 0: no range of activations follows from constant data"),
        (torch.full((40, 1, 8, 8), torch.nan), "holds NaN on the calibration data"),
        (torch.rand(40, 3, 8, 8), r"have shape \(3, 8, 8\), and this network takes \(1, 8, 8\)"),
    ],
    ids=["constant", "nan", "channels"],
)
def test_data_that_ranges_cannot_follow_from(
    quantized: Path, images: torch.Tensor, expected: str
) -> None:
    supernet = open_trained(open_run(quantized), print).supernet
    split = (images, torch.arange(len(images)) % 10)
    data = make_image_source(
        "images", dict.fromkeys(("train", "val", "test"), split), tuple("0123456789")
    )
    with pytest.raises(InputError, match=expected):
        evaluate(supernet, supernet.space.smallest, data)

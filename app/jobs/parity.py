"""Whether ONNX Runtime computes what an export promises, on real inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.records.export import GenerationParityRecord, IntegerParityRecord, ParityRecord
from app.runs.trained import Trained
from supernet.errors import InputError
from supernet.export import Exported, run_torch
from supernet.generation.language_model import TorchModel, find_decoder
from supernet.generation.onnx_decoder import load_decoder
from supernet.graph.integer.integer_simulator import simulate
from supernet.quality.evaluate import choose_batch_size, score_samples
from supernet.space import Architecture

SAMPLES = 256
# Above it the samples are run a batch at a time.
NUMBERS = 1 << 22
LIMIT = 1e-4
# Integers are exact or they are wrong, and wrong by steps: largest and mean difference of outputs,
# relative to how far these spread over the samples, and decisions that may differ.
LARGEST_SHARE, MEAN_SHARE, DECISIONS = 0.25, 0.01, 0.02
# The integer simulator is made to be exact, not fast.
SIMULATED_SAMPLES = 64
# Tokens that a decoder generates, as far as its context holds them after a prompt.
GENERATED = 64


class RuntimeNetwork(nn.Module):
    """An exported model in ONNX Runtime at default options, called like the network it was."""

    def __init__(self, exported: Exported) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            exported.onnx, options, providers=["CPUExecutionProvider"]
        )
        self.name, self.dtype = exported.input_name, exported.input_dtype

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of a prepared batch, on the processor."""
        return torch.from_numpy(self.run(inputs.cpu().numpy()))

    def run(self, inputs: NDArray[np.generic]) -> NDArray[np.float32]:
        """Outputs of a prepared batch."""
        feeds = {self.name: np.ascontiguousarray(inputs).astype(self.dtype)}
        result: NDArray[np.float32] = self.session.run(None, feeds)[0]
        return result


@dataclass(frozen=True)
class _Outputs:
    """Outputs on the same inputs: the runtime's, one sample's of its own, and what they must be."""

    batched: NDArray[np.float32]
    single: NDArray[np.float32]
    torch: NDArray[np.float32]
    simulated: NDArray[np.float32] | None


def compare_outputs(
    trained: Trained, architecture: Architecture, exported: Exported
) -> ParityRecord:
    """Run an export on real inputs, at once and one by one: that proves the dynamic batch, too.

    A float network is compared with torch. One that computes in integers is compared with the
    integer simulator, which does what the kernels do, and its decisions with those of the network
    that was evaluated, which rounds as late as the kernels and adds up in float.

    Args:
        trained: The network's data.
        architecture: What was exported.
        exported: The files.

    Raises:
        RuntimeError: They differ by more than rounding; the message says by how much.
    """
    generation = _compare_generation(trained, exported)
    outputs = _run(trained, architecture, exported)
    expected = outputs.torch if outputs.simulated is None else outputs.simulated
    compared = outputs.batched[: len(expected)]
    difference = np.abs(compared - expected)
    worst = max(float(difference.max()), float(np.abs(outputs.single - expected[:1]).max()))
    spread = float(expected.std(0).mean())
    record = ParityRecord(
        architecture=architecture.digest,
        max_abs_difference=worst,
        limit=LARGEST_SHARE * spread if exported.formats else _limit_floats(expected),
        same_decision=_share_decisions(outputs.batched, outputs.torch),
        samples=len(outputs.batched),
        split="val",
        output_spread=spread,
        onnxruntime=onnxruntime.__version__,
        torch=str(torch.__version__),
        generation=generation,
    )
    if generation is not None and not exported.formats:
        _check_generation(generation, record)
    if outputs.simulated is None:
        if not worst <= record.limit:
            raise RuntimeError(
                f"ONNX Runtime and torch disagree by {worst:.3g} on {architecture.digest}, "
                f"more than {record.limit:.1g}; nothing was exported"
            )
        return record
    integers = IntegerParityRecord(
        samples=len(expected),
        mean_abs_difference=float(difference.mean()),
        equal=float((difference == 0).mean()),
        same_decision=_share_decisions(compared, expected),
    )
    unsafe = {name: found for name, found in exported.saturation.items() if not found.safe}
    remedy = next((found.remedy for found in unsafe.values()), "")
    _check_integers(record, integers, remedy)
    return record.replace(integers=integers)


def score_under_runtime(
    trained: Trained, architecture: Architecture, exported: Exported, split: str
) -> float:
    """The quality of an export on a whole split, as ONNX Runtime computes it.

    Args:
        trained: The network's data.
        architecture: What was exported.
        exported: The files.
        split: ``"train"``, ``"val"`` or ``"test"``.
    """
    network = RuntimeNetwork(exported)
    scores = score_samples(network, trained.supernet, architecture, trained.data, split)
    return float(scores.mean())


def _compare_generation(trained: Trained, exported: Exported) -> GenerationParityRecord | None:
    """Let ONNX Runtime read, one by one, the tokens that torch generates."""
    network = find_decoder(exported.network)
    if not exported.decoder or network is None:
        return None
    window = trained.data.val.inputs[:1].cpu()
    prompt = window[:, : max(1, window.shape[1] - GENERATED)]
    ours = TorchModel(network)
    theirs = load_decoder(exported.decoder, ours.context)
    count = min(GENERATED, ours.context - prompt.shape[1])
    read, same, worst = prompt, 0, 0.0
    past, other_past = ours.start(1), theirs.start(1)
    for _ in range(count):
        logits, past = ours.score(read, past)
        others, other_past = theirs.score(read, other_past)
        worst = max(worst, float((logits - others).abs().max()))
        read = logits[:, -1:].argmax(-1)
        same += int(torch.equal(read, others[:, -1:].argmax(-1)))
    return GenerationParityRecord(
        prompt_tokens=prompt.shape[1],
        tokens=count,
        same_tokens=same / count if count else 1.0,
        max_abs_difference=worst,
    )


def _check_generation(found: GenerationParityRecord, record: ParityRecord) -> None:
    if not found.max_abs_difference <= record.limit:
        raise RuntimeError(
            f"ONNX Runtime and torch disagree by {found.max_abs_difference:.3g} on tokens that "
            f"{record.architecture} generates, more than {record.limit:.1g}; nothing was exported"
        )


def _run(trained: Trained, architecture: Architecture, exported: Exported) -> _Outputs:
    split, supernet = trained.data.val, trained.supernet
    size, simulates = SAMPLES, bool(exported.formats)
    if SAMPLES * math.prod(exported.input_shape) > NUMBERS:
        size = choose_batch_size(supernet, architecture)
    network = RuntimeNetwork(exported)
    ours, theirs, simulated = [], [], []
    for start in range(0, min(SAMPLES, len(split)), size):
        part = slice(start, min(start + size, SAMPLES))
        inputs, _ = split.batch(part, torch.device("cpu"))
        prepared = supernet.prepare(inputs, architecture).contiguous()
        ours.append(run_torch(exported, prepared))
        theirs.append(network.run(prepared.numpy()))
        if start == 0:
            single = network.run(prepared.numpy()[:1])
        left = SIMULATED_SAMPLES - start
        if simulates and left > 0:
            feeds = {exported.input_name: prepared.numpy()[:left].astype(exported.input_dtype)}
            found = simulate(exported.graph, exported.weights, feeds)
            simulated.append(found[exported.output_name])
    return _Outputs(
        np.concatenate(theirs),
        single,
        np.concatenate(ours),
        np.concatenate(simulated) if simulated else None,
    )


def _limit_floats(expected: NDArray[np.float32]) -> float:
    # Logits grow with the task; the limit is relative to them where they are large.
    return LIMIT * max(1.0, float(np.abs(expected).max()))


def _share_decisions(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float((ours.argmax(-1) == theirs.argmax(-1)).mean())


def _check_integers(record: ParityRecord, integers: IntegerParityRecord, remedy: str) -> None:
    """Refuse what no rounding explains.

    Args:
        record: How far outputs are from those of torch.
        integers: How far they are from those that the integers say.
        remedy: What keeps layers from saturating on processors without 8-bit dot products, where
            some of this network can.

    Raises:
        InputError: Outputs or decisions differ, and saturation may be why.
        RuntimeError: They differ, and nothing explains it.
    """
    most = MEAN_SHARE * record.output_spread
    outputs = record.max_abs_difference <= record.limit and integers.mean_abs_difference <= most
    # One sample may always be a tie.
    decisions = all(
        1 - share <= max(DECISIONS, 1 / count)
        for share, count in (
            (integers.same_decision, integers.samples),
            (record.same_decision, record.samples),
        )
    )
    if outputs and decisions:
        return
    said = (
        f"ONNX Runtime {record.onnxruntime} gives other results for {record.architecture} on this "
        f"machine than its integers say: outputs differ by up to {record.max_abs_difference:.3g} "
        f"and {integers.mean_abs_difference:.2g} on average (at most {record.limit:.2g} and "
        f"{most:.2g}), and {1 - record.same_decision:.1%} of {record.samples} decisions are others "
        "than those of the network that was evaluated; nothing was exported"
    )
    if not remedy:
        raise RuntimeError(said)
    raise InputError(
        f"{said}. Sums of pairs in some of its layers can saturate at 16 bits on processors "
        f"without 8-bit dot products; use {remedy}, or export on another processor"
    )

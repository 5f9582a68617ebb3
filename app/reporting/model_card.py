"""The model card of an exported subnetwork: how good, how fast, and how that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.records.evaluation import EvaluationRecord
from app.records.export import LatencyRecord, ParityRecord
from app.records.run import RunRecord
from supernet.data import IMAGES, DataShape
from supernet.quality.export import Exported
from supernet.space import Architecture


@dataclass(frozen=True)
class CardFacts:
    """Everything the card states.

    Args:
        record: Content of the run's ``run.json``.
        shape: What the network was built for.
        checkpoint: Digest of the weights.
        qualities: Evaluation records, by split.
        latency: A measured latency with device and method, or ``None``.
        parity: Content of ``parity.json``.
    """

    record: RunRecord
    shape: DataShape
    checkpoint: str
    qualities: Mapping[str, EvaluationRecord]
    latency: LatencyRecord | None
    parity: ParityRecord


def model_card(architecture: Architecture, exported: Exported, facts: CardFacts) -> str:
    """The card as Markdown."""
    record = facts.record
    choices = "\n".join(f"| {name} | {value} |" for name, value in architecture.to_dict().items())
    return "\n".join(
        [
            f"# Subnetwork {architecture.digest}",
            "",
            f"A network for {facts.shape.task}, taken out of a supernet of family "
            f"{record.family} (preset {record.preset}) with inherited weights, without "
            "retraining.",
            "",
            "| | |",
            "|---|---|",
            f"| Parameters | {exported.parameters:,} |",
            f"| Multiply-adds | {exported.macs:,} |",
            *(_quality_row(facts.qualities[s]) for s in ("test", "val") if s in facts.qualities),
            _latency_row(facts.latency),
            f"| Torch against ONNX Runtime | at most {facts.parity.max_abs_difference:.2g} "
            f"apart over {facts.parity.samples} real inputs |",
            "",
            "## How these figures were obtained",
            "",
            *_methods(exported, facts),
            "",
            "## Use",
            "",
            *_usage(exported, facts.shape),
            "",
            "## Architecture",
            "",
            "| Choice | Value |",
            "|---|---|",
            choices,
            "",
            "## Origin",
            "",
            f"- Data: {record.data.spec}, fingerprint `{record.data.fingerprint[:16]}`",
            f"- Space `{record.space}`, checkpoint `{facts.checkpoint}`, seed {record.seed}",
            f"- Versions: {', '.join(f'{k} {v}' for k, v in record.versions.items())}",
            "",
        ]
    )


def _quality_row(quality: EvaluationRecord) -> str:
    name = f"{quality.objective.capitalize()} ({quality.split} split)"
    return f"| {name} | {quality_text(quality)} |"


def quality_text(quality: EvaluationRecord) -> str:
    """A quality with its 95 % interval: ``97.41 % (95 % interval 94.7 to 98.7 %)``."""
    value, low, high = (quality.value, quality.low, quality.high)
    if value is None:
        return "the evaluation failed"
    if quality.unit == "fraction":
        text, interval = f"{100 * value:.2f} %", None
        if low is not None and high is not None:
            interval = f"{100 * low:.1f} to {100 * high:.1f} %"
    else:
        text, interval = f"{value:.4f} {quality.unit}", None
        if low is not None and high is not None:
            interval = f"{low:.3f} to {high:.3f}"
    return f"{text} (95 % interval {interval})" if interval else text


def _latency_row(latency: LatencyRecord | None) -> str:
    if latency is None:
        return "| Latency | not measured |"
    return (
        f"| Latency, batch 1 | {latency.value:.4g} ms (95 % interval {latency.low:.4g} to "
        f"{latency.high:.4g} ms) on {latency.device} |"
    )


def _methods(exported: Exported, facts: CardFacts) -> list[str]:
    used = exported.calibration_samples
    calibration = (
        f"Normalisation statistics were estimated anew on {used} training samples."
        if used
        else "The network has no normalisation statistics to estimate."
    )
    lines = [f"- {calibration}"]
    for split in ("val", "test"):
        if split in facts.qualities:
            quality = facts.qualities[split]
            use = "used to choose the architecture" if split == "val" else "unseen by the search"
            lines.append(
                f"- {quality.objective.capitalize()} on the {split} split ({use}): "
                f"{quality.samples} samples, torch in float32."
            )
    if facts.latency is not None:
        lines.append(f"- Latency: {facts.latency.method}")
    lines.append("- Parity: outputs of torch and of ONNX Runtime on the same real inputs.")
    return lines


def _usage(exported: Exported, shape: DataShape) -> list[str]:
    dims = ", ".join(map(str, exported.input_shape))
    if shape.task == IMAGES:
        return _image_usage(exported, shape, dims)
    return [
        f"The graph takes int64 token ids as (batch, {dims}) and returns logits as "
        f"(batch, {dims}, {shape.classes}). A token id is a position in `labels.json`, whose "
        "first entry stands for every unknown character.",
        "",
        "```python",
        "import onnxruntime",
        "",
        'session = onnxruntime.InferenceSession("model.onnx")',
        f'logits = session.run(None, {{"{exported.input_name}": tokens}})[0]',
        "```",
    ]


def _image_usage(exported: Exported, shape: DataShape, dims: str) -> list[str]:
    channels, height, width = exported.input_shape
    native = shape.input[1:]
    resize = (
        f"Images must be {height}x{width} pixels, as the training data was."
        if (height, width) == tuple(native)
        else f"Resize images to {height}x{width} with anti-aliased bilinear interpolation, for "
        f"example `image.resize(({width}, {height}), Image.BILINEAR)` of Pillow "
        f"(training data was {native[0]}x{native[1]})."
    )
    mode = "L" if channels == 1 else "RGB"
    array = "pixels[None, None]" if channels == 1 else "pixels.transpose(2, 0, 1)[None]"
    return [
        f"The graph takes float32 pixels in 0...1 as (batch, {dims}), normalises them itself and "
        f"returns logits as (batch, {shape.classes}); class names are in `labels.json`. {resize}",
        "",
        "```python",
        "import json",
        "",
        "import numpy as np",
        "import onnxruntime",
        "from PIL import Image",
        "",
        f'image = Image.open("image.png").convert("{mode}").resize(({width}, {height}), '
        "Image.BILINEAR)",
        "pixels = np.asarray(image, dtype=np.float32) / 255",
        'session = onnxruntime.InferenceSession("model.onnx")',
        f'logits = session.run(None, {{"{exported.input_name}": {array}}})[0]',
        'print(json.load(open("labels.json"))[int(logits.argmax())])',
        "```",
    ]

"""The model card of an exported subnetwork: how good, how fast, and how that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import getsource

from app.records.class_balance import LargestClass
from app.records.evaluation import EvaluationRecord
from app.records.export import LatencyRecord, ParityRecord, PrecisionFacts, StorageRecord
from app.records.finetune import TuningRecord
from app.records.formats import count_formats
from app.records.quantities import find_stored_quantity
from app.records.run import CHARACTERS, RunRecord
from app.reporting.class_balance import describe_balance, warn_of_largest_class
from app.reporting.markdown import Markdown, render_markdown
from supernet.data import IMAGES, DataShape
from supernet.data.image_pixels import read_pixels, resize_pixels
from supernet.export import Exported
from supernet.space import Architecture


@dataclass(frozen=True)
class CardFacts:
    """Everything the card states.

    Args:
        record: Content of the run's ``run.json``.
        shape: What the network was built for.
        checkpoint: Digest of the weights of the supernet.
        qualities: Evaluation records, by split.
        latency: A measured latency with device and method, or ``None``.
        parity: Content of ``parity.json``.
        storage: Bytes as promised and as written.
        largest: The most frequent class of splits that have classes, by split.
        precision: What the network is made of that computes in integers; ``None`` for float.
        tuning: How the weights were fine-tuned; ``None`` for inherited ones.
        bits_per_byte: Losses of a text in a unit that does not depend on its tokens, by split.
    """

    record: RunRecord
    shape: DataShape
    checkpoint: str
    qualities: Mapping[str, EvaluationRecord]
    latency: LatencyRecord | None
    parity: ParityRecord
    storage: StorageRecord
    largest: Mapping[str, LargestClass] = field(default_factory=dict)
    precision: PrecisionFacts | None = None
    tuning: TuningRecord | None = None
    bits_per_byte: Mapping[str, float] = field(default_factory=dict)


def write_model_card(architecture: Architecture, exported: Exported, facts: CardFacts) -> str:
    """The card as Markdown.

    Args:
        architecture: What was exported.
        exported: The network and its files.
        facts: How good and how fast it is, and where it comes from.
    """
    shape, data = facts.shape, facts.record.data
    # Images are resized to a square that those of equal sides have already.
    square = shape.input[-1] if len(set(shape.input[1:])) == 1 else None
    return render_markdown(
        "model_card.md.jinja",
        architecture=architecture,
        exported=exported,
        record=facts.record,
        shape=shape,
        checkpoint=facts.checkpoint,
        qualities=facts.qualities,
        described={name: describe_quality(found) for name, found in facts.qualities.items()},
        latency=facts.latency,
        parity=facts.parity,
        storage=facts.storage,
        precision=facts.precision,
        tuning=facts.tuning,
        inherited=_describe_inherited(facts.tuning),
        counted="" if facts.precision is None else count_formats(facts.precision.formats),
        runtime_quality="" if facts.precision is None else _show_runtime_quality(facts.precision),
        balances=_describe_balances(facts),
        warnings=_list_warnings(facts),
        images=IMAGES,
        from_files=data.spec.startswith(("folder:", "text:")) and data.tokens == CHARACTERS,
        symbols=data.spec.startswith("text:") and data.tokens != CHARACTERS,
        bits=facts.bits_per_byte,
        crop=data.image_size or square,
        resized=exported.input_shape[1:] != shape.input[1:],
        read_pixels=Markdown(getsource(read_pixels).strip()),
        resize_pixels=Markdown(getsource(resize_pixels).strip()),
    )


def _show_runtime_quality(facts: PrecisionFacts) -> str:
    return find_stored_quantity(facts.objective).show(facts.value)


def _describe_inherited(tuning: TuningRecord | None) -> dict[str, str]:
    """Qualities that a fine-tuned network had before, by split."""
    before = {} if tuning is None else tuning.before
    return {split: describe_quality(found) for split, found in before.items()}


def _describe_balances(facts: CardFacts) -> dict[str, str]:
    """Balanced accuracy and largest class of the splits where one class is frequent."""
    found = {
        split: describe_balance(largest, facts.qualities[split].balanced)
        for split, largest in facts.largest.items()
        if split in facts.qualities
    }
    return {split: clause for split, clause in found.items() if clause}


def _list_warnings(facts: CardFacts) -> list[str]:
    """What makes an accuracy of the card worthless, a sentence for each split."""
    found = (
        warn_of_largest_class(largest, [facts.qualities[split].value], "this network is no")
        for split, largest in facts.largest.items()
        if split in facts.qualities
    )
    return [warning.removeprefix("warning: ") for warning in found if warning]


def describe_quality(quality: EvaluationRecord) -> str:
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

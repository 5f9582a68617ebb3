"""The folder of an export: the files, the card and the proof that they are the network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.jobs.parity import compare_outputs, score_under_runtime
from app.progress import Say, Step
from app.records.evaluation import EvaluationRecord
from app.records.export import LatencyRecord, ParityRecord, PrecisionFacts, StorageRecord
from app.records.finetune import TuningRecord
from app.records.formats import read_formats
from app.records.quantities import find_stored_quantity
from app.records.searches.front import Front, read_front, value_or
from app.records.typed_json.record_files import write_record
from app.records.vocabulary import FILE as VOCABULARY
from app.reporting.model_card import CardFacts, write_model_card
from app.runs.class_balance import describe_largest_class
from app.runs.directory import Run
from app.runs.latency_table import measure_one
from app.runs.trained import Trained
from app.runs.vocabulary import write_vocabulary
from hardware.fusion_probe import probe_contract
from supernet import files
from supernet.costs.enumeration import measure_size
from supernet.data import DataSource
from supernet.errors import InputError
from supernet.export import ARCHITECTURE, DECODER, ONNX, WEIGHTS, Exported, write_files
from supernet.graph.fusion.plan import FLOAT, plan_operators
from supernet.graph.quantized.overhead import itemise_overhead
from supernet.space import Architecture

CARD, PARITY, LABELS = "card.md", "parity.json", "labels.json"
OURS = frozenset((ONNX, DECODER, WEIGHTS, ARCHITECTURE, CARD, PARITY, LABELS, VOCABULARY))


@dataclass(frozen=True)
class Proof:
    """That ONNX Runtime computes what an export promises.

    Args:
        parity: How far its outputs agree.
        precision: What an export in integers is made of; ``None`` for one in float.
    """

    parity: ParityRecord
    precision: PrecisionFacts | None


@dataclass(frozen=True)
class Written:
    """What was found while an export was written.

    Args:
        latency: A measured latency.
        storage: Bytes as promised and as written.
    """

    latency: LatencyRecord | None
    storage: StorageRecord


def prove(trained: Trained, architecture: Architecture, exported: Exported, say: Say) -> Proof:
    """Run an export in ONNX Runtime beside torch.

    Args:
        trained: The run's supernet, and its data.
        architecture: What was exported.
        exported: The files; their weights may be others than the supernet's.
        say: Told about progress.

    Raises:
        RuntimeError: They disagree.
    """
    say(Step(f"export {architecture.digest}: comparing outputs with ONNX Runtime's", passing=True))
    parity = compare_outputs(trained, architecture, exported)
    return Proof(parity, _describe_precision(trained, architecture, exported))


def write_export(
    trained: Trained,
    architecture: Architecture,
    exported: Exported,
    proof: Proof,
    qualities: Mapping[str, EvaluationRecord],
    target: Path,
    say: Say,
    *,
    tuning: TuningRecord | None = None,
) -> Written:
    """Write the folder of an export, complete or not at all.

    Args:
        trained: The run's supernet, and its data.
        architecture: What was exported.
        exported: The files.
        proof: Of :func:`prove`.
        qualities: Evaluations of the exported weights, by split.
        target: The folder; an older export there is replaced.
        say: Told about progress.
        tuning: How the weights were fine-tuned; ``None`` for inherited ones.

    Raises:
        OSError: The disk is full; what was there is as it was.
    """
    classes = {split: describe_largest_class(trained.data, split) for split in qualities}
    latency = _find_latency(trained, architecture, say)
    say(Step(f"export {architecture.digest}: writing", passing=True))
    with files.new_folder(target) as temporary:
        write_files(temporary, exported, architecture)
        storage = _measure_storage(trained, architecture, exported, temporary)
        facts = CardFacts(
            trained.run.record,
            trained.shape,
            trained.checkpoint.digest,
            qualities,
            latency,
            proof.parity,
            storage,
            {split: found for split, found in classes.items() if found is not None},
            proof.precision,
            tuning,
            _count_bits(trained.data, qualities),
        )
        write_record(temporary / PARITY, proof.parity)
        files.write_json(temporary / LABELS, list(trained.shape.labels))
        write_vocabulary(temporary, trained.data.vocabulary)
        files.write_text(temporary / CARD, write_model_card(architecture, exported, facts))
    return Written(latency, storage)


def _count_bits(data: DataSource, qualities: Mapping[str, EvaluationRecord]) -> dict[str, float]:
    found = {
        split: data.count_bits_per_byte(quality.value, split)
        for split, quality in qualities.items()
    }
    return {split: bits for split, bits in found.items() if bits is not None}


def _measure_storage(
    trained: Trained, architecture: Architecture, exported: Exported, folder: Path
) -> StorageRecord:
    """Bytes that the costs promise, beside those of the files in a folder."""
    promised = measure_size(trained.supernet, architecture, exported.network)
    names = (ONNX, DECODER, WEIGHTS) if exported.decoder else (ONNX, WEIGHTS)
    written = {name: (folder / name).stat().st_size for name in names}
    if exported.formats:
        overhead = itemise_overhead(exported.onnx, exported.graph)
        return StorageRecord(
            promised=promised, tensors=exported.size_bytes, files=written, overhead=overhead
        )
    floating = (v for v in exported.weights.values() if np.issubdtype(v.dtype, np.floating))
    return StorageRecord(
        promised=promised, tensors=sum(value.nbytes for value in floating), files=written
    )


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an export, which alone may be replaced.

    Raises:
        InputError: It holds other files, or is one.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file; an export needs a folder")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names - OURS:
        raise InputError(
            f"{folder} holds other files ({', '.join(sorted(names - OURS)[:3])}); "
            "choose a new or empty folder"
        )


def find_target(run: Run, folder: Path) -> Path:
    """Find where the files of an export go: a link to a folder is followed, but not within a run.

    Raises:
        InputError: There is a link on the way from the run to the folder.
    """
    root, absolute = Path(os.path.abspath(run.path)), Path(os.path.abspath(folder))
    if absolute.is_relative_to(root):
        Run(root).check_links(absolute)
        files.remove_partial(folder.parent)
        return folder
    return folder.resolve() if folder.is_symlink() else folder


def _describe_precision(
    trained: Trained, architecture: Architecture, exported: Exported
) -> PrecisionFacts | None:
    """What an export in integers is made of; ``None`` for one in float."""
    if not exported.formats:
        return None
    plan = plan_operators(exported.graph, probe_contract(), weights=exported.weights)
    # Units whose format is float are no surprise.
    islands = tuple(island for island in plan.islands if island.reason != FLOAT)
    unsafe = {name: found for name, found in exported.saturation.items() if not found.safe}
    return PrecisionFacts(
        formats=read_formats(architecture.to_dict()),
        islands=tuple(replace(plan, islands=islands).explain()),
        unsafe={name: found.unsafe_pairs / found.pairs for name, found in unsafe.items()},
        layers=len(exported.saturation),
        remedy=next((found.remedy for found in unsafe.values()), ""),
        split="test",
        objective=trained.quality,
        value=score_under_runtime(trained, architecture, exported, "test"),
    )


def _find_latency(trained: Trained, architecture: Architecture, say: Say) -> LatencyRecord | None:
    """The latency a search verified, else one measured now on this machine's processor."""
    run = trained.run
    for name in run.searches:
        try:
            front = read_front(run.search(name))
        except (OSError, InputError) as error:
            say(f"warning: {error}")
            continue
        if front.checkpoint == trained.checkpoint.digest:
            found = _measured_latency(front, architecture.digest)
            if found is not None:
                return found
    say(f"export {architecture.digest}: measuring latency on this processor")
    return measure_one(trained.supernet.graph(architecture))


def _measured_latency(front: Front, digest: str) -> LatencyRecord | None:
    for point in front.points:
        for name, estimate in point.estimates.items() if point.digest == digest else ():
            quantity, value = find_stored_quantity(name), estimate.value
            measured = quantity.per_device and estimate.source == "measured"
            if measured and value is not None:
                return LatencyRecord(
                    value=value,
                    low=value_or(value, estimate.low),
                    high=value_or(value, estimate.high),
                    device=quantity.device or front.device,
                    method=front.latency_method or "",
                )
    return None

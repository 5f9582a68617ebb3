"""Exporting as a job: one architecture as a folder that proves itself against ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.evaluation.log import EvaluationLog, find_architecture
from app.jobs.outcomes import ExportOutcome
from app.jobs.parity import compare_outputs, score_under_runtime
from app.progress import Say, Step
from app.records.export import LatencyRecord, PrecisionFacts, StorageRecord
from app.records.formats import read_formats
from app.records.quantities import find_stored_quantity
from app.records.searches.front import Front, read_front, value_or
from app.records.typed_json.record_files import write_record
from app.reporting.model_card import CardFacts, write_model_card
from app.runs.class_balance import describe_largest_class
from app.runs.directory import Run, open_run
from app.runs.latency_table import measure_one
from app.runs.trained import Trained, open_trained
from hardware.fusion_probe import probe_contract
from supernet import files
from supernet.costs.enumeration import measure_size
from supernet.errors import InputError
from supernet.export import ARCHITECTURE, ONNX, WEIGHTS, Exported, export, write_files
from supernet.graph.fusion.plan import FLOAT, plan_operators
from supernet.graph.quantized.overhead import itemise_overhead
from supernet.space import Architecture

CARD, PARITY, LABELS = "card.md", "parity.json", "labels.json"
_OURS = {ONNX, WEIGHTS, ARCHITECTURE, CARD, PARITY, LABELS}


def export_job(
    run: Path,
    architecture: str,
    out: Path | None,
    say: Say,
    *,
    data: str | None = None,
    trust: Sequence[str] = (),
) -> ExportOutcome:
    """Write one architecture of a run as ONNX, safetensors, JSON, model card and parity proof.

    Args:
        run: The run directory.
        architecture: Digest, ``smallest``, ``largest`` or a JSON file.
        out: The folder to write; by default ``RUN/exports/DIGEST``.
        say: Told about progress.
        data: Where the data of the run are now, if they moved; recorded in the run.
        trust: Dotted paths of the user's own modules that files of the run may name.

    Raises:
        InputError: Unknown architecture, or ``out`` holds something else.
        RuntimeError: ONNX Runtime and torch disagree; nothing is written.
    """
    opened = open_run(run, trust)
    trained = open_trained(opened, say, data)
    chosen = find_architecture(opened, trained.supernet.space, architecture)
    folder = Path(out) if out is not None else opened.export(chosen.digest)
    _check_folder(folder)
    target = _find_target(opened, folder)
    source = trained.data
    task = f"export {chosen.digest}"
    say(f"{task}: extracting and recalibrating")
    say(Step(task, passing=True))
    exported = export(trained.supernet, chosen, source, estimator=trained.estimator)
    say(Step(f"{task}: comparing outputs with ONNX Runtime's", passing=True))
    parity = compare_outputs(trained, chosen, exported)
    precision = _describe_precision(trained, chosen, exported)
    say(Step(f"{task}: evaluating", passing=True))
    log = EvaluationLog(trained, say)
    if log.find(chosen, "val") is None:
        with opened.writing():
            log.evaluate(chosen, "val")
    found = {split: log.find(chosen, split) for split in ("val", "test")}
    qualities = {split: record for split, record in found.items() if record is not None}
    classes = {split: describe_largest_class(trained.data, split) for split in qualities}
    largest = {split: found for split, found in classes.items() if found is not None}
    latency = _find_latency(opened, trained, chosen, say)
    say(Step(f"{task}: writing", passing=True))
    checkpoint = trained.checkpoint.digest
    with files.new_folder(target) as temporary:
        write_files(temporary, exported, chosen)
        storage = _measure_storage(trained, chosen, exported, temporary)
        facts = CardFacts(
            opened.record,
            trained.shape,
            checkpoint,
            qualities,
            latency,
            parity,
            storage,
            largest,
            precision,
        )
        write_record(temporary / PARITY, parity)
        files.write_json(temporary / LABELS, list(trained.shape.labels))
        files.write_text(temporary / CARD, write_model_card(chosen, exported, facts))
    quality = qualities.get("test", qualities["val"])
    return ExportOutcome(
        folder=folder,
        digest=chosen.digest,
        parameters=exported.parameters,
        macs=exported.macs,
        objective=quality.objective,
        value=quality.value,
        split=quality.split,
        latency_ms=None if latency is None else latency.value,
        max_abs_difference=parity.max_abs_difference,
        size_bytes=storage.promised,
        tensor_bytes=storage.tensors,
        file_bytes=storage.files,
        formats={} if precision is None else precision.formats,
        overhead_bytes=sum(storage.overhead.values()),
        runtime_value=None if precision is None else precision.value,
        islands=() if precision is None else precision.islands,
        unsafe_layers=() if precision is None else tuple(precision.unsafe),
    )


def _measure_storage(
    trained: Trained, architecture: Architecture, exported: Exported, folder: Path
) -> StorageRecord:
    """Bytes that the costs promise, beside those of the files in a folder."""
    promised = measure_size(trained.supernet, architecture, exported.network)
    written = {name: (folder / name).stat().st_size for name in (ONNX, WEIGHTS)}
    if exported.formats:
        overhead = itemise_overhead(exported.onnx, exported.graph)
        return StorageRecord(
            promised=promised, tensors=exported.size_bytes, files=written, overhead=overhead
        )
    floating = (v for v in exported.weights.values() if np.issubdtype(v.dtype, np.floating))
    return StorageRecord(
        promised=promised, tensors=sum(value.nbytes for value in floating), files=written
    )


def _check_folder(folder: Path) -> None:
    """An export may replace an export, and nothing else."""
    if folder.is_file():
        raise InputError(f"{folder} is a file; an export needs a folder")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names - _OURS:
        raise InputError(
            f"{folder} holds other files ({', '.join(sorted(names - _OURS)[:3])}); "
            "choose a new or empty folder"
        )


def _find_target(run: Run, folder: Path) -> Path:
    """Where the files of an export go: a link to a folder is followed, but not within the run.

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


def _find_latency(
    run: Run, trained: Trained, architecture: Architecture, say: Say
) -> LatencyRecord | None:
    """The latency a search verified, else one measured now on this machine's processor."""
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

"""Exporting as a job: one architecture as a folder that proves itself against ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from app.evaluation.log import EvaluationLog, find_architecture
from app.jobs.outcomes import ExportOutcome
from app.records.export import LatencyRecord, ParityRecord
from app.records.front import Front, read_front, value_or
from app.records.quantities import find_stored_quantity
from app.records.typed_json.record_files import write_record
from app.reporting.model_card import CardFacts, write_model_card
from app.runs.directory import Run, open_run
from app.runs.latency_table import measure_one
from app.runs.trained import Say, Trained, open_trained
from supernet import files
from supernet.errors import InputError
from supernet.export import ARCHITECTURE, ONNX, WEIGHTS, Exported, export, run_torch, write_files
from supernet.space import Architecture

CARD, PARITY, LABELS = "card.md", "parity.json", "labels.json"
PARITY_SAMPLES = 256
PARITY_LIMIT = 1e-4
_OURS = {ONNX, WEIGHTS, ARCHITECTURE, CARD, PARITY, LABELS}


def export_job(
    run: Path, architecture: str, out: Path | None, say: Say, *, trust: Sequence[str] = ()
) -> ExportOutcome:
    """Write one architecture of a run as ONNX, safetensors, JSON, model card and parity proof.

    Args:
        run: The run directory.
        architecture: Digest, ``smallest``, ``largest`` or a JSON file.
        out: The folder to write; by default ``RUN/exports/DIGEST``.
        say: Told about progress.
        trust: Dotted paths of the user's own modules that files of the run may name.

    Raises:
        ValueError: Unknown architecture, or ``out`` holds something else.
        RuntimeError: ONNX Runtime and torch disagree; nothing is written.
    """
    opened = open_run(run, trust)
    trained = open_trained(opened, say)
    chosen = find_architecture(opened, trained.supernet.space, architecture)
    folder = Path(out) if out is not None else opened.export(chosen.digest)
    _check_folder(folder)
    target = _find_target(opened, folder)
    say(f"export {chosen.digest}: extracting and recalibrating")
    exported = export(trained.supernet, chosen, trained.data)
    parity = _compare_outputs(trained, chosen, exported)
    log = EvaluationLog(trained)
    if log.find(chosen, "val") is None:
        with opened.writing():
            log.evaluate(chosen, "val")
    found = {split: log.find(chosen, split) for split in ("val", "test")}
    qualities = {split: record for split, record in found.items() if record is not None}
    latency = _find_latency(opened, trained, chosen, say)
    checkpoint = trained.checkpoint.digest
    facts = CardFacts(opened.record, trained.shape, checkpoint, qualities, latency, parity)
    with files.new_folder(target) as temporary:
        write_files(temporary, exported, chosen)
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
        ValueError: There is a link on the way from the run to the folder.
    """
    root, absolute = Path(os.path.abspath(run.path)), Path(os.path.abspath(folder))
    if absolute.is_relative_to(root):
        Run(root).check_links(absolute)
        files.remove_partial(folder.parent)
        return folder
    return folder.resolve() if folder.is_symlink() else folder


def _compare_outputs(
    trained: Trained, architecture: Architecture, exported: Exported
) -> ParityRecord:
    """Run both on real inputs, at once and one by one, so that the dynamic batch is proven too."""
    import onnxruntime

    split = trained.data.val
    inputs, _ = split.batch(slice(0, PARITY_SAMPLES), torch.device("cpu"))
    prepared = trained.supernet.prepare(inputs, architecture).contiguous()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        exported.onnx, options, providers=["CPUExecutionProvider"]
    )
    expected = run_torch(exported, prepared)
    feeds = prepared.numpy().astype(exported.input_dtype)
    batched = session.run(None, {exported.input_name: feeds})[0]
    single = session.run(None, {exported.input_name: feeds[:1]})[0]
    difference = float(np.abs(batched - expected).max())
    one = float(np.abs(single - expected[:1]).max())
    # Logits grow with the task; the limit is relative to them where they are large.
    limit = PARITY_LIMIT * max(1.0, float(np.abs(expected).max()))
    worst = max(difference, one)
    if not worst <= limit:
        raise RuntimeError(
            f"ONNX Runtime and torch disagree by {worst:.3g} on {architecture.digest}, "
            f"more than {limit:.1g}; nothing was exported"
        )
    same = expected.argmax(-1) == batched.argmax(-1)
    return ParityRecord(
        architecture=architecture.digest,
        max_abs_difference=worst,
        limit=limit,
        same_decision=float(same.mean()),
        samples=len(feeds),
        split="val",
        output_spread=float(expected.std(0).mean()),
        onnxruntime=onnxruntime.__version__,
        torch=str(torch.__version__),
    )


def _find_latency(
    run: Run, trained: Trained, architecture: Architecture, say: Say
) -> LatencyRecord | None:
    """The latency a search verified, else one measured now on this machine's processor."""
    for name in run.searches:
        front = read_front(run.search(name))
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

"""Exporting as a job: one architecture as a folder that proves itself against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.evaluation.log import EvaluationLog, find_architecture
from app.jobs.export_files import check_folder, find_target, prove, write_export
from app.jobs.outcomes import ExportOutcome
from app.progress import Say, Step
from app.runs.directory import open_run
from app.runs.trained import open_trained
from supernet.export import export


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
    check_folder(folder)
    target = find_target(opened, folder)
    source = trained.data
    task = f"export {chosen.digest}"
    say(f"{task}: extracting and recalibrating")
    say(Step(task, passing=True))
    exported = export(trained.supernet, chosen, source, estimator=trained.estimator)
    proof = prove(trained, chosen, exported, say)
    say(Step(f"{task}: evaluating", passing=True))
    log = EvaluationLog(trained, say)
    if log.find(chosen, "val") is None:
        with opened.writing():
            log.evaluate(chosen, "val")
    found = {split: log.find(chosen, split) for split in ("val", "test")}
    qualities = {split: record for split, record in found.items() if record is not None}
    written = write_export(trained, chosen, exported, proof, qualities, target, say)
    latency, storage, precision = written.latency, written.storage, proof.precision
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
        max_abs_difference=proof.parity.max_abs_difference,
        size_bytes=storage.promised,
        tensor_bytes=storage.tensors,
        file_bytes=storage.files,
        formats={} if precision is None else precision.formats,
        overhead_bytes=sum(storage.overhead.values()),
        runtime_value=None if precision is None else precision.value,
        islands=() if precision is None else precision.islands,
        unsafe_layers=() if precision is None else tuple(precision.unsafe),
    )

"""Evaluating as a job: the real quality of one architecture on one split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.evaluation.log import EvaluationLog, find_architecture
from app.jobs.outcomes import EvaluateOutcome
from app.progress import Say, Step
from app.runs.class_balance import describe_largest_class
from app.runs.directory import open_run
from app.runs.trained import open_other_data, open_trained
from supernet.data import SPLITS
from supernet.errors import InputError
from supernet.quality.evaluate import evaluate
from supernet.space import nearest


def evaluate_job(
    run: Path,
    architecture: str,
    say: Say,
    *,
    split: str = "val",
    data: str | None = None,
    batch_size: int | None = None,
    trust: Sequence[str] = (),
) -> EvaluateOutcome:
    """Extract one architecture, recalibrate it and run it on a split.

    Args:
        run: The run directory.
        architecture: Digest, ``smallest``, ``largest`` or a JSON file.
        say: Told about progress.
        split: ``"train"``, ``"val"`` or ``"test"``.
        data: Other data than the run's; its classes must be the same. Not stored in the run.
        batch_size: Samples at a time, for other data; by default as many as fit comfortably.
        trust: Dotted paths of the user's own modules that files of the run may name.

    Raises:
        InputError: Unknown architecture or split, or data that does not fit the network.
    """
    if split not in SPLITS:
        raise InputError(
            f"unknown split {split!r}{nearest(split, SPLITS)}; splits are {', '.join(SPLITS)}"
        )
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch size {batch_size} cannot work; it must be at least 1")
    opened = open_run(run, trust)
    trained = open_trained(opened, say)
    chosen = find_architecture(opened, trained.supernet.space, architecture)
    supernet = trained.supernet
    counts = (supernet.parameter_count(chosen), supernet.macs(chosen))
    evaluating = Step(f"evaluating {chosen.digest} on {split}", passing=True)
    if data is None and batch_size is None:
        own = trained.data
        say(evaluating)
        log = EvaluationLog(trained, say)
        record = log.find(chosen, split)
        if record is None:
            # A run that is only read needs no lock, and may lie on a read-only disk.
            with opened.writing():
                record = log.evaluate(chosen, split)
        return EvaluateOutcome(
            opened.path,
            chosen.digest,
            own.spec,
            split,
            record.objective,
            record.unit,
            record.value,
            record.low,
            record.high,
            record.samples,
            record.calibrated_on,
            *counts,
            balanced=record.balanced,
            largest_class=describe_largest_class(own, split),
            failure=record.failure,
            bits_per_byte=own.count_bits_per_byte(record.value, split),
        )
    source = trained.data if data is None else open_other_data(data, trained)
    say(evaluating)
    result = evaluate(
        supernet, chosen, source, split, batch_size=batch_size, estimator=trained.estimator
    )
    return EvaluateOutcome(
        opened.path,
        chosen.digest,
        source.spec,
        split,
        result.objective,
        result.unit,
        result.value,
        result.low,
        result.high,
        result.samples,
        result.calibration_samples,
        *counts,
        balanced=result.balanced,
        largest_class=describe_largest_class(source, split),
        bits_per_byte=source.count_bits_per_byte(result.value, split),
    )

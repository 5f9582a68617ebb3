"""Trainings that diverged: what to change, and how their runs give way to another try."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.records.run import RunIdentity
from app.records.typed_json.record_files import write_record
from app.records.vocabulary import FILE as VOCABULARY
from app.runs.directory import Run, find_differences
from supernet.errors import DivergedError

DIVERGED = "diverged"
# Clearly lower: a training that is only just stable helps nobody either.
_LOWER = 10


def suggest_rate(learning_rate: float) -> str:
    """A learning rate that is clearly lower, as people write it: ``0.02`` instead of ``0.2``."""
    return f"{learning_rate / _LOWER:.1g}"


def explain_divergence(error: DivergedError, out: Path, learning_rate: float) -> DivergedError:
    """What happened to the training of a run, and the flag that helps.

    Args:
        error: As the training raised it.
        out: The run directory.
        learning_rate: What it was trained with.
    """
    return DivergedError(
        error.found,
        f"give the command --learning-rate {suggest_rate(learning_rate)} instead of "
        f"{learning_rate:g}, and {out} begins anew with it",
    )


def explain_part(error: DivergedError, title: str, learning_rate: float) -> DivergedError:
    """What happened to a training that takes parts of a recipe, and the flags that help.

    Args:
        error: As the training raised it.
        title: What the training is called.
        learning_rate: What it was trained with.
    """
    return DivergedError(
        f"{title}: {error.found}",
        f"add --replace --recipe-part learning_rate={suggest_rate(learning_rate)} to train with "
        f"less than {learning_rate:g}, or --replace --recipe-part clip_norm=1",
    )


def clear_diverged(path: Path, identity: RunIdentity) -> bool:
    """Remove a training that diverged from its run, when another one is to take its place.

    Nothing of use is lost: what has diverged does so again at the same step. A profile stays when
    the networks stay the same; a run that holds anything for other networks is left alone.

    Args:
        path: The run directory.
        identity: What is to be trained there.

    Returns:
        Whether there was such a training.
    """
    if not (path / "run.json").exists():
        return False
    run = Run(path)
    record = run.record
    stage = record.stages.get("train")
    if stage is None or stage.status != DIVERGED or not find_differences(record, identity):
        return False
    others = {name: stage for name, stage in record.stages.items() if name != "train"}
    same = (record.family_config, record.space) == (identity.family_config, identity.space)
    if others and not same:
        return False
    with run.writing():
        # Another command may have begun it anew before this one had the lock.
        if not (path / "run.json").exists() or run.record != record:
            return False
        run.check_links(run.checkpoints)
        if run.checkpoints.exists():
            shutil.rmtree(run.checkpoints)
        (path / "metrics.jsonl").unlink(missing_ok=True)
        (path / VOCABULARY).unlink(missing_ok=True)
        # The record changes last: as long as it says so, the rest is what may be removed.
        if others:
            write_record(path / "run.json", record.replace(**dict(identity), stages=others))
        else:
            (path / "space.json").unlink(missing_ok=True)
            (path / "run.json").unlink()
    return True

"""Quantizing as a job: the weights of a float run in a run whose units may compute in integers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.jobs.outcomes import QuantizeOutcome
from app.progress import Say, Step
from app.records.run import CALIBRATED, RunIdentity, SourceRecord
from app.records.typed_json.record import to_json
from app.runs.command_lines import list_own_modules, train_from_command
from app.runs.directory import Run, check_same_run, open_run, writing_run
from app.runs.origin import Origin, open_origin, take_weights
from app.runs.precision import read_precision, show_policy, was_trained_in_float
from app.runs.trained import build_extended
from app.runs.vocabulary import copy_vocabulary
from supernet import checkpoints
from supernet.checkpoints import WEIGHTS
from supernet.errors import InputError
from supernet.supernet import Supernet

FORMAT = "supernet"


@dataclass(frozen=True, kw_only=True)
class QuantizeRequest:
    """What to quantize.

    Args:
        run: A run whose training in float is complete, its units offering formats or not; it
            stays as it is.
        out: The run directory to make.
        precision: Number formats that units may compute in, such as ``"fp32,int8"``.
        calibration: How ranges of activations follow from their values, one of
            :data:`supernet.quantization.calibration.ESTIMATORS`; ``None`` for what is usual.
        trust: Dotted paths of the user's own modules that files of the run may name.
    """

    run: Path
    out: Path
    precision: str
    calibration: str | None = None
    trust: tuple[str, ...] = ()


def quantize_job(request: QuantizeRequest, say: Say) -> QuantizeOutcome:
    """Write a run with the same weights whose units choose their number format, without training.

    Ranges of activations are found by calibration whenever a subnetwork is evaluated or exported,
    each for itself: those of one architecture are wrong for the next. So joint search of
    architecture and precision needs no more than this (SimQ-NAS, arXiv 2312.13301).

    Args:
        request: What to quantize.
        say: Told about progress, and about damaged checkpoints that were passed over.

    Raises:
        InputError: The run is not trained, or was trained for number formats; unknown formats, or
            some that no unit can compute in; or ``out`` holds another run.
    """
    say(Step("building the network", passing=True))
    precision = read_precision(request.precision, CALIBRATED, request.calibration)
    origin = open_origin(request.run, say, request.trust)
    before = origin.run.record
    if not was_trained_in_float(before):
        raise InputError(
            f"the weights of {request.run} were trained for {show_policy(before.precision)}, and "
            "only those of a training in float can be quantized; run: "
            f"{train_from_command(request.run, precision.policy, request.trust)}"
        )
    supernet = build_extended(origin.run, precision)
    take_weights(supernet, origin.read_weights(), request.run)
    given = {name: getattr(before, name) for name in RunIdentity.model_fields}
    kept = {name: value for name, value in given.items() if value is not None}
    identity = RunIdentity(
        **{
            **kept,
            "precision": precision,
            "origin": origin.record,
            "space": supernet.space.digest,
        }
    )
    say(Step(f"writing {request.out}", passing=True))
    digest = _write(request.out, identity, supernet, origin)
    return QuantizeOutcome(
        run=request.out,
        source=request.run,
        precision=precision.policy,
        calibration=precision.calibration,
        checkpoint=digest,
        space_size=supernet.space.size,
        trust=list_own_modules(identity),
    )


def _write(out: Path, identity: RunIdentity, supernet: Supernet, origin: Origin) -> str:
    """The checkpoint's digest; nothing is written again by the same command."""
    if (out / "run.json").exists() and (out / "space.json").exists():
        # What is only read needs no lock, and may lie on a read-only disk.
        there = open_run(out)
        check_same_run(out, there.record, identity)
        known = _find_complete(there)
        if known is not None:
            return known
    with writing_run(out, identity, supernet.space) as run:
        known = _find_complete(run)
        if known is not None:
            return known
        copy_vocabulary(origin.run, run)
        source = SourceRecord(
            format=FORMAT,
            file=origin.run.path.name,
            sha256=origin.checkpoint.state["sha256"][WEIGHTS],
        )
        state = supernet.state_dict()
        written = checkpoints.write(run.checkpoints, 0, state, {}, {"source": to_json(source)})
        run.set_stage(
            "train",
            "complete",
            checkpoint=written.digest,
            steps=0,
            seconds=0.0,
            source=to_json(source),
        )
        return written.digest


def _find_complete(run: Run) -> str | None:
    """The digest of the checkpoint that was written before, if it was."""
    stage = run.stage("train")
    return stage.checkpoint if stage is not None and stage.complete else None

"""Making a float run offer the number formats that a command asks for."""

from __future__ import annotations

from app.records.run import CALIBRATED
from app.runs.command_lines import quantize_command
from app.runs.directory import Run, keep_space
from app.runs.precision import offers, read_precision, show_policy
from app.runs.trained import Say, build_extended
from supernet.errors import InputError
from supernet.quantization.formats import FP32

# What belongs to the space of a run and to no other.
_RESULTS = ("evaluations.jsonl", "devices", "searches", "audits", "exports")


def offer_precision(run: Run, asked: str | None, say: Say) -> None:
    """Let the units of a run choose among the formats that a command asks for, if they may not yet.

    A float run that nothing was done with since its training becomes elastic in precision in its
    place: its weights are as they were, and its training is continued as before. What was
    evaluated, measured or found belongs to the space it was found in, so that a run with results
    is left alone.

    Args:
        run: A run, which this process has not locked.
        asked: As a user writes it; ``None`` for what the run offers.
        say: Told what has become of the run.

    Raises:
        InputError: The formats are unknown, or the run offers others and has results; the message
            has the command that makes a run of the same weights with the formats.
    """
    record = run.record
    if asked is None or offers(record.precision, asked):
        return
    if asked.strip() == FP32.name:
        raise InputError(
            f"the units of {run.path} choose among {show_policy(record.precision)}, so that fp32 "
            "alone is not enough; leave out --precision"
        )
    wanted = read_precision(asked, CALIBRATED)
    stage = run.stage("train")
    if record.precision is not None or stage is None or not stage.complete or _has_results(run):
        origin = run.path if record.precision is None else _find_float(run)
        raise InputError(
            f"the units of {run.path} compute in {show_policy(record.precision)}, not in "
            f"{wanted.policy}; "
            + (
                f"run: {quantize_command(origin, wanted.policy, run.trusted)}"
                if origin is not None
                else "train another run with these formats as --precision"
            )
        )
    supernet = build_extended(run, wanted)
    with run.writing():
        run.set_precision(wanted, supernet.space.digest)
        (run.path / "space.json").unlink(missing_ok=True)
        keep_space(run.path, supernet.space)
    say(
        f"units of {run.path} may compute in {wanted.policy} from now on: weights as they were, "
        f"ranges of activations by calibration ({wanted.calibration})"
    )


def _has_results(run: Run) -> bool:
    return any((run.path / name).exists() for name in _RESULTS)


def _find_float(run: Run) -> object:
    """Where the float weights of a run are from that was quantized; ``None`` for trained ones."""
    record = run.record
    calibrated = record.precision is not None and record.precision.method == CALIBRATED
    return record.origin.run if calibrated and record.origin is not None else None

"""Making a float run offer the number formats that a command asks for."""

from __future__ import annotations

from app.progress import Say
from app.records.run import CALIBRATED
from app.runs.command_lines import quantize_command, train_from_command
from app.runs.directory import Run, keep_space
from app.runs.precision import offers, read_precision, show_policy, was_trained_in_float
from app.runs.trained import (
    build_extended,
    find_trained,
    load_own_family,
    read_config,
)
from supernet.errors import InputError
from supernet.quantization.formats import FP32

# What belongs to the space of a run and to no other.
_RESULTS = ("evaluations.jsonl", "devices", "searches", "audits", "finetunes", "exports")


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
        InputError: The formats are unknown, the run is not trained to its end, or it offers other
            formats or has results; the message has the command that makes a run of the same
            weights with the formats.
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
    find_trained(run, say)
    # No command can do anything with a network of which this release has no such kind any more.
    read_config(run, load_own_family(run))
    if record.precision is not None or _has_results(run):
        remedy = quantize_command if was_trained_in_float(record) else train_from_command
        raise InputError(
            f"the units of {run.path} compute in {show_policy(record.precision)}, not in "
            f"{wanted.policy}; run: {remedy(run.path, wanted.policy, run.trusted)}"
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

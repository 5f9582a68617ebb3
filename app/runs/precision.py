"""The number formats that the units of a run may compute in."""

from __future__ import annotations

from app.records.run import CALIBRATED, PrecisionRecord, RunIdentity
from supernet.errors import InputError
from supernet.precision.elastic import make_precision_elastic
from supernet.precision.steps import DOREFA, LSQ, MINMAX, make_step_parameters
from supernet.quantization.calibration import DEFAULT_ESTIMATOR, ESTIMATORS
from supernet.quantization.formats import FP32, Policy, parse_policy
from supernet.space import nearest
from supernet.supernet import Supernet

METHODS = (LSQ, MINMAX, DOREFA)
DEFAULT_METHOD = LSQ


def read_precision(text: str, method: str, calibration: str | None = None) -> PrecisionRecord:
    """Read a policy as a user writes it.

    Args:
        text: Such as ``"fp32,int8"``, ``"int8"`` or ``"layer:research"``.
        method: One of ``METHODS``, or ``CALIBRATED``.
        calibration: How ranges follow from values; ``None`` for what is usual.

    Raises:
        InputError: Unknown formats, method or calibration.
    """
    if method not in (*METHODS, CALIBRATED):
        raise InputError(
            f"unknown precision method {method!r}{nearest(method, METHODS)}; there are "
            f"{', '.join(METHODS)}"
        )
    calibration = DEFAULT_ESTIMATOR if calibration is None else calibration
    if calibration not in ESTIMATORS:
        raise InputError(
            f"unknown calibration {calibration!r}{nearest(calibration, list(ESTIMATORS))}; there "
            f"are {', '.join(ESTIMATORS)}"
        )
    return PrecisionRecord(
        policy=write_policy(parse_policy(text)), method=method, calibration=calibration
    )


def write_policy(policy: Policy) -> str:
    """Write a policy in the one way that all spellings of it share, most bits first."""
    place = "" if policy.per == "unit" else f"{policy.per}:"
    if policy.separate:
        return f"{place}research"
    return place + ",".join(form.name for form in reversed(policy.formats))


def extend(supernet: Supernet, precision: PrecisionRecord | None) -> Supernet:
    """Let the units of a float supernet take the number formats of a record.

    Args:
        supernet: As its family builds it; weights are shared with the result.
        precision: The formats; ``None`` leaves the supernet as it is.

    Returns:
        The supernet; where steps are learned it has them, without values yet.

    Raises:
        InputError: No unit can compute in any of them.
    """
    if precision is None:
        return supernet
    found = make_precision_elastic(supernet, parse_policy(precision.policy))
    return (
        found if precision.method == CALIBRATED else make_step_parameters(found, precision.method)
    )


def offers(precision: PrecisionRecord | None, asked: str | None) -> bool:
    """Whether a run offers exactly the formats that a command asks for.

    Args:
        precision: What the run offers.
        asked: As a user writes it; ``None`` takes what there is.

    Raises:
        InputError: Unknown formats.
    """
    if asked is None:
        return True
    if asked.strip() == FP32.name:
        return precision is None
    return precision is not None and write_policy(parse_policy(asked)) == precision.policy


def was_trained_in_float(record: RunIdentity) -> bool:
    """Whether the weights of a run are those of a training in float, whatever units may choose."""
    return record.precision is None or record.precision.method == CALIBRATED


def show_policy(precision: PrecisionRecord | None) -> str:
    """Name the formats of a run."""
    return FP32.name if precision is None else precision.policy

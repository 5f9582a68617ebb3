"""What a card and the commands say about accuracies where one class is frequent."""

from __future__ import annotations

from collections.abc import Iterable

from app.records.class_balance import LargestClass
from app.records.quantities import ACCURACY


def describe_balance(largest: LargestClass | None, balanced: float | None = None) -> str:
    """The largest class and the balanced accuracy as a clause; empty where classes are balanced.

    Args:
        largest: The largest class of the split, if it has classes.
        balanced: The mean accuracy over the classes, if it is known.
    """
    if largest is None or not largest.dominates:
        return ""
    share = f"largest class {largest.name!r} {ACCURACY.show(largest.share)}"
    return share if balanced is None else f"balanced {ACCURACY.show(balanced)}, {share}"


def warn_of_largest_class(
    largest: LargestClass | None, accuracies: Iterable[float | None], subject: str
) -> str:
    """A warning when no accuracy is above the share of the largest class; else empty.

    Args:
        largest: The largest class of the split, if it has classes.
        accuracies: All there are; ``None`` for evaluations that failed.
        subject: What is judged, as the beginning of a sentence: ``"no point is"``.
    """
    known = [value for value in accuracies if value is not None]
    if largest is None or not known or any(map(largest.is_beaten_by, known)):
        return ""
    return (
        f"warning: {subject} better than always answering {largest.name!r}, which is right for "
        f"{ACCURACY.show(largest.share)} of the {largest.split} split."
    )

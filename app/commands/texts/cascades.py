"""What `cascade` prints."""

from __future__ import annotations

from app.jobs.outcomes import CascadeOutcome, JudgedCascade
from app.records.numbers import format_items
from app.records.quantities import ACCURACY, LATENCY


def format_cascade(result: CascadeOutcome) -> str:
    """Say which cascade was chosen, beside the best single subnetwork."""
    point = result.chosen.point
    lines = [_say_how(result)]
    if point.large is None:
        lines.append(f"  no cascade is better on val than {point.small} alone")
        lines.append(f"  {_describe(result.chosen)}")
    else:
        sure = f"where it is less than {100 * point.threshold:.1f} % sure"
        if point.shared:
            layers = format_items(point.shared, "layer")
            lines.append(
                f"  {point.small}, the first {layers} of {point.large}, answers; {point.large} "
                f"goes on {sure}"
            )
        else:
            lines.append(f"  {point.small} answers, and {point.large} {sure}")
        lines.append(f"  {_describe(result.chosen)}")
        tails = ", ".join(
            f"p{percent} {LATENCY.show(value)}"
            for percent, value in result.chosen.percentiles_ms.items()
        )
        lines.append(f"  {100 * result.chosen.continued:.1f} % of test are asked twice; {tails}")
        single = result.single.point
        # A network alone takes the same for every sample.
        which = (
            "the best alone"
            if single.mean_ms <= result.budget_ms
            else ("none alone answers within it; the fastest")
        )
        lines.append(f"  {which}, {single.small}: {_describe(result.single)}")
    if result.difference is not None and result.difference_interval is not None:
        lines.append(f"  {_compare(result.difference, result.difference_interval)}")
    together = sum(one.large is not None for one in result.front)
    points = format_items(len(result.front), "point")
    cascades = format_items(together, "cascade")
    lines.append(f"  the front on val has {points}, {cascades} among them")
    if result.folder is not None:
        lines.append(f"Exported both, and cascade.json, to {result.folder}.")
    return "\n".join(lines)


def _say_how(result: CascadeOutcome) -> str:
    if result.given:
        return f"As asked for, on {result.device}:"
    what = (
        "on average" if result.percentile is None else f"for {result.percentile:g} % of the samples"
    )
    return f"Within {LATENCY.show(result.budget_ms)} {what} on {result.device}:"


def _compare(difference: float, interval: tuple[float, float]) -> str:
    """Say whether a cascade and a single subnetwork differ on the same test samples."""
    low, high = (f"{100 * end:+.2f}" for end in interval)
    shown = f"{100 * difference:+.2f} points on test ({low} to {high})"
    if interval[0] <= 0 <= interval[1]:
        return f"against the best alone {shown}: they cannot be told apart there"
    return f"against the best alone {shown}"


def _describe(found: JudgedCascade) -> str:
    test = ACCURACY.show_interval(found.accuracy, found.interval)
    val = ACCURACY.show(found.point.accuracy)
    return f"accuracy {test} on test, {val} on val; {LATENCY.show(found.mean_ms)} on average"

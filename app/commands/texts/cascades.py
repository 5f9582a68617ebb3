"""What `cascade` prints."""

from __future__ import annotations

from app.jobs.outcomes import CascadeOutcome, JudgedCascade
from app.records.quantities import ACCURACY, LATENCY


def format_cascade(result: CascadeOutcome) -> str:
    """Say which cascade was chosen, beside the best single subnetwork."""
    what = (
        "on average" if result.percentile is None else f"for {result.percentile:g} % of the samples"
    )
    point = result.chosen.point
    lines = [f"Within {LATENCY.show(result.budget_ms)} {what} on {result.device}:"]
    if point.large is None:
        lines.append(f"  no cascade is better on val than {point.small} alone")
        lines.append(f"  {_describe(result.chosen)}")
    else:
        lines.append(
            f"  {point.small} answers, and {point.large} where it is less than "
            f"{100 * point.threshold:.1f} % sure"
        )
        lines.append(f"  {_describe(result.chosen)}")
        tails = ", ".join(
            f"p{percent} {LATENCY.show(value)}" for percent, value in point.percentiles_ms.items()
        )
        lines.append(f"  {100 * result.chosen.continued:.1f} % of test are asked twice; {tails}")
        lines.append(f"  the best alone, {result.single.point.small}: {_describe(result.single)}")
    together = sum(one.large is not None for one in result.front)
    lines.append(f"  {together} of the {len(result.front)} points of the front on val are cascades")
    if result.folder is not None:
        lines.append(f"Exported both, and cascade.json, to {result.folder}.")
    return "\n".join(lines)


def _describe(found: JudgedCascade) -> str:
    test = ACCURACY.show_interval(found.accuracy, found.interval)
    val = ACCURACY.show(found.point.accuracy)
    return f"accuracy {test} on test, {val} on val; {LATENCY.show(found.mean_ms)} on average"

"""Fine-tunings as text."""

from __future__ import annotations

from app.commands.texts.quantities import show_or_failed
from app.jobs.outcomes import FinetuneOutcome
from app.records.numbers import format_items
from app.records.quantities import LATENCY, PARAMETERS, SIZE, find_quantity
from app.reporting.tables import align_table


def format_finetuning(result: FinetuneOutcome) -> str:
    """Show a network before and after, whether that was worth it, and where its export lies."""
    found = result.report
    settings, judged = found.settings, find_quantity(found.after["val"].objective)
    rows = []
    for split, change in found.change.items():
        value, low, high = (
            judged.show_difference(end, 0.0) for end in (change.value, change.low, change.high)
        )
        before, after = found.before[split].value, found.after[split].value
        shown = (show_or_failed(judged, before), show_or_failed(judged, after))
        rows.append((split, *shown, value, f"{low} to {high}"))
    header = (judged.name, "inherited", "fine-tuned", "change", "95 % interval")
    taught = ", taught by the largest network" if settings.teacher else ""
    latency = "" if found.latency is None else f", {LATENCY.show(found.latency.value)}"
    written = " and ".join(
        f"{name} {SIZE.show(size)}" for name, size in found.storage.files.items()
    )
    return "\n".join(
        [
            f"Fine-tuned {settings.digest} for {format_items(settings.steps, 'step')}{taught}:",
            align_table(header, rows),
            *_warn(result),
            f"Exported to {result.export}: {PARAMETERS.show_named(found.parameters)}{latency}; "
            f"ONNX Runtime differs by at most {found.parity.max_abs_difference:.2g}.",
            f"Written: {written}.",
        ]
    )


def _warn(result: FinetuneOutcome) -> list[str]:
    """Say that a network became worse, beyond what samples explain."""
    found = result.report
    judged, change = find_quantity(found.after["val"].objective), found.change["val"]
    worse = change.high < 0 if judged.maximize else change.low > 0
    if not worse:
        return []
    return [
        "warning: training on made it worse on val; try more --steps, or another rate with "
        "--replace --recipe-part learning_rate=..., or use `supernet export`, which leaves the "
        "weights as they are."
    ]

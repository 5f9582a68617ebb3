"""The whole path as text."""

from __future__ import annotations

from app.commands.texts.next_command import format_next
from app.commands.texts.quantities import show_or_failed
from app.commands.texts.runs import format_export
from app.commands.texts.searches import format_front
from app.jobs.outcomes import QuickstartOutcome
from app.records.quantities import ACCURACY, MACS, PARAMETERS, find_quantity
from app.reporting.tables import align_table


def format_quickstart(result: QuickstartOutcome) -> str:
    """Sum up the whole path."""
    ends = [
        (
            name,
            show_or_failed(find_quantity(end.objective), end.value),
            PARAMETERS.show(end.parameters),
            MACS.show(end.macs),
        )
        for name, end in result.ends.items()
    ]
    header = ("network", ACCURACY.title, PARAMETERS.title, MACS.title)
    return "\n\n".join(
        [
            f"One supernet, {result.train.space_size:,} subnetworks, no retraining "
            f"(accuracy on the test split):\n"
            f"{align_table(header, ends)}",
            f"Latency table of this processor: {result.profile.verdict}",
            f"The front after {result.search.evaluations} evaluations, every point evaluated and "
            f"measured for real (* chosen for a budget of {result.budget_ms:g} ms):\n"
            f"{format_front(result.search, result.pick.digest)}",
            format_export(result.export),
            format_next(result.next_command),
        ]
    )

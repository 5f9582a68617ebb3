"""An audit in words: its correlations and gap, and what was found about the inherited weights."""

from __future__ import annotations

from app.records import numbers
from app.records.audit import AuditRecord
from app.records.numbers import format_items


def list_figures(found: AuditRecord) -> list[tuple[str, str, str]]:
    """Name, value and interval of every correlation and of the mean gap."""
    rows = []
    sparse = f"Sparse Kendall tau ({found.sparse_kendall_tau.bin:g})"
    for statistic, title in (
        (found.kendall_tau, "Kendall tau"),
        (found.sparse_kendall_tau, sparse),
        (found.spearman, "Spearman"),
        (found.kendall_tau_of_macs, "Kendall tau of MACs alone"),
    ):
        value, low, high = statistic.value, statistic.low, statistic.high
        interval = "" if low is None else f"{low:.2f} to {high:.2f}"
        rows.append((title, numbers.MISSING if value is None else f"{value:.2f}", interval))
    gap = found.gap.value
    shown = f"{100 * gap:+.2f} points" if found.unit == "fraction" else f"{gap:+.4f}"
    rows.append(("Mean gap", shown, "inherited less alone"))
    return rows


def list_findings(found: AuditRecord) -> list[str]:
    """What was found about the inherited weights, in a sentence each."""
    lines = []
    nested = found.monotonicity
    if nested is not None:
        lines.append(
            f"Of {format_items(nested.pairs, 'larger network')}, {nested.violations} are worse "
            "than one inside them, beyond noise."
        )
    idle = [effect.name for effect in found.choices if effect.without_effect]
    if idle:
        lines.append(f"Choices without any effect: {', '.join(idle)}.")
    return lines

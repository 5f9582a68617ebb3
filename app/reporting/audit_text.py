"""An audit in words: its correlations and gap, and what was found about the inherited weights."""

from __future__ import annotations

from app.records import numbers
from app.records.audit import AuditRecord
from app.records.numbers import format_items
from app.records.quantities import find_stored_quantity
from app.reporting.audit_verdict import show_gap, show_statistic

RECIPE_HEADER = (
    "recipe", "Kendall tau", "mean gap", "worst gap", "smallest", "largest", "passes", "steps",
    "CPU s",
)  # fmt: skip
OWN = "the run's own"


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
    margin = found.kendall_tau_above_macs
    if margin is not None and margin.value is not None:
        shown, _, ends = show_statistic(margin, signed=True).partition(" ")
        rows.append(("Tau above that of MACs", shown, ends.strip("()")))
    ends = f"{show_gap(found, found.gap.low)} to {show_gap(found, found.gap.high)}"
    mean = f"{show_gap(found, found.gap.value)} {_name_unit(found)}"
    rows.append(("Mean gap", mean, f"{ends}; inherited less alone"))
    rows.append(("Worst gap", f"{show_gap(found, found.worst_gap)} {_name_unit(found)}", ""))
    return rows


def list_recipes(found: AuditRecord) -> list[tuple[str, ...]]:
    """The supernet of the run and those of other recipes, a row for each; gaps without a unit."""
    direction = "maximize" if found.higher_is_better else "minimize"
    quality = find_stored_quantity(found.objective, found.unit, direction)
    training = found.training
    rows: list[tuple[str, ...]] = [
        (
            OWN,
            show_statistic(found.kendall_tau),
            f"{show_gap(found, found.gap.value)} {_name_unit(found)}",
            show_gap(found, found.worst_gap),
            quality.show(found.networks[0].inherited.value),
            quality.show(found.networks[-1].inherited.value),
            *(
                (numbers.MISSING, numbers.MISSING)
                if training is None
                else (f"{training.passes:,}", f"{training.steps:,}")
            ),
            numbers.MISSING,
        )
    ]
    for recipe in found.recipes:
        compared = recipe.comparison
        cpu = recipe.cpu_seconds
        cells = (
            ("diverged", *[numbers.MISSING] * 4)
            if compared is None
            else (
                show_statistic(compared.kendall_tau),
                f"{show_gap(found, compared.gap.value)} {_name_unit(found)}",
                show_gap(found, compared.worst_gap),
                quality.show(compared.smallest),
                quality.show(compared.largest),
            )
        )
        length = (f"{recipe.passes:,}", f"{recipe.steps:,}")
        rows.append(
            (recipe.name, *cells, *length, numbers.MISSING if cpu is None else f"{cpu:.0f}")
        )
    return rows


def _name_unit(found: AuditRecord) -> str:
    return "points" if found.unit == "fraction" else "nats"


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

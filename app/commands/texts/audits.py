"""Audits as text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from app.jobs.outcomes import AuditOutcome
from app.records.audit import AuditRecord, QualityRecord, Statistic, ViolationRecord
from app.records.numbers import format_items
from app.records.quantities import MACS, PARAMETERS, Quantity, find_quantity
from app.reporting.audit_text import RECIPE_HEADER, list_recipes
from app.reporting.audit_verdict import describe_intervals, judge_recipes
from app.reporting.class_balance import describe_balance, warn_of_largest_class
from app.reporting.tables import align_table


def format_audit(result: AuditOutcome) -> str:
    """Show the networks of an audit, how well they are ranked, and what else was found."""
    found = result.report
    judged = find_quantity(found.objective)
    gap = partial(judged.show_difference, other=0.0)
    rows = [
        (
            network.digest,
            MACS.show(network.macs),
            PARAMETERS.show(network.parameters),
            judged.show(network.inherited.value),
            judged.show(network.alone.value),
            gap(network.gap),
            f"{network.seconds:.0f}",
        )
        for network in found.networks
    ]
    header = (
        "network",
        MACS.title,
        PARAMETERS.title,
        f"inherited {judged.name}",
        "alone",
        "gap",
        "seconds",
    )
    sparse = found.sparse_kendall_tau
    figures = [
        ("Kendall tau", *_show_statistic(found.kendall_tau)),
        (f"sparse Kendall tau ({sparse.bin:g})", *_show_statistic(sparse)),
        ("Spearman", *_show_statistic(found.spearman)),
        ("Kendall tau of MACs alone", *_show_statistic(found.kendall_tau_of_macs)),
        *_list_margin(found),
        ("mean gap, inherited less alone", *_show_gap(gap, found.gap)),
        *(
            (
                f"  {MACS.show(part.macs[0])} to {MACS.show(part.macs[1])} {MACS.title}",
                *_show_gap(gap, part.gap),
            )
            for part in found.by_size
        ),
    ]
    return "\n".join(
        [
            f"Audit {result.audit!r} on the {found.split} split, {found.seconds:.0f} s:",
            align_table(header, rows),
            "",
            align_table(("over these networks", "", "95 % interval"), figures),
            describe_intervals(found),
            "",
            result.verdict,
            *result.advice,
            *_compare_recipes(found),
            "",
            f"Alone they span {gap(found.spread.alone)[1:]}; one {judged.name} is known to "
            f"{gap(found.spread.half_interval)[1:]} up or down.",
            *_list_findings(judged, found),
            *_judge_accuracies(found),
            f"Next: look at {result.folder / 'scatter.svg'}",
        ]
    )


def _compare_recipes(found: AuditRecord) -> list[str]:
    """A table of the recipes that were tried, and what it says."""
    if not found.recipes:
        return []
    table = align_table(RECIPE_HEADER, list_recipes(found))
    return [
        "",
        "Supernets trained by other recipes, at equal passes:",
        table,
        *judge_recipes(found),
    ]


def _judge_accuracies(found: AuditRecord) -> list[str]:
    """Say what accuracies are worth where one class is frequent."""
    both = [value for n in found.networks for value in (n.inherited.value, n.alone.value)]
    warning = warn_of_largest_class(found.largest_class, both, "no network, inherited or alone, is")
    clause = describe_balance(found.largest_class)
    if not warning and clause:
        clause = f"{clause[0].upper()}{clause[1:]} of the {found.split} split."
    return [line for line in (warning or clause,) if line]


def _list_findings(judged: Quantity, found: AuditRecord) -> list[str]:
    """Say what inherited weights alone told, in a few sentences."""
    lines = []
    gap = partial(judged.show_difference, other=0.0)
    nested = found.monotonicity
    if nested is not None:
        worst = nested.worst
        most = "" if worst is None else f", by up to {gap(worst.drop)[1:]}{_name_changes(worst)}"
        lines.append(
            f"Nested pairs whose larger network is worse beyond noise: {nested.violations} of "
            f"{nested.pairs}{most}; chance alone would make about 1 in 40."
        )
    if found.choices:
        idle = [effect.name for effect in found.choices if effect.without_effect]
        strongest = max(found.choices, key=lambda effect: effect.output_change)
        lines.append(
            f"Choices without any effect: {', '.join(idle) or 'none'}; the strongest is "
            f"{strongest.name} ({strongest.output_change:.1%} of the probability moves)."
        )
    for curve in found.calibration:
        settled = curve.settled
        when = (
            "not settled"
            if settled is None
            else f"settled from {format_items(settled, 'batch', 'batches')}"
        )
        lines.append(
            f"Recalibration of {curve.digest}: {judged.show(curve.values[0])} without, "
            f"{judged.show(curve.values[-1])} after "
            f"{format_items(curve.batches[-1], 'batch', 'batches')} of {curve.batch_size}, {when}."
        )
    return lines


def _name_changes(violation: ViolationRecord) -> str:
    """Name the choices that make a larger network worse, when they are few."""
    smaller, larger = violation.smaller, violation.larger
    changed = [name for name in smaller if larger.get(name) != smaller[name]]
    if len(changed) > 2:
        return ""
    return f" ({', '.join(f'{n} {smaller[n]} -> {larger.get(n)}' for n in changed)})"


def _list_margin(found: AuditRecord) -> list[tuple[str, str, str]]:
    """How much better inherited weights rank than costs, where that was recorded."""
    margin = found.kendall_tau_above_macs
    return [] if margin is None else [("  inherited less MACs", *_show_statistic(margin))]


def _show_statistic(found: Statistic) -> tuple[str, str]:
    if found.value is None:
        return "undefined", ""
    low, high = found.low, found.high
    interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"{found.value:.3f}", interval


def _show_gap(show: Callable[[float], str], gap: QualityRecord) -> tuple[str, str]:
    return show(gap.value), f"{show(gap.low)} to {show(gap.high)}"

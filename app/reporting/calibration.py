"""What is said of a front that networks trained alone calibrated."""

from __future__ import annotations

from app.records.numbers import format_items
from app.records.quantities import find_stored_quantity
from app.records.searches.alone import CalibrationRecord

HEADER = ("trained alone", "inherited", "alone", "foretold by the others")


def describe_calibration(found: CalibrationRecord | None) -> str:
    """A sentence on what calibrated a front, and how right it would have been of these networks.

    Args:
        found: What the front says of it; empty text where there is nothing.
    """
    if found is None:
        return ""
    quantity = find_stored_quantity(found.objective)
    networks = format_items(len(found.networks), "network")
    said = [f"Calibrated by {networks} trained alone for {format_items(found.steps, 'step')}"]
    if found.diverged:
        said[0] += f" ({found.diverged} more diverged)"
    known = (
        (f"inherited {quantity.name} is off by", found.inherited_error, found.inherited_tau),
        ("what the others foretell of each by", found.predicted_error, found.predicted_tau),
    )
    clauses = []
    for words, error, tau in known:
        if error is not None:
            off = quantity.show_difference(error, 0.0).removeprefix("+")
            ranked = "" if tau is None else f" (Kendall tau {tau:.2f})"
            clauses.append(f"{words} {off}{ranked}")
    said += [", ".join(clauses)] if clauses else []
    return f"{': '.join(said)}."


def list_calibrating(found: CalibrationRecord) -> list[tuple[str, ...]]:
    """The networks that were trained alone, a text for each of :data:`HEADER`."""
    quantity = find_stored_quantity(found.objective)
    return [
        (
            network.digest,
            quantity.show(network.inherited),
            quantity.show_interval(network.value, (network.low, network.high)),
            quantity.show(network.predicted),
        )
        for network in found.networks
    ]

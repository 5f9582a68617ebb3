"""Values as commands show them."""

from __future__ import annotations

from app.records.quantities import MACS, PARAMETERS, Quantity


def show_or_failed(quantity: Quantity, value: float | None) -> str:
    """Show a value that was evaluated; there is none only when the evaluation failed."""
    return "failed" if value is None else quantity.show(value)


def show_size(parameters: float, macs: float) -> str:
    """Show how large a network is."""
    return f"{PARAMETERS.show_named(parameters)}, {MACS.show_named(macs)}"

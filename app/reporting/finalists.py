"""What is said of the finalists of a search."""

from __future__ import annotations

from app.records.numbers import format_items
from app.records.searches.front_extras import FinalistsRecord


def describe_finalists(spent: FinalistsRecord | None) -> str:
    """A sentence on how often finalists were evaluated again; empty where none was.

    Args:
        spent: What the front says of them, if anything.
    """
    if spent is None or not spent.evaluations:
        return ""
    evaluations = format_items(spent.evaluations, "evaluation")
    networks = format_items(spent.networks, "network")
    return f"Finalists: {evaluations} on further samples, of {networks}."

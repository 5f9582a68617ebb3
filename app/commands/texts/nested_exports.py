"""What an export of several subnetworks prints."""

from __future__ import annotations

from app.commands.texts.quantities import show_or_failed
from app.jobs.outcomes import ExportNestedOutcome
from app.records.numbers import format_items
from app.records.quantities import PARAMETERS, SIZE, find_quantity


def format_nested_export(result: ExportNestedOutcome) -> str:
    """List the models, and what they take together and the largest takes alone."""
    judged = find_quantity(result.objective)
    lines = [
        f"{model.file}: {PARAMETERS.show_named(model.parameters)}, {judged.name} "
        f"{show_or_failed(judged, model.value)} on val"
        for model in result.models
    ]
    whole = result.weights_bytes + sum(model.model_bytes for model in result.models)
    alone = SIZE.show(result.largest_alone_bytes)
    lines.append(
        f"Exported {format_items(len(result.models), 'subnetwork')} to {result.folder} in "
        f"{SIZE.show(whole)}, where the largest alone takes {alone}; ONNX Runtime differs from "
        f"torch by at most {result.max_abs_difference:.2g}."
    )
    return "\n".join(lines)

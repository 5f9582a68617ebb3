"""What trainings, imports, profiles, evaluations and exports came to, as text."""

from __future__ import annotations

from app.commands.texts.next_command import format_next
from app.commands.texts.quantities import show_or_failed, show_size
from app.jobs.outcomes import (
    EvaluateOutcome,
    ExportOutcome,
    ImportOutcome,
    ProfileOutcome,
    QuantizeOutcome,
    TrainOutcome,
)
from app.records.formats import count_formats
from app.records.numbers import format_items
from app.records.quantities import ACCURACY, LATENCY, PARAMETERS, SIZE, find_quantity
from app.reporting.class_balance import describe_balance, warn_of_largest_class
from app.reporting.tables import align_table
from app.runs.command_lines import profile_command, search_command


def format_training(result: TrainOutcome) -> str:
    """Say what a training left behind."""
    resumed = f", continued from step {result.resumed_from}" if result.resumed_from else ""
    return (
        f"Trained {result.family} ({result.preset}) on {result.data}: "
        f"{format_items(result.steps, 'step')} in {result.seconds:.1f} s{resumed}.\n"
        f"The space holds {format_items(result.space_size, 'subnetwork')}; checkpoint "
        f"{result.checkpoint}.\n"
        f"{_say_imbalance(result)}"
        f"{format_next(profile_command(result.run, 'cpu', result.trust), result.trust)}"
    )


def _say_imbalance(result: TrainOutcome) -> str:
    largest = result.largest_class
    if largest is None or not largest.dominates:
        return ""
    return (
        f"warning: always answering {largest.name!r} is right for {ACCURACY.show(largest.share)} "
        f"of the {largest.split} split; an accuracy says something above that only.\n"
    )


def format_import(result: ImportOutcome) -> str:
    """Say what a checkpoint turned out to be."""
    data = "no data" if result.data == "none" else result.data
    return (
        f"Imported {result.file.name} as {result.family} ({result.preset}) with "
        f"{format_items(result.classes, 'class', 'classes')} and {data}.\n"
        f"The space holds {format_items(result.space_size, 'subnetwork')}; checkpoint "
        f"{result.checkpoint}.\n"
        f"{format_next(profile_command(result.run, 'cpu'))}"
    )


def format_quantization(result: QuantizeOutcome) -> str:
    """Say what a run has become whose units choose their number format."""
    return (
        f"Units of {result.source} may compute in {result.precision}: weights as they were, ranges "
        f"of rounded activations, if any, by calibration ({result.calibration}).\n"
        f"The space holds {format_items(result.space_size, 'subnetwork')}; checkpoint "
        f"{result.checkpoint}.\n"
        f"{format_next(profile_command(result.run, 'cpu', result.trust), result.trust)}"
    )


def format_profile(result: ProfileOutcome) -> str:
    """Say how far a latency table can be trusted."""
    rows = [
        ("mean absolute error", f"{result.mape:.1%}"),
        ("within 5 % / 10 %", f"{result.within_5:.0%} / {result.within_10:.0%}"),
        ("Kendall tau", f"{result.kendall_tau:.3f}"),
        ("repeat noise floor", f"{result.floor_mape:.1%}"),
        ("networks", f"{result.networks}"),
    ]
    command = search_command(result.run, result.device, trust=result.trust)
    return (
        f"Latency table of {result.device}: {format_items(result.units, 'unit')} in "
        f"{result.seconds:.0f} s.\n"
        f"{align_table(('on unseen networks', ''), rows)}\n{result.verdict}\n"
        f"{format_next(command, result.trust)}"
    )


def format_evaluation(result: EvaluateOutcome) -> str:
    """Show one quality with its interval."""
    judged = find_quantity(result.objective)
    if result.failure is not None:
        return (
            f"{result.digest}: {judged.name} failed on the {result.split} split of {result.data}: "
            f"{result.failure}"
        )
    clause = describe_balance(result.largest_class, result.balanced)
    if result.bits_per_byte is not None:
        clause = f"{result.bits_per_byte:.3f} bits per byte"
    line = (
        f"{result.digest}: {judged.name} {show_or_failed(judged, result.value)} on the "
        f"{result.split} split of {result.data} (95 % interval {judged.show(result.low)} to "
        f"{judged.show(result.high)}, {format_items(result.samples, 'sample')}"
        f"{f'; {clause}' if clause else ''}), {show_size(result.parameters, result.macs)}"
    )
    warning = warn_of_largest_class(result.largest_class, [result.value], "this is no")
    return f"{line}\n{warning}" if warning else line


def format_export(result: ExportOutcome) -> str:
    """Say what was written where."""
    latency = "" if result.latency_ms is None else f", {LATENCY.show(result.latency_ms)}"
    judged = find_quantity(result.objective)
    if result.formats:
        return _format_integers(result, latency)
    return (
        f"Exported {result.digest} to {result.folder}: {PARAMETERS.show_named(result.parameters)}, "
        f"{judged.name} {show_or_failed(judged, result.value)} on {result.split}{latency}; "
        f"ONNX Runtime differs from torch by at most {result.max_abs_difference:.2g}.\n"
        f"{_write_sizes(result)}"
    )


def _format_integers(result: ExportOutcome, latency: str) -> str:
    """Say what was written of a network whose units compute in integers."""
    judged = find_quantity(result.objective)
    compared = "gives what the integer simulator does, to the last bit"
    if result.max_abs_difference:
        most = f"{result.max_abs_difference:.2g}"
        compared = f"differs from the integer simulator by at most {most}"
    lines = [
        f"Exported {result.digest} to {result.folder}: {PARAMETERS.show_named(result.parameters)}, "
        f"{judged.name} {show_or_failed(judged, result.value)} on {result.split}, in ONNX Runtime "
        f"{judged.show(result.runtime_value)} on test{latency}; units: "
        f"{count_formats(result.formats)}.",
        f"Weights take {SIZE.show(result.size_bytes)}, as promised, and the rest of the model "
        f"{SIZE.show(result.overhead_bytes)}; ONNX Runtime {compared}.",
        *result.islands,
    ]
    if result.unsafe_layers:
        lines.append(
            f"On processors without 8-bit dot products (VNNI) sums of "
            f"{format_items(len(result.unsafe_layers), 'layer')} may saturate: the card says which."
        )
    lines.append(_write_sizes(result))
    return "\n".join(lines)


def _write_sizes(result: ExportOutcome) -> str:
    sizes = [f"{name} {SIZE.show(size)}" for name, size in result.file_bytes.items()]
    return f"Written: {', '.join(sizes[:-1])} and {sizes[-1]}."

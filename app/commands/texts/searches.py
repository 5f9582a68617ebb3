"""Searches, picks and reports as text."""

from __future__ import annotations

from collections.abc import Sequence

from app.commands.texts.next_command import format_next
from app.commands.texts.quantities import show_or_failed
from app.jobs.outcomes import PickOutcome, ReportOutcome, SearchOutcome
from app.records.formats import count_formats, list_formats, read_formats
from app.records.numbers import format_items
from app.records.quantities import (
    ACCURACY,
    LATENCY,
    Quantity,
    find_stored_quantity,
    list_counted,
)
from app.records.searches.front import Estimate, Point
from app.reporting.calibration import describe_calibration
from app.reporting.class_balance import describe_balance, warn_of_largest_class
from app.reporting.finalists import describe_finalists
from app.reporting.tables import align_table
from app.runs.command_lines import export_command, write_command

# Points of a front that a table shows at most, besides a marked one.
MOST_SHOWN = 16


def format_search(result: SearchOutcome) -> str:
    """Show a verified front."""
    tau = "" if result.predictor_tau is None else f", predictor tau {result.predictor_tau:.2f}"
    failed = f", {result.failed} failed" if result.failed else ""
    lines = [
        f"Search {result.search!r}: {format_items(result.evaluations, 'evaluation')} "
        f"({result.reused} reused{failed}), {format_items(len(result.front), 'point')} on the "
        f"front{tau}.",
        format_front(result),
    ]
    said = (describe_finalists(result.finalists), describe_calibration(result.calibration))
    lines += filter(None, said)
    lines += _judge_accuracies(result)
    if result.indistinguishable:
        lines.append(
            f"{format_items(result.indistinguishable, 'further point is', 'further points are')} "
            "off the front, but may belong there as far as their evaluations tell."
        )
    if result.baseline_hypervolume is not None:
        lines.append(
            f"Hypervolume {_show_volume(result.searched_hypervolume)}, of random search after as "
            f"many evaluations {_show_volume(result.baseline_hypervolume)}."
        )
    if result.unmeasured_devices:
        names = ", ".join(result.unmeasured_devices)
        lines.append(f"Latencies on {names} are those of the tables: this is another machine.")
    which = () if result.search == "default" else ("--search", result.search)
    how = ("--latency-ms", "X") if LATENCY.name in result.objectives else ("--knee",)
    lines.append(format_next(write_command("pick", "--run", result.run, *which, *how)))
    return "\n".join(lines)


def _judge_accuracies(result: SearchOutcome) -> list[str]:
    """Say what accuracies are worth where one class is frequent."""
    found = [point.estimate(ACCURACY.name).value for point in result.front]
    if ACCURACY.name not in result.objectives:
        return []
    warning = warn_of_largest_class(result.largest_class, found, "no point of the front is")
    clause = describe_balance(result.largest_class)
    if not warning and clause:
        # Beaten, but an accuracy reads as more than it is.
        clause = f"{clause[0].upper()}{clause[1:]} of the val split: read accuracies against that."
    return [line for line in (warning or clause,) if line]


def format_front(result: SearchOutcome, marked: str = "") -> str:
    """Write one line for each point of the front, the marked one with a star."""
    first = result.front[0] if result.front else None
    names = () if first is None else tuple(first.estimates)
    searched = [find_stored_quantity(name, result.units.get(name, "")) for name in names]
    carried = {} if first is None else first.counts
    counted = [q for q in list_counted() if q.name in carried and q not in searched]
    header = ["", "digest"]
    estimates = [p.estimate(q.name) for p in result.front for q in searched]
    expected = any(e.posterior is not None for e in estimates)
    calibrated = any(e.alone is not None for e in estimates)
    for quantity in searched:
        header += _list_columns(quantity, expected, calibrated)
    shown = _choose_shown(result.front, marked)
    formats = [count_formats(read_formats(point.choices)) for point in shown]
    rows = []
    for point, precision in zip(shown, formats, strict=True):
        row = ["*" if point.digest == marked else "", point.digest]
        for quantity in searched:
            row += _list_cells(quantity, point.estimate(quantity.name), expected, calibrated)
        row += [quantity.show(point.counts[quantity.name]) for quantity in counted]
        rows.append([*row, precision] if any(formats) else row)
    header += [quantity.title for quantity in counted]
    table = align_table([*header, "precision"] if any(formats) else header, rows)
    if len(shown) == len(result.front):
        return table
    where = result.run / "searches" / result.search / "front.csv"
    return f"{table}\n{len(shown)} of {len(result.front)} are shown; all are in {where}."


def _choose_shown(front: Sequence[Point], marked: str) -> list[Point]:
    """The points of a long front that a table shows: both ends, some between, the marked one."""
    if len(front) <= MOST_SHOWN:
        return list(front)
    step = (len(front) - 1) / (MOST_SHOWN - 1)
    places = {round(number * step) for number in range(MOST_SHOWN)}
    return [p for place, p in enumerate(front) if place in places or p.digest == marked]


def _list_columns(quantity: Quantity, expected: bool, calibrated: bool) -> list[str]:
    if quantity.per_device:
        return [f"measured {quantity.title}", f"predicted {quantity.title}"]
    if not quantity.is_quality:
        return [quantity.title]
    first = ["trained alone"] if calibrated else []
    if expected:
        stated = f"{'inherited' if calibrated else 'expected'} {quantity.name}"
        return [*first, stated, "on val", "on test"]
    return [*first, quantity.title, "test"]


def _list_cells(
    quantity: Quantity, estimate: Estimate, expected: bool, calibrated: bool
) -> list[str]:
    if quantity.per_device:
        found = estimate.value if estimate.source == "measured" else None
        return [quantity.show(found), quantity.show(estimate.predicted)]
    if quantity.is_quality:
        stated = quantity.show_interval(estimate.posterior, estimate.posterior_interval)
        alone = quantity.show_interval(estimate.alone, estimate.alone_interval)
        single = [show_or_failed(quantity, v) for v in (estimate.value, estimate.test)]
        return [
            *([alone] if calibrated else []),
            *([stated] if expected else []),
            *single,
        ]
    return [quantity.show(estimate.value)]


def format_pick(result: PickOutcome) -> str:
    """Say which subnetwork was chosen, and why."""
    lines = [f"{_say_how(result)}: {result.digest}"]
    latency = LATENCY.show(result.latency_ms)
    if result.latency_ms is not None and result.latency_source == "measured":
        predicted = LATENCY.show(result.latency_predicted_ms)
        lines.append(f"  measured {latency} (predicted {predicted})")
    elif result.latency_ms is not None:
        lines.append(f"  {latency} on {result.device} by its table, not measured")
    judged = find_stored_quantity(result.objective)
    if judged.is_quality:
        value, test = (show_or_failed(judged, found) for found in (result.value, result.test))
        tested = "" if result.test is None else f", {test} on test"
        clause = ""
        if judged == ACCURACY:
            clause = describe_balance(result.largest_class, result.test_balanced)
        if result.alone is not None:
            stated = judged.show_interval(result.alone, result.alone_interval)
            lines.append(f"  trained alone from scratch: {judged.name} {stated} predicted")
        if result.posterior is not None:
            stated = judged.show_interval(result.posterior, result.posterior_interval)
            weights = "" if result.alone is None else ", with inherited weights"
            lines.append(f"  expected {judged.name} on new data {stated}{weights}")
        lines.append(f"  {judged.name} {value} on val{tested}{f' ({clause})' if clause else ''}")
    costs = (
        find_stored_quantity(name, result.units[name]).show_named(value)
        for name, value in result.costs.items()
    )
    lines.append(f"  {', '.join(costs)}")
    formats = read_formats(result.architecture)
    if formats:
        lines.append(f"  {list_formats(formats)}")
    if result.ties:
        others = format_items(len(result.ties), "other point within it", "other points within it")
        compared = find_stored_quantity(result.best_by).short_name
        best = judged.show(result.best_value)
        lines.append(
            f"  the cheapest of those that cannot be told apart in {compared}, with "
            f"{others}; the best, {best}, is {result.best}"
            if result.best != result.digest
            else f"  {others} cannot be told apart from it in {compared}; it is the "
            "cheapest of them"
        )
    if judged == ACCURACY:
        warning = warn_of_largest_class(result.largest_class, [result.value], "this is no")
        lines += [warning] if warning else []
    command = export_command(result.run, result.digest, "DIR", result.trust)
    lines.append(format_next(command, result.trust))
    return "\n".join(lines)


def _say_how(result: PickOutcome) -> str:
    """Say how a subnetwork was chosen."""
    if result.by == "knee":
        return "At the knee of the front"
    if result.by == "weights":
        weights = (result.weights or {}).items()
        return f"By preference {', '.join(f'{name} {weight:g}' for name, weight in weights)}"
    latency = [] if result.budget_ms is None else [f"{result.budget_ms:g} ms on {result.device}"]
    return f"Within {' and '.join([*latency, *result.limits])}"


def format_report(result: ReportOutcome) -> str:
    """Say what a report holds."""
    rows = [
        (
            found.search,
            found.strategy,
            found.evaluations,
            found.points,
            _show_volume(found.searched),
            _show_volume(found.baseline),
        )
        for found in result.searches
    ]
    header = ("search", "strategy", "evaluations", "front", "hypervolume", "random search")
    return (
        f"{align_table(header, rows)}\n"
        f"Wrote {format_items(len(result.written), 'file')} to {result.folder}.\n"
        f"Next: open {result.folder / 'report.html'} in a browser, or read report.md beside it"
    )


def _show_volume(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

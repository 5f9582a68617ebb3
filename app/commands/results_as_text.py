"""The results of jobs as text for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from app.commands.describe import Description, FamilyInfo
from app.commands.doctor import Health
from app.jobs.audit import AuditOutcome
from app.jobs.evaluate import EvaluateOutcome
from app.jobs.export import ExportOutcome
from app.jobs.import_checkpoint import ImportOutcome
from app.jobs.pick import PickOutcome
from app.jobs.profile import ProfileOutcome
from app.jobs.quickstart import QuickstartOutcome
from app.jobs.report import ReportOutcome
from app.jobs.search import SearchOutcome
from app.jobs.train import TrainOutcome
from app.records.audit import AuditRecord, QualityRecord, Statistic, ViolationRecord
from app.records.front import Estimate
from app.records.quantities import (
    ACCURACY,
    LATENCY,
    MACS,
    PARAMETERS,
    Quantity,
    find_quantity,
    find_stored_quantity,
    list_counted,
)
from app.reporting.tables import table


def train_text(result: TrainOutcome) -> str:
    """What a training left behind."""
    resumed = f", continued from step {result.resumed_from}" if result.resumed_from else ""
    return (
        f"Trained {result.family} ({result.preset}) on {result.data}: {result.steps} steps in "
        f"{result.seconds:.1f} s{resumed}.\n"
        f"The space holds {result.space_size:,} subnetworks; checkpoint {result.checkpoint}.\n"
        f"Next: supernet profile --run {result.run} --device cpu"
    )


def import_text(result: ImportOutcome) -> str:
    """What a checkpoint turned out to be."""
    data = "no data" if result.data == "none" else result.data
    return (
        f"Imported {result.file.name} as {result.family} ({result.preset}) with {result.classes} "
        f"classes and {data}.\n"
        f"The space holds {result.space_size:,} subnetworks; checkpoint {result.checkpoint}.\n"
        f"Next: supernet profile --run {result.run} --device cpu"
    )


def profile_text(result: ProfileOutcome) -> str:
    """A latency table's report."""
    rows = [
        ("mean absolute error", f"{result.mape:.1%}"),
        ("within 5 % / 10 %", f"{result.within_5:.0%} / {result.within_10:.0%}"),
        ("Kendall tau", f"{result.kendall_tau:.3f}"),
        ("repeat noise floor", f"{result.floor_mape:.1%}"),
        ("networks", f"{result.networks}"),
    ]
    return (
        f"Latency table of {result.device}: {result.units} units in {result.seconds:.0f} s.\n"
        f"{table(('on unseen networks', ''), rows)}\n{result.verdict}\n"
        f"Next: supernet search --run {result.run} --device {result.device}"
    )


def search_text(result: SearchOutcome) -> str:
    """A verified front."""
    tau = "" if result.predictor_tau is None else f", predictor tau {result.predictor_tau:.2f}"
    failed = f", {result.failed} failed" if result.failed else ""
    lines = [
        f"Search {result.search!r}: {result.evaluations} evaluations ({result.reused} reused"
        f"{failed}), {len(result.front)} points on the front{tau}.",
        front_table(result),
    ]
    if result.indistinguishable:
        lines.append(
            f"{result.indistinguishable} further points are behind the front by less than the "
            "noise of their evaluations."
        )
    if result.baseline_hypervolume is not None:
        lines.append(
            f"Hypervolume {_volume(result.searched_hypervolume)}, of random search after as many "
            f"evaluations {_volume(result.baseline_hypervolume)}."
        )
    if result.unmeasured_devices:
        names = ", ".join(result.unmeasured_devices)
        lines.append(f"Latencies on {names} are those of the tables: this is another machine.")
    which = "" if result.search == "default" else f" --search {result.search}"
    how = "--latency-ms X" if LATENCY.name in result.objectives else "--knee"
    lines.append(f"Next: supernet pick --run {result.run}{which} {how}")
    return "\n".join(lines)


def front_table(result: SearchOutcome, marked: str = "") -> str:
    """One line for each point of the front, the marked one with a star."""
    first = result.front[0] if result.front else None
    searched = [] if first is None else [find_stored_quantity(name) for name in first.estimates]
    carried = {} if first is None else first.counts
    counted = [q for q in list_counted() if q.name in carried and q not in searched]
    header = ["", "digest"]
    for quantity in searched:
        header += _columns(quantity)
    rows = []
    for point in result.front:
        row = ["*" if point.digest == marked else "", point.digest]
        for quantity in searched:
            row += _cells(quantity, point.estimate(quantity.name))
        rows.append([*row, *(quantity.show(point.counts[quantity.name]) for quantity in counted)])
    return table([*header, *(quantity.title for quantity in counted)], rows)


def _columns(quantity: Quantity) -> list[str]:
    if quantity.per_device:
        return [f"measured {quantity.title}", f"predicted {quantity.title}"]
    return [quantity.title, "test"] if quantity.is_quality else [quantity.title]


def _cells(quantity: Quantity, estimate: Estimate) -> list[str]:
    if quantity.per_device:
        found = estimate.value if estimate.source == "measured" else None
        return [quantity.show(found), quantity.show(estimate.predicted)]
    if quantity.is_quality:
        return [_or_failed(quantity, estimate.value), _or_failed(quantity, estimate.test)]
    return [quantity.show(estimate.value)]


def _or_failed(quantity: Quantity, value: float | None) -> str:
    """A value that was evaluated; there is none only when the evaluation failed."""
    return "failed" if value is None else quantity.show(value)


def pick_text(result: PickOutcome) -> str:
    """The chosen subnetwork."""
    ways = {
        "knee": "At the knee of the front",
        "weights": "By preference "
        + ", ".join(f"{name} {w:g}" for name, w in (result.weights or {}).items()),
        "budget": "Within "
        + " and ".join(
            [*([] if result.budget_ms is None else [f"{result.budget_ms:g} ms on {result.device}"]),
             *result.limits]
        ),
    }  # fmt: skip
    lines = [f"{ways[result.by]}: {result.digest}"]
    latency = LATENCY.show(result.latency_ms)
    if result.latency_ms is not None and result.latency_source == "measured":
        predicted = LATENCY.show(result.latency_predicted_ms)
        lines.append(f"  measured {latency} (predicted {predicted})")
    elif result.latency_ms is not None:
        lines.append(f"  {latency} on {result.device} by its table, not measured")
    judged = find_stored_quantity(result.objective)
    if judged.is_quality:
        value, test = (_or_failed(judged, found) for found in (result.value, result.test))
        tested = "" if result.test is None else f", {test} on test"
        lines.append(f"  {judged.name} {value} on val{tested}")
    costs = (find_stored_quantity(name).show_named(v) for name, v in result.costs.items())
    lines.append(f"  {', '.join(costs)}")
    if result.ties:
        others = len(result.ties)
        lines.append(
            f"  {others} other point{'s' if others > 1 else ''} within it "
            f"{'are' if others > 1 else 'is'} not distinguishable in {result.objective}; the "
            f"cheapest is {result.ties[0]}"
        )
    lines.append(f"Next: supernet export --run {result.run} --arch {result.digest} --out DIR")
    return "\n".join(lines)


def report_text(result: ReportOutcome) -> str:
    """What a report holds."""
    rows = [
        (s.search, s.strategy, s.evaluations, s.points, _volume(s.searched), _volume(s.baseline))
        for s in result.searches
    ]
    header = ("search", "strategy", "evaluations", "front", "hypervolume", "random search")
    return (
        f"{table(header, rows)}\nWrote {len(result.written)} files to {result.folder}.\n"
        f"Next: look at {result.folder / 'report.md'}"
    )


def _volume(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def evaluate_text(result: EvaluateOutcome) -> str:
    """One quality with its interval."""
    judged = find_quantity(result.objective)
    return (
        f"{result.digest}: {judged.name} {_or_failed(judged, result.value)} on the "
        f"{result.split} split of {result.data} (95 % interval {judged.show(result.low)} to "
        f"{judged.show(result.high)}, {result.samples} samples), "
        f"{_shape(result.parameters, result.macs)}"
    )


def _shape(parameters: float, macs: float) -> str:
    return f"{PARAMETERS.show_named(parameters)}, {MACS.show_named(macs)}"


def audit_text(result: AuditOutcome) -> str:
    """An audit: the networks, how well they are ranked, and what else was found."""
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
            table(header, rows),
            "",
            table(("over these networks", "", "95 % interval"), figures),
            found.verdict,
            f"Alone they span {gap(found.spread.alone)[1:]}; one {judged.name} is known to "
            f"{gap(found.spread.half_interval)[1:]} up or down.",
            *_weights_text(judged, found),
            f"Next: look at {result.folder / 'scatter.svg'}",
        ]
    )


def _weights_text(judged: Quantity, found: AuditRecord) -> list[str]:
    """What inherited weights alone told, in a few sentences."""
    lines = []
    gap = partial(judged.show_difference, other=0.0)
    nested = found.monotonicity
    if nested is not None:
        worst = nested.worst
        most = "" if worst is None else f", by up to {gap(worst.drop)[1:]}{_raised(worst)}"
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
        when = "not settled" if settled is None else f"settled from {settled} batches"
        lines.append(
            f"Recalibration of {curve.digest}: {judged.show(curve.values[0])} without, "
            f"{judged.show(curve.values[-1])} after {curve.batches[-1]} batches of "
            f"{curve.batch_size}, {when}."
        )
    return lines


def _raised(violation: ViolationRecord) -> str:
    """The choices that make a larger network worse, when they are few."""
    smaller, larger = violation.smaller, violation.larger
    changed = [name for name in smaller if larger.get(name) != smaller[name]]
    if len(changed) > 2:
        return ""
    return f" ({', '.join(f'{n} {smaller[n]} -> {larger.get(n)}' for n in changed)})"


def _show_statistic(found: Statistic) -> tuple[str, str]:
    if found.value is None:
        return "undefined", ""
    low, high = found.low, found.high
    interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"{found.value:.3f}", interval


def _show_gap(show: Callable[[float], str], gap: QualityRecord) -> tuple[str, str]:
    return show(gap.value), f"{show(gap.low)} to {show(gap.high)}"


def export_text(result: ExportOutcome) -> str:
    """What was written where."""
    latency = "" if result.latency_ms is None else f", {LATENCY.show(result.latency_ms)}"
    judged = find_quantity(result.objective)
    return (
        f"Exported {result.digest} to {result.folder}: {PARAMETERS.show_named(result.parameters)}, "
        f"{judged.name} {_or_failed(judged, result.value)} on {result.split}{latency}; "
        f"ONNX Runtime differs from torch by at most {result.max_abs_difference:.2g}."
    )


def quickstart_text(result: QuickstartOutcome) -> str:
    """The summary of the whole path."""
    ends = [
        (
            name,
            _or_failed(find_quantity(end.objective), end.value),
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
            f"{table(header, ends)}",
            f"Latency table of this processor: {result.profile.verdict}",
            f"The front after {result.search.evaluations} evaluations, every point evaluated and "
            f"measured for real (* chosen for a budget of {result.budget_ms:g} ms):\n"
            f"{front_table(result.search, result.pick.digest)}",
            export_text(result.export),
            f"Next: {result.next_command}",
        ]
    )


def families_text(families: Sequence[FamilyInfo]) -> str:
    """One line for each family."""
    rows = [
        (f.name, f.task, ", ".join(f.presets), f.summary) if not f.missing
        else (f.name, "", "", f.missing)
        for f in families
    ]  # fmt: skip
    return table(("family", "task", "presets", "summary"), rows)


def describe_text(found: Description) -> str:
    """A space and its costs."""
    ends = ("smallest", "median", "largest")
    costs = {find_quantity(name): values for name, values in found.costs.items()}
    rows = [
        (quantity.title, *(quantity.show(values[end]) for end in ends))
        for quantity, values in costs.items()
    ]
    return (
        f"{found.family} ({found.preset}), {found.task}\n"
        f"{found.choices} choices, {found.size:,} distinct subnetworks, {found.units} units with "
        f"{found.distinct_units} variants to profile\n"
        f"{table(('cost', *ends), rows)}"
    )


def doctor_text(health: Health) -> str:
    """Everything found, problems last."""
    memory = "unknown" if health.memory_gb is None else f"{health.memory_gb:g} GB"
    rows = [
        ("supernet", health.supernet),
        ("python", f"{health.python} on {health.system}"),
        ("processor", f"{health.processor}, {health.cores} cores"),
        ("memory", f"{memory}, {health.free_disk_gb:g} GB of disk free"),
        ("gpu", health.cuda or "none that torch can use"),
        ("onnxruntime", ", ".join(health.providers)),
        *((name, found or "missing") for name, found in health.packages.items()),
        *(
            (f"extra {name}", "present" if here else f"missing: pip install 'supernet[{name}]'")
            for name, here in health.extras.items()
        ),
    ]
    verdict = "; ".join(health.problems) or "Everything that is needed is there."
    return f"{table(('what', 'found'), rows)}\n{verdict}"

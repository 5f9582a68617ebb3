"""The results of jobs as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.commands.describe import Description, FamilyInfo
from app.commands.doctor import Health
from app.commands.terminal import count, milliseconds, quality
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
from app.records.front import ROBUST, is_cost, is_latency
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
    how = "--latency-ms X" if "latency_ms" in result.objectives else "--knee"
    lines.append(f"Next: supernet pick --run {result.run}{which} {how}")
    return "\n".join(lines)


def front_table(result: SearchOutcome, marked: str = "") -> str:
    """One line for each point of the front, the marked one with a star."""
    names = list(result.front[0]["objectives"]) if result.front else []
    header = ["", "digest"]
    for name in names:
        where = name.partition("@")[2]
        suffix = f" {where}" if where else ""
        header += [f"measured ms{suffix}", f"predicted ms{suffix}"] if is_latency(name) else [name]
        header += ["test"] if name in ("accuracy", "loss") else []
    rows = []
    for point in result.front:
        row = ["*" if point["digest"] == marked else "", point["digest"]]
        for name in names:
            entry = point["objectives"][name]
            if is_latency(name):
                found = entry["value"] if entry["source"] == "measured" else None
                row += [milliseconds(found), milliseconds(entry["predicted"])]
            elif name in ("accuracy", "loss"):
                row += [quality(name, entry["value"]), quality(name, entry["test"])]
            elif name in ROBUST:
                row.append(f"{entry['value']:.1%}")
            else:
                row.append(count(entry["value"]))
        rows.append([*row, count(point["parameters"]), count(point["macs"])])
    return table([*header, "parameters", "MACs"], rows)


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
    if result.latency_ms is not None and result.latency_source == "measured":
        lines.append(
            f"  measured {result.latency_ms:.4g} ms (predicted "
            f"{milliseconds(result.latency_predicted_ms)} ms)"
        )
    elif result.latency_ms is not None:
        lines.append(f"  {result.latency_ms:.4g} ms on {result.device} by its table, not measured")
    test = "" if result.test is None else f", {quality(result.objective, result.test)} on test"
    if not is_cost(result.objective):
        lines.append(f"  {result.objective} {quality(result.objective, result.value)} on val{test}")
    elif result.objective == "size_bytes":
        lines.append(f"  {count(result.size_bytes)} bytes")
    lines += [
        f"  {count(result.parameters)} parameters, {count(result.macs)} MACs",
    ]
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
    low, high = quality(result.objective, result.low), quality(result.objective, result.high)
    return (
        f"{result.digest}: {result.objective} {quality(result.objective, result.value)} on the "
        f"{result.split} split of {result.data} (95 % interval {low} to {high}, "
        f"{result.samples} samples), {count(result.parameters)} parameters, "
        f"{count(result.macs)} MACs"
    )


def audit_text(result: AuditOutcome) -> str:
    """An audit: the networks, how well they are ranked, and what else was found."""
    found = result.report
    name = found.objective
    rows = [
        (
            network.digest,
            count(network.macs),
            count(network.parameters),
            quality(name, network.inherited.value),
            quality(name, network.alone.value),
            _gap(name, network.gap),
            f"{network.seconds:.0f}",
        )
        for network in found.networks
    ]
    header = ("network", "MACs", "parameters", f"inherited {name}", "alone", "gap", "seconds")
    sparse = found.sparse_kendall_tau
    figures = [
        ("Kendall tau", *_estimate(found.kendall_tau)),
        (f"sparse Kendall tau ({sparse.bin:g})", *_estimate(sparse)),
        ("Spearman", *_estimate(found.spearman)),
        ("Kendall tau of MACs alone", *_estimate(found.kendall_tau_of_macs)),
        ("mean gap, inherited less alone", *_gap_with_interval(name, found.gap)),
        *(
            (
                f"  {count(part.macs[0])} to {count(part.macs[1])} MACs",
                *_gap_with_interval(name, part.gap),
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
            f"Alone they span {_gap(name, found.spread.alone)[1:]}; one {name} is known to "
            f"{_gap(name, found.spread.half_interval)[1:]} up or down.",
            *_weights_text(name, found),
            f"Next: look at {result.folder / 'scatter.svg'}",
        ]
    )


def _weights_text(name: str, found: AuditRecord) -> list[str]:
    """What inherited weights alone told, in a few sentences."""
    lines = []
    nested = found.monotonicity
    if nested is not None:
        worst = nested.worst
        most = "" if worst is None else f", by up to {_gap(name, worst.drop)[1:]}{_raised(worst)}"
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
            f"Recalibration of {curve.digest}: {quality(name, curve.values[0])} without, "
            f"{quality(name, curve.values[-1])} after {curve.batches[-1]} batches of "
            f"{curve.batch_size}, {when}."
        )
    return lines


def _raised(violation: ViolationRecord) -> str:
    """The choices that make a larger network worse, when they are few."""
    smaller, larger = violation.smaller, violation.larger
    changed = [name for name in smaller if larger[name] != smaller[name]]
    if len(changed) > 2:
        return ""
    return f" ({', '.join(f'{n} {smaller[n]} -> {larger[n]}' for n in changed)})"


def _estimate(found: Statistic) -> tuple[str, str]:
    if found.value is None:
        return "undefined", ""
    low, high = found.low, found.high
    interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"{found.value:.3f}", interval


def _gap(objective: str, value: float) -> str:
    return f"{100 * value:+.2f} points" if objective == "accuracy" else f"{value:+.4f}"


def _gap_with_interval(objective: str, gap: QualityRecord) -> tuple[str, str]:
    interval = f"{_gap(objective, gap.low)} to {_gap(objective, gap.high)}"
    return _gap(objective, gap.value), interval


def export_text(result: ExportOutcome) -> str:
    """What was written where."""
    latency = "" if result.latency_ms is None else f", {result.latency_ms:.4g} ms"
    return (
        f"Exported {result.digest} to {result.folder}: {count(result.parameters)} parameters, "
        f"{result.objective} {quality(result.objective, result.value)} on {result.split}{latency}; "
        f"ONNX Runtime differs from torch by at most {result.max_abs_difference:.2g}."
    )


def quickstart_text(result: QuickstartOutcome) -> str:
    """The summary of the whole path."""
    ends = [
        (name, quality(end.objective, end.value), count(end.parameters), count(end.macs))
        for name, end in result.ends.items()
    ]
    return "\n\n".join(
        [
            f"One supernet, {result.train.space_size:,} subnetworks, no retraining "
            f"(accuracy on the test split):\n"
            f"{table(('network', 'accuracy', 'parameters', 'MACs'), ends)}",
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
    words = {"parameters": "parameters", "macs": "MACs", "size_bytes": "bytes"}
    rows = [
        (words[key], *(count(values[end]) for end in ("smallest", "median", "largest")))
        for key, values in found.costs.items()
    ]
    return (
        f"{found.family} ({found.preset}), {found.task}\n"
        f"{found.choices} choices, {found.size:,} distinct subnetworks, {found.units} units with "
        f"{found.distinct_units} variants to profile\n"
        f"{table(('cost', 'smallest', 'median', 'largest'), rows)}"
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

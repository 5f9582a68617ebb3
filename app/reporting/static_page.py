"""A report as one page of HTML that opens from a file, without a network and without a server.

It holds all it needs, and its policy lets a browser load and run nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.analysis.common_choices import compare_prevalence
from app.analysis.positions import encode_choices
from app.records import numbers
from app.records.audit import AuditRecord
from app.records.device import TableReport
from app.records.numbers import format_items
from app.records.searches.front import CardRecord, Front
from app.records.searches.trace import Hypervolume
from app.records.training_log import MetricsRecord
from app.reporting.audit_text import RECIPE_HEADER, list_figures, list_findings, list_recipes
from app.reporting.audit_verdict import (
    describe_intervals,
    describe_worth,
    judge_recipes,
    list_advice,
)
from app.reporting.calibration import describe_calibration
from app.reporting.charts.audit_chart import draw_audit
from app.reporting.charts.choice_charts import draw_common
from app.reporting.charts.progress_charts import draw_hypervolume, draw_learning_curve, draw_parity
from app.reporting.charts.svg import render_inline_svg
from app.reporting.charts.training_charts import draw_losses
from app.reporting.finalists import describe_finalists
from app.reporting.html import digest_source, read_template, render_html, trust_html, write_json
from app.reporting.report_text import list_card, list_volumes
from app.reporting.scatter.script import read_script, read_style
from app.reporting.static_data import describe_search
from supernet.space import SearchSpace

if TYPE_CHECKING:
    from markupsafe import Markup

# Points of all searches together: some kilobytes for ten of them, and no page should be slow.
MOST_POINTS = 3000
_FEWEST_POINTS = 300
_MOST_COMMON = 14


@dataclass(frozen=True)
class SearchPart:
    """One search of a page.

    Args:
        front: What it found.
        trace: Its progress; may be empty.
    """

    front: Front
    trace: Sequence[Hypervolume]


@dataclass(frozen=True)
class DevicePart:
    """One device of a page; ``report`` is ``None`` while its table has not been validated."""

    name: str
    description: str
    report: TableReport | None


@dataclass(frozen=True)
class RunPart:
    """What a page says of a run besides its searches.

    Args:
        name: Of the run.
        facts: Labelled figures of the header.
        space: The search space, where it could be read.
        export: The command line that exports the architecture of a digest.
        devices: That were profiled.
        losses: Reports of the training, by rising step.
        audits: What audits found, by name.
        problems: Sentences about what could not be read.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    space: SearchSpace | None
    export: Callable[[str], str]
    devices: Sequence[DevicePart] = ()
    losses: Sequence[MetricsRecord] = ()
    audits: Sequence[tuple[str, AuditRecord]] = ()
    problems: Sequence[str] = field(default_factory=tuple)


def write_page(run: RunPart, searches: Sequence[SearchPart]) -> str:
    """A complete document of HTML, the same one for the same run.

    Args:
        run: What it says of the run.
        searches: In the order of the page.
    """
    most = max(MOST_POINTS // max(len(searches), 1), _FEWEST_POINTS)
    script = "\n".join((read_script(), read_template("page.js")))
    style = "\n".join((read_template("page.css"), read_style()))
    return render_html(
        "page.html.jinja",
        policy=_write_policy(script, style),
        script=trust_html(script),
        style=trust_html(style),
        run=run,
        searches=[
            _describe_search(number, part, run, most) for number, part in enumerate(searches, 1)
        ],
        device_header=("device", "machine", "verdict", "mean error", "within 5 %", "Kendall tau"),
        devices=[_describe_device(device) for device in run.devices],
        losses=_draw_training(run.losses),
        audits=[
            _describe_audit(number, name, found)
            for number, (name, found) in enumerate(run.audits, 1)
        ],
    )


def _write_policy(script: str, style: str) -> str:
    """What a browser may do with the page: run its one script, use its one style, load nothing."""
    rules = {
        "default-src": "'none'",
        "script-src": digest_source(script),
        "style-src": digest_source(style),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _describe_search(number: int, part: SearchPart, run: RunPart, most: int) -> dict[str, Any]:
    front = part.front
    space = run.space
    notes = []
    if space is not None and front.space_digest not in ("", space.digest):
        notes.append("This search was made in another space than space.json holds.")
        space = None
    if front.unmeasured:
        names = ", ".join(front.unmeasured)
        notes.append(f"Not measured, as predicted by their tables: {names}.")
    if front.calibration is not None:
        notes.append(describe_calibration(front.calibration))
    if front.latency_method:
        notes.append(f"Latency: {front.latency_method}")
    progress = None
    if part.trace:
        drawn = draw_hypervolume(part.trace)
        progress = trust_html(render_inline_svg(drawn, "Hypervolume", f"progress-{number}"))
    return {
        "name": front.search,
        "sentence": f"{front.strategy}, seed {front.seed}, "
        f"{format_items(front.evaluations, 'evaluation')} on {front.device or 'no device'}, "
        f"{front.failed} failed. {describe_finalists(front.finalists)}".strip(),
        "notes": notes,
        "volumes": list_volumes(front),
        "progress": progress,
        "cards": [{"name": name, "rows": list_card(card)} for name, card in front.reports.items()],
        "pictures": _draw_predictors(number, front),
        "common": _draw_common(number, front, space),
        "data": write_json(describe_search(front, space, run.export, most)),
    }


def _draw_common(number: int, front: Front, space: SearchSpace | None) -> Markup | None:
    """The values that tell the front from what was evaluated, those least due to chance first."""
    if space is None or not front.on_front.any():
        return None
    found = compare_prevalence(space, encode_choices(space, front.choices), front.on_front)
    telling = [one for one in found if one.lift != 1][:_MOST_COMMON]
    if not telling:
        return None
    title = "How often values are on the front and among everything evaluated"
    height = 90 + 24 * len(telling)
    svg = render_inline_svg(draw_common(telling), title, f"common-{number}", height=height)
    return trust_html(svg)


def _draw_training(losses: Sequence[MetricsRecord]) -> Markup | None:
    """The losses of the training; nothing where none was logged."""
    if not any(row.has_losses for row in losses):
        return None
    return trust_html(render_inline_svg(draw_losses(losses), "Losses of the training", "losses"))


def _draw_predictors(number: int, front: Front) -> list[dict[str, Any]]:
    """Predicted against evaluated quality, and how each predictor became better."""
    pictures = []
    parity = draw_parity(front, front.quality)
    if parity is not None:
        title = f"Predicted and evaluated {front.quality.title}"
        svg = render_inline_svg(parity, title, f"parity-{number}")
        pictures.append({"title": title, "svg": trust_html(svg)})
    for place, (name, card) in enumerate(front.reports.items(), 1):
        if len(_known_steps(card)) > 1:
            title = f"Learning curve of the predictor of {name}"
            drawn = draw_learning_curve(card.curve)
            svg = render_inline_svg(drawn, title, f"curve-{number}-{place}")
            pictures.append({"title": title, "svg": trust_html(svg)})
    return pictures


def _known_steps(card: CardRecord) -> list[float]:
    return [tau for _, tau in card.curve if tau is not None]


def _describe_device(device: DevicePart) -> tuple[str, ...]:
    report = device.report
    if report is None:
        verdict = "not validated: treat table latencies as a guess"
        return (device.name, device.description, verdict, *[numbers.MISSING] * 3)
    tau = report.kendall_tau
    return (
        device.name,
        device.description,
        report.verdict or "no verdict",
        _write_share(report.mape),
        _write_share(report.within_5),
        numbers.MISSING if tau is None else f"{tau:.2f}",
    )


def _write_share(value: float | None) -> str:
    return numbers.MISSING if value is None else numbers.format_percent(value)


def _describe_audit(number: int, name: str, found: AuditRecord) -> dict[str, Any]:
    title = f"Audit {name}: inherited against stand-alone quality"
    svg = render_inline_svg(draw_audit(found), title, f"audit-{number}", height=380)
    return {
        "name": name,
        "verdict": describe_worth(found),
        "advice": list_advice(found),
        "rows": list_figures(found),
        "findings": [describe_intervals(found), *list_findings(found)],
        "recipe_header": RECIPE_HEADER,
        "recipes": list_recipes(found) if found.recipes else [],
        "judged": judge_recipes(found),
        "svg": trust_html(svg),
    }

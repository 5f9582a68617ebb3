"""Reporting as a job: tables and figures of every search of a run, as files and as one page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from app.jobs.outcomes import ReportOutcome
from app.jobs.pick import find_front
from app.jobs.search import prepare
from app.records.audit import AuditRecord, read_audit
from app.records.numbers import format_items, format_space_size
from app.records.quantities import find_stored_quantity
from app.records.searches.front import Front, read_front
from app.records.searches.front_files import format_front
from app.records.searches.search import FILE as PLAN
from app.records.searches.trace import FILE as TRACE
from app.records.searches.trace import Hypervolume, format_table, read_trace
from app.records.training_log import MetricsRecord, read_metrics
from app.reporting.report_text import (
    CARD_LABELS,
    SearchSummary,
    write_overview,
    write_search_page,
)
from app.runs import plugins
from app.runs.command_lines import export_command, write_command
from app.runs.directory import Run, open_run
from app.runs.run_view import RunView, find_quality, load_run
from app.runs.trained import Say, move_data, open_trained
from app.searching.request import SearchRequest, read_plan, rebuild_request
from app.searching.results.random_baseline import add_baseline
from supernet import files
from supernet.errors import InputError

PAGE = "report.html"


def report_job(
    run: Path,
    say: Say,
    *,
    out: Path | None = None,
    search: str | None = None,
    baseline: bool = True,
    data: str | None = None,
    trust: Sequence[str] = (),
) -> ReportOutcome:
    """Write ``report.html``, which has everything in one page that opens without a network,
    ``report.md`` and, for each search, its front, progress, predictors and verification.

    Random search is evaluated beside every search that lacks it: the only part that needs the
    network, the data and time.

    Args:
        run: The run directory.
        say: Told about progress.
        out: Folder; by default ``report`` in the run.
        search: One search only.
        baseline: Whether a missing baseline is evaluated.
        data: Where the data of the run are now, if they moved; recorded in the run.
        trust: Dotted paths of the user's own modules that files of the run may name.

    Raises:
        InputError: No finished search that can be read, unknown or damaged search, or a search
            whose baseline is missing and cannot be evaluated any more because the run changed.
        OSError: A write failed.
    """
    opened = open_run(run, trust)
    if data is not None:
        opened, _ = move_data(opened, data, say)
    if search is not None:
        find_front(opened, search)
    names = opened.searches if search is None else (search,)
    if not names:
        raise InputError(
            f"there is nothing to report in {opened.path}: no search has finished yet; run: "
            f"{write_command('search', '--run', opened.path, trust=trust)}"
        )
    folder = out or opened.path / "report"
    if folder.is_file():
        raise InputError(f"{folder} is a file; a report needs a folder")
    if out is None:
        opened.check_links(folder)
    files.remove_partial(folder)
    summaries, written, skipped = [], [], []
    found: list[tuple[Front, tuple[Hypervolume, ...]]] = []
    for name in opened.unfinished_searches if search is None else ():
        skipped.append(name)
        say(f"warning: search {name} is left out: it has no front, so it did not come to its end")
    for name in names:
        files.refuse_link(folder / name)
        files.remove_partial(folder / name)
        try:
            front = read_front(opened.search(name))
        except (OSError, InputError) as error:
            # The others are reported; one that was asked for was read before.
            skipped.append(name)
            say(f"warning: search {name} is left out: {error}")
            continue
        if baseline and front.baseline is None:
            front = _evaluate_baseline(opened, name, front, say)
        trace = _read_trace(opened.search(name), front, say)
        contents = _write_search(opened.search(name), front, trace)
        for file, text in contents.items():
            _write(folder / name / file, text)
            written.append(f"{name}/{file}")
        summaries.append(_summarise(front))
        found.append((front, trace))
    if not summaries:
        raise InputError(f"there is nothing to report in {opened.path}: no search can be read")
    audits = _read_audits(opened, say)
    overview = write_overview(opened.path.resolve().name, summaries, audits)
    _write(folder / "report.md", overview)
    _write(folder / PAGE, _write_page(opened, found, audits, say))
    written[:0] = ["report.md", PAGE]
    return ReportOutcome(opened.path, folder, tuple(summaries), tuple(written), tuple(skipped))


def _write(path: Path, text: str) -> None:
    """Write a file, unless it says the same already: a report that is there is only read."""
    if not path.is_file() or path.is_symlink() or path.read_bytes() != text.encode():
        files.write_text(path, text)


def _evaluate_baseline(run: Run, name: str, front: Front, say: Say) -> Front:
    folder = run.search(name)
    plan = read_plan(folder)
    if plan is None:
        raise InputError(
            f"search {name!r} has no search.json, so that its baseline cannot be evaluated; "
            "report with --no-baseline"
        )
    # Random search needs neither, and the earlier run may be gone.
    request = replace(rebuild_request(run.path, name, plan.config), proxies=(), prior=None)
    for word, named in _list_named(request):
        # What is behind the @ is a device.
        plugins.require_trust(word, named.partition("@")[0], run.trusted, folder / PLAN)
    with run.writing():
        try:
            setting = prepare(request, run, open_trained(run, say), say)
        except InputError as error:
            # Such as a table or a network of an earlier release; what was found can still be shown.
            raise InputError(f"{error}; or report with --no-baseline") from error
        changed = setting.plan.find_changes(plan)
        if changed:
            raise InputError(
                f"the {' and '.join(changed)} of the run changed since search {name!r}, so that "
                "its baseline cannot be evaluated; search again, or report with --no-baseline"
            )
        return add_baseline(setting.problem, setting.sources, folder, front, say)


def _list_named(request: SearchRequest) -> list[tuple[str, str]]:
    """What a stored search names that may be a user's own, with what each is."""
    objectives = (("objective", name) for name in request.objectives)
    limits = (("objective", limit.quantity) for limit in request.all_limits)
    named = [("strategy", request.strategy), ("predictor", request.predictor)]
    return [*named, ("engine", request.engine), *objectives, *limits]


def _read_trace(folder: Path, front: Front, say: Say) -> tuple[Hypervolume, ...]:
    """The progress of a search; nothing, and a warning, where it cannot be read."""
    try:
        return read_trace(folder, front.trace_digests)
    except (OSError, InputError) as error:
        say(f"warning: the progress of search {folder.name} is left out: {error}")
        return ()


def _write_search(folder: Path, front: Front, trace: Sequence[Hypervolume]) -> dict[str, str]:
    """Every file of one search by name."""
    found = {
        "front.csv": format_front(front),
        "verification.csv": format_table(*_list_verified(front)),
    }
    if trace:
        found["hypervolume.csv"] = (folder / TRACE).read_text("utf-8")
    found["report.md"] = write_search_page(front, traced=bool(trace))
    if front.reports:
        found["predictors.csv"] = format_table(*_list_cards(front))
    return {**found, **_pictures(front, trace)}


def _write_page(
    run: Run,
    found: Sequence[tuple[Front, Sequence[Hypervolume]]],
    audits: Sequence[tuple[str, AuditRecord]],
    say: Say,
) -> str:
    """The page of everything, without what cannot be read."""
    # Loading Altair takes a second, which a command that draws nothing should not wait for.
    from app.reporting.static_page import DevicePart, RunPart, SearchPart, write_page

    view = load_run(run.path)
    name = run.path.resolve().name
    devices = view.devices.values()
    part = RunPart(
        name=name,
        facts=_list_facts(view),
        space=view.space,
        # By its name alone: the page may be read where the run is in another place.
        export=lambda digest: export_command(Path(name), digest, f"exported-{digest}"),
        devices=[DevicePart(d.name, d.description, d.report) for d in devices],
        losses=_read_losses(run, say),
        audits=audits,
        problems=[problem.replace(f"{run.path}{os.sep}", "") for problem in view.problems],
    )
    return write_page(part, [SearchPart(front, trace) for front, trace in found])


def _list_facts(view: RunView) -> list[tuple[str, str]]:
    """What a run is, in labelled figures."""
    family = f"{view.family} ({view.preset})" if view.preset else view.family
    facts = [("Family", family), ("Data", view.data)]
    if view.precision:
        facts.append(("Precision", view.precision.replace(",", ", ")))
    if view.space is None:
        return facts
    size = view.space.size
    noun = "network" if size == 1 else "networks"
    choices = format_items(len(view.space), "choice")
    facts.append(("Search space", f"{format_space_size(size)} {noun}, {choices}"))
    for label, member in (("Largest", view.space.largest), ("Smallest", view.space.smallest)):
        quality = find_quality(view, member.digest)
        if quality is not None:
            judged = find_stored_quantity(quality.objective, quality.unit, "maximize")
            split = {"val": "validation"}.get(quality.split, quality.split)
            facts.append((f"{label}, {split} {quality.objective}", judged.show(quality.value)))
    return facts


def _read_losses(run: Run, say: Say) -> list[MetricsRecord]:
    """How the losses of the training went; nothing, and a warning, where that cannot be read."""
    try:
        return read_metrics(run.path, lambda line: say(f"warning: {line}"))
    except (OSError, InputError) as error:
        say(f"warning: the losses of the training are left out: {error}")
        return []


def _read_audits(run: Run, say: Say) -> list[tuple[str, AuditRecord]]:
    """The audits that can be read, by name, and a warning about every other."""
    found = []
    for name in run.audits:
        try:
            found.append((name, read_audit(run.audit(name))))
        except (OSError, InputError) as error:
            say(f"warning: audit {name} is left out: {error}")
    return found


def _pictures(front: Front, trace: Sequence[Hypervolume]) -> dict[str, str]:
    """The charts of one search as SVG, by file name."""
    # Loading Altair takes a second, which a command that draws nothing should not wait for.
    from app.reporting.charts.front_chart import Emphasis, draw_front
    from app.reporting.charts.progress_charts import draw_hypervolume
    from app.reporting.charts.svg import render_svg

    evaluations = format_items(front.evaluations, "evaluation")
    title = f"Search {front.search}: {front.strategy}, {evaluations}"
    found = {}
    if trace:
        drawn = draw_hypervolume(trace)
        found["hypervolume.svg"] = render_svg(drawn, title, width=640, height=380)
    if front.list_front():
        chart = draw_front(front, front.cost, front.quality, Emphasis(behind=True))
        title = f"Search {front.search} on device {front.device}"
        found["front.svg"] = render_svg(chart, title)
    return found


def _list_verified(front: Front) -> tuple[list[str], list[list[object]]]:
    """Every verified point: predicted and found values of each objective, their difference."""
    keys = {"predicted": "predicted", "found": "value", "low": "low", "high": "high"}
    keys |= {name: name for name in ("source", "posterior", "test")}
    if front.calibration is not None:
        keys |= {name: name for name in ("alone", "alone_low", "alone_high")}
    header = ["digest", *(f"{axis.name}_{part}" for axis in front.axes for part in keys)]
    rows: list[list[object]] = []
    for point in front.list_front():
        if not point.verified:
            continue
        row: list[object] = [point.digest]
        for objective in front.axes:
            estimate = point.estimate(objective.name)
            row += [getattr(estimate, key) for key in keys.values()]
        rows.append(row)
    return header, rows


def _list_cards(front: Front) -> tuple[list[str], list[list[object]]]:
    header = ["quantity", *CARD_LABELS]
    rows = [
        [name, *(getattr(card, key) for key in CARD_LABELS)] for name, card in front.reports.items()
    ]
    return header, rows


def _summarise(front: Front) -> SearchSummary:
    card = front.reports.get(front.quality.name)
    return SearchSummary(
        search=front.search,
        strategy=front.strategy,
        evaluations=front.evaluations,
        failed=front.failed,
        points=len(front.list_front()),
        hypervolume=front.hypervolume.verified,
        searched=front.hypervolume.searched,
        baseline=None if front.baseline is None else front.baseline.hypervolume,
        predictor_tau=None if card is None else card.tau,
    )

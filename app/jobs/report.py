"""Reporting as a job: tables and figures of every search of a run, as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.jobs.pick import find_front
from app.jobs.search import prepare
from app.records.front import Front
from app.records.quantities import Quantity
from app.records.trace import FILE as TRACE
from app.records.trace import Hypervolume, format_table, read_trace
from app.reporting.figures import front_svg
from app.reporting.progress_figure import progress_svg
from app.reporting.tables import markdown_table
from app.runs import plugins
from app.runs.directory import Run, open_run
from app.runs.trained import Say, open_trained
from app.searching.front_writer import format_front
from app.searching.random_baseline import add_baseline
from app.searching.request import read_plan, rebuild_request
from supernet import files

_CARD = (
    ("model", "method"),
    ("samples", "fitted on"),
    ("tau", "Kendall tau"),
    ("spearman", "Spearman"),
    ("rmse", "RMSE"),
    ("regret", "regret of the top picks"),
    ("level", "interval level"),
    ("coverage", "interval coverage"),
    ("needed", "evaluations to tau 0.9"),
)


@dataclass(frozen=True)
class SearchSummary:
    """One search in a report; hypervolumes against the reference of the search."""

    search: str
    strategy: str
    evaluations: int
    failed: int
    points: int
    hypervolume: float | None
    searched: float | None
    baseline: float | None
    predictor_tau: float | None


@dataclass(frozen=True)
class ReportOutcome:
    """What was written: ``report.md`` in ``folder`` and a folder for each search."""

    run: Path
    folder: Path
    searches: tuple[SearchSummary, ...]
    written: tuple[str, ...]


def report_job(
    run: Path,
    say: Say,
    *,
    out: Path | None = None,
    search: str | None = None,
    baseline: bool = True,
) -> ReportOutcome:
    """Write ``report.md`` and, for each search, its front, progress, predictors and verification.

    Random search is evaluated beside every search that lacks it: the only part that needs the
    network, the data and time.

    Args:
        run: The run directory.
        say: Told about progress.
        out: Folder; by default ``report`` in the run.
        search: One search only.
        baseline: Whether a missing baseline is evaluated.

    Raises:
        ValueError: No finished search, unknown search, or a search whose baseline is missing and
            cannot be evaluated any more because the run changed.
        OSError: A write failed.
    """
    opened = open_run(run)
    if search is not None:
        find_front(opened, search)
    names = opened.searches if search is None else (search,)
    if not names:
        raise ValueError(
            f"there is nothing to report in {opened.path}: no search has finished yet; run: "
            f"supernet search --run {opened.path}"
        )
    folder = out or opened.path / "report"
    if folder.is_file():
        raise ValueError(f"{folder} is a file; a report needs a folder")
    summaries, written = [], []
    for name in names:
        front = opened.front(name)
        if baseline and front.baseline is None:
            front = _evaluate_baseline(opened, front, say)
        contents = _write_search(opened, front)
        for file, text in contents.items():
            files.write_text(folder / name / file, text)
            written.append(f"{name}/{file}")
        summaries.append(_summarise(front))
    files.write_text(folder / "report.md", _write_overview(opened, summaries))
    written.insert(0, "report.md")
    return ReportOutcome(opened.path, folder, tuple(summaries), tuple(written))


def _evaluate_baseline(run: Run, front: Front, say: Say) -> Front:
    name, folder = front.search, run.search(front.search)
    plan = read_plan(folder)
    if plan is None:
        raise ValueError(
            f"search {name!r} has no search.json, so that its baseline cannot be evaluated; "
            "report with --no-baseline"
        )
    # Random search needs neither, and the earlier run may be gone.
    request = replace(rebuild_request(run.path, name, plan.config), proxies=(), prior=None)
    trained = open_trained(run, say)
    with run.writing():
        setting = prepare(request, run, trained, plugins.strategy(request.strategy), say)
        changed = setting.plan.find_changes(plan)
        if changed:
            raise ValueError(
                f"the {' and '.join(changed)} of the run changed since search {name!r}, so that "
                "its baseline cannot be evaluated; search again, or report with --no-baseline"
            )
        return add_baseline(setting.problem, setting.sources.log, folder, front, say)


def _write_search(run: Run, front: Front) -> dict[str, str]:
    """Every file of one search by name."""
    trace = read_trace(run.search(front.search))
    found = {
        "front.csv": format_front(front),
        "verification.csv": format_table(*_list_verified(front)),
        "hypervolume.csv": (run.search(front.search) / TRACE).read_text("utf-8"),
        "hypervolume.svg": progress_svg(trace, _progress_title(front)),
        "report.md": _write_page(front, trace),
    }
    if front.reports:
        found["predictors.csv"] = format_table(*_list_cards(front))
    if any(p.on_front for p in front.points):
        found["front.svg"] = front_svg(front)
    return found


def _progress_title(front: Front) -> str:
    return f"Search {front.search}: {front.strategy}, {front.evaluations} evaluations"


def _list_verified(front: Front) -> tuple[list[str], list[list[object]]]:
    """Every verified point: predicted and found values of each objective, their difference."""
    header = ["digest"]
    for objective in front.axes:
        name = objective.name
        header += [
            f"{name}_{part}" for part in ("predicted", "found", "low", "high", "source", "test")
        ]
    rows: list[list[object]] = []
    for point in front.on_front():
        if not point.verified:
            continue
        row: list[object] = [point.digest]
        for objective in front.axes:
            e = point.estimate(objective.name)
            row += [e.predicted, e.value, e.low, e.high, e.source, e.test]
        rows.append(row)
    return header, rows


def _list_cards(front: Front) -> tuple[list[str], list[list[object]]]:
    header = ["quantity", *(key for key, _ in _CARD)]
    rows = [
        [name, *(getattr(card, key) for key, _ in _CARD)] for name, card in front.reports.items()
    ]
    return header, rows


def _summarise(front: Front) -> SearchSummary:
    card = front.reports.get(front.quality.name)
    return SearchSummary(
        search=front.search,
        strategy=front.strategy,
        evaluations=front.evaluations,
        failed=front.failed,
        points=len(front.on_front()),
        hypervolume=front.hypervolume.verified,
        searched=front.hypervolume.searched,
        baseline=None if front.baseline is None else front.baseline.hypervolume,
        predictor_tau=None if card is None else card.tau,
    )


def _write_overview(run: Run, summaries: Sequence[SearchSummary]) -> str:
    rows = [
        (
            f"[{s.search}]({s.search}/report.md)",
            s.strategy,
            s.evaluations,
            s.failed,
            s.points,
            _show(s.searched),
            _show(s.baseline),
            _show(s.predictor_tau),
        )
        for s in summaries
    ]
    header = (
        "search",
        "strategy",
        "evaluations",
        "failed",
        "front",
        "hypervolume",
        "random search",
        "predictor tau",
    )
    return (
        f"# {run.path.resolve().name}\n\n{markdown_table(header, rows)}\n\n"
        "Hypervolumes of one line share a reference point; those of different lines do not and "
        "must not be compared.\n"
    )


def _write_page(front: Front, trace: Sequence[Hypervolume]) -> str:
    volume, beside = front.hypervolume, front.baseline
    known = [
        ("as searched", volume.searched),
        ("front as predicted", volume.predicted),
        ("front verified", volume.verified),
        ("random search, as many evaluations", None if beside is None else beside.hypervolume),
    ]
    volumes = [(name, _show(value)) for name, value in known if value is not None]
    parts = [
        f"# Search {front.search}",
        f"{front.strategy}, seed {front.seed}, {front.evaluations} evaluations on "
        f"{front.device or 'no device'}, {front.failed} failed.",
        "## Front",
        "![Front](front.svg)",
        markdown_table(*_front_rows(front)),
        "## Hypervolume",
        markdown_table(("hypervolume", ""), volumes),
        "![Hypervolume](hypervolume.svg)" if trace else "No progress was recorded.",
        "## Predictors",
        _card_tables(front) or "This search used no predictor.",
    ]
    if front.unmeasured:
        parts.insert(
            4, f"Not measured, as predicted by their tables: {', '.join(front.unmeasured)}."
        )
    return "\n\n".join(parts) + "\n"


def _front_rows(front: Front) -> tuple[list[str], list[list[str]]]:
    """Predicted and found value of every objective of every front point."""
    header = ["digest"]
    for objective in front.objectives:
        header += [objective.axis_label, "predicted"]
        header += ["test"] if _tested(front, objective) else []
    rows = []
    for point in front.on_front():
        row = [point.digest]
        for objective in front.objectives:
            estimate = point.estimate(objective.name)
            row += [objective.show(estimate.value), objective.show(estimate.predicted)]
            row += [objective.show(estimate.test)] if _tested(front, objective) else []
        rows.append(row)
    return header, rows


def _tested(front: Front, objective: Quantity) -> bool:
    return any(p.estimate(objective.name).test is not None for p in front.points)


def _card_tables(front: Front) -> str:
    tables = []
    for name, card in front.reports.items():
        rows = [
            (label, _show(getattr(card, key)))
            for key, label in _CARD
            if getattr(card, key) is not None
        ]
        if card.curve:
            steps = ", ".join(f"{_show(tau)} at {n}" for n, tau in card.curve)
            rows.append(("learning curve (tau at evaluations)", steps))
        tables.append(markdown_table((f"predictor of {name}", ""), rows))
    return "\n\n".join(tables)


def _show(value: float | str | None) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)

"""Reporting as a job: tables and figures of every search of a run, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.explorer.run_view import hypervolumes
from app.jobs.pick import read_front
from app.jobs.search import prepare
from app.records.front import Front, Hypervolume
from app.records.front_reading import front_from_json
from app.reporting.report_text import (
    CARD_LABELS,
    SearchSummary,
    write_overview,
    write_search_page,
)
from app.runs import plugins
from app.runs.directory import Run, open_run
from app.runs.trained import Say, open_trained
from app.searching.front_writer import front_csv, table_csv
from app.searching.random_baseline import add_baseline
from app.searching.request import request_from_plan, stored_plan
from supernet import files


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
        read_front(opened, search)
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
        record = opened.front(name)
        if baseline and not record.get("baseline"):
            record = _with_baseline(opened, name, record, say)
        front = front_from_json(record, str(opened.search(name) / "front.json"), name)
        contents = _search_files(opened, front, record)
        for file, text in contents.items():
            files.write_text(folder / name / file, text)
            written.append(f"{name}/{file}")
        summaries.append(_summary(front, record))
    overview = write_overview(opened.path.resolve().name, summaries)
    files.write_text(folder / "report.md", overview)
    written.insert(0, "report.md")
    return ReportOutcome(opened.path, folder, tuple(summaries), tuple(written))


def _with_baseline(run: Run, name: str, record: Mapping[str, Any], say: Say) -> dict[str, Any]:
    folder = run.search(name)
    plan = stored_plan(folder)
    if plan is None:
        raise ValueError(
            f"search {name!r} has no search.json, so that its baseline cannot be evaluated; "
            "report with --no-baseline"
        )
    # Random search needs neither, and the earlier run may be gone.
    request = replace(request_from_plan(run.path, name, plan["config"]), proxies=(), prior=None)
    trained = open_trained(run, say)
    with run.writing():
        setting = prepare(request, run, trained, plugins.strategy(request.strategy), say)
        changed = [key for key in ("space", "checkpoint", "table")
                   if setting.plan[key] != plan.get(key)]  # fmt: skip
        if changed:
            raise ValueError(
                f"the {' and '.join(changed)} of the run changed since search {name!r}, so that "
                "its baseline cannot be evaluated; search again, or report with --no-baseline"
            )
        return add_baseline(setting.problem, setting.sources.log, folder, record, say)


def _search_files(run: Run, front: Front, record: Mapping[str, Any]) -> dict[str, str]:
    """Every file of one search by name."""
    trace = hypervolumes(run.path, front.search)
    found = {
        "front.csv": front_csv(record),
        "verification.csv": table_csv(*_verification(front)),
        "hypervolume.csv": (run.search(front.search) / "hypervolume.csv").read_text("utf-8"),
        "report.md": write_search_page(
            front, baseline=(record.get("baseline") or {}).get("hypervolume"), traced=bool(trace)
        ),
    }
    if front.reports:
        found["predictors.csv"] = table_csv(*_cards(front))
    return {**found, **_pictures(front, trace)}


def _pictures(front: Front, trace: Sequence[Hypervolume]) -> dict[str, str]:
    """The charts of one search as SVG, by file name."""
    # Loading Altair takes a second, which a command that draws nothing should not wait for.
    from app.reporting.front_chart import Emphasis, draw_front
    from app.reporting.progress_charts import draw_hypervolume
    from app.reporting.svg import render_svg

    title = f"Search {front.search}: {front.strategy}, {front.evaluations} evaluations"
    found = {"hypervolume.svg": render_svg(draw_hypervolume(trace), title, width=640, height=380)}
    if front.on_front():
        chart = draw_front(front, front.cost, front.quality, Emphasis(behind=True))
        title = f"Search {front.search} on device {front.device}"
        found["front.svg"] = render_svg(chart, title)
    return found


def _verification(front: Front) -> tuple[list[str], list[list[Any]]]:
    """Every verified point: predicted and found values of each objective, their difference."""
    header = ["digest"]
    for objective in front.axes:
        name = objective.name
        header += [f"{name}_predicted", f"{name}_found", f"{name}_low", f"{name}_high",
                   f"{name}_source", f"{name}_test"]  # fmt: skip
    rows: list[list[Any]] = []
    for point in front.on_front():
        if not point.verified:
            continue
        row: list[Any] = [point.digest]
        for objective in front.axes:
            e = point.estimate(objective.name)
            row += [e.predicted, e.value, e.low, e.high, e.source, e.test]
        rows.append(row)
    return header, rows


def _cards(front: Front) -> tuple[list[str], list[list[Any]]]:
    header = ["quantity", *CARD_LABELS]
    rows = [[name, *(card.get(key) for key in CARD_LABELS)] for name, card in front.reports.items()]
    return header, rows


def _summary(front: Front, record: Mapping[str, Any]) -> SearchSummary:
    volume = record.get("hypervolume", {})
    card = front.reports.get(front.quality.name, {})
    tau = card.get("tau")
    return SearchSummary(
        search=front.search,
        strategy=front.strategy,
        evaluations=int(record["evaluations"]),
        failed=front.failed,
        points=len(front.on_front()),
        hypervolume=volume.get("verified"),
        searched=volume.get("searched"),
        baseline=(record.get("baseline") or {}).get("hypervolume"),
        predictor_tau=tau if isinstance(tau, float) else None,
    )

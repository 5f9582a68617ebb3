"""The text of a report: an overview of the searches of a run, and a page for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.records.audit import AuditRecord
from app.records.formats import count_formats, read_formats
from app.records.quantities import Quantity
from app.records.searches.front import CardRecord, Front
from app.reporting.audit_text import RECIPE_HEADER, list_recipes
from app.reporting.audit_verdict import (
    describe_intervals,
    describe_worth,
    judge_recipes,
    list_advice,
)
from app.reporting.calibration import HEADER, describe_calibration, list_calibrating
from app.reporting.finalists import describe_finalists
from app.reporting.markdown import Markdown, render_markdown, write_link, write_table

# What a report tells of a predictor: the key of its card, and the words for it.
CARD_LABELS = {
    "model": "method",
    "samples": "fitted on",
    "tau": "Kendall tau",
    "spearman": "Spearman",
    "rmse": "RMSE",
    "regret": "regret of the top picks",
    "level": "interval level",
    "coverage": "interval coverage",
    "needed": "evaluations to tau 0.9",
}


@dataclass(frozen=True)
class SearchSummary:
    """One search in a report; hypervolumes against the reference of the search.

    Args:
        search: Its name.
        strategy: That it used.
        evaluations: Architectures evaluated.
        failed: Of them.
        points: Number of points on the front.
        hypervolume: Hypervolume of the verified front.
        searched: Hypervolume of the front before it was verified.
        baseline: Hypervolume of random search with as many evaluations.
        predictor_tau: Rank correlation of the quality's predictor.
    """

    search: str
    strategy: str
    evaluations: int
    failed: int
    points: int
    hypervolume: float | None
    searched: float | None
    baseline: float | None
    predictor_tau: float | None


def write_overview(
    run: str,
    searches: Sequence[SearchSummary],
    audits: Sequence[tuple[str, AuditRecord]] = (),
) -> str:
    """The searches of a run as Markdown, a line for each with a link to its page, and its audits.

    Args:
        run: Name of the run.
        searches: In the order of their lines.
        audits: What audits found, by name.
    """
    header = (
        "search", "strategy", "evaluations", "failed", "front", "hypervolume", "random search",
        "predictor tau",
    )  # fmt: skip
    rows = [
        (
            write_link(s.search, f"{s.search}/report.md"),
            s.strategy,
            s.evaluations,
            s.failed,
            s.points,
            _write_number(s.searched),
            _write_number(s.baseline),
            _write_number(s.predictor_tau),
        )
        for s in searches
    ]
    return render_markdown(
        "overview.md.jinja",
        run=run,
        table=write_table(header, rows),
        audits=[_describe_audit(name, found) for name, found in audits],
    )


def _describe_audit(name: str, found: AuditRecord) -> dict[str, object]:
    return {
        "name": name,
        "lines": [describe_worth(found), *list_advice(found), describe_intervals(found)],
        "recipes": write_table(RECIPE_HEADER, list_recipes(found)) if found.recipes else "",
        "judged": judge_recipes(found),
    }


def write_search_page(front: Front, *, traced: bool) -> str:
    """The page of one search as Markdown; its pictures lie beside it.

    Args:
        front: What the search found.
        traced: Whether the progress of the search was recorded.
    """
    return render_markdown(
        "search.md.jinja",
        front=front,
        finalists=describe_finalists(front.finalists),
        calibration=describe_calibration(front.calibration),
        calibrating=None
        if front.calibration is None
        else write_table(HEADER, list_calibrating(front.calibration)),
        points=_tabulate_points(front),
        formats=_tabulate_formats(front),
        volumes=write_table(("hypervolume", ""), list_volumes(front)),
        traced=traced,
        cards=[
            write_table((f"predictor of {name}", ""), list_card(card))
            for name, card in front.reports.items()
        ],
    )


def _tabulate_points(front: Front) -> Markdown:
    """Predicted and found value of every objective of every front point."""
    header = ["digest"]
    for quantity in front.objectives:
        expected, calibrated = _is_expected(front, quantity), _is_calibrated(front, quantity)
        header += [f"trained alone {quantity.axis_label}"] if calibrated else []
        stated = f"{'inherited' if calibrated else 'expected'} {quantity.axis_label}"
        header += [stated, "on val"] if expected else []
        header += [] if expected else [quantity.axis_label]
        header += ["predicted"]
        header += ["test"] if _was_tested(front, quantity) else []
    formats = [count_formats(read_formats(point.choices)) for point in front.list_front()]
    header += ["precision"] if any(formats) else []
    rows = []
    for point, precision in zip(front.list_front(), formats, strict=True):
        row = [point.digest]
        for quantity in front.objectives:
            estimate = point.estimate(quantity.name)
            if _is_calibrated(front, quantity):
                row.append(quantity.show_interval(estimate.alone, estimate.alone_interval))
            if _is_expected(front, quantity):
                row.append(quantity.show_interval(estimate.posterior, estimate.posterior_interval))
            row += [quantity.show(estimate.value), quantity.show(estimate.predicted)]
            row += [quantity.show(estimate.test)] if _was_tested(front, quantity) else []
        row += [precision] if any(formats) else []
        rows.append(row)
    return write_table(header, rows)


def _tabulate_formats(front: Front) -> Markdown | None:
    """The number format of every unit of every front point, where it is a choice."""
    points = front.list_front()
    formats = [read_formats(point.choices) for point in points]
    # In the order of the networks that have most of them.
    longest = sorted(formats, key=len, reverse=True)
    units = dict.fromkeys(unit for found in longest for unit in found)
    if not units:
        return None
    rows = [[unit, *(found.get(unit, "") for found in formats)] for unit in units]
    return write_table(["unit", *(point.digest for point in points)], rows)


def _is_expected(front: Front, quantity: Quantity) -> bool:
    """Whether there is a posterior of a quantity of some front point."""
    return any(p.estimate(quantity.name).posterior is not None for p in front.list_front())


def _is_calibrated(front: Front, quantity: Quantity) -> bool:
    return any(p.estimate(quantity.name).alone is not None for p in front.list_front())


def _was_tested(front: Front, quantity: Quantity) -> bool:
    return any(p.estimate(quantity.name).test is not None for p in front.points)


def list_volumes(front: Front) -> list[tuple[str, str]]:
    """The known hypervolumes of a search, each with what it is of."""
    beside = front.baseline
    known = (
        ("as searched", front.hypervolume.searched),
        ("front as predicted", front.hypervolume.predicted),
        ("front verified", front.hypervolume.verified),
        ("random search, as many evaluations", None if beside is None else beside.hypervolume),
    )
    return [(name, _write_number(value)) for name, value in known if value is not None]


def list_card(card: CardRecord) -> list[tuple[str, str]]:
    """The known figures of a predictor, each with what it is."""
    rows = [
        (label, _write_number(getattr(card, key)))
        for key, label in CARD_LABELS.items()
        if getattr(card, key) is not None
    ]
    if card.half_width is None and card.samples is not None:
        rows.append(("intervals", "none: the evaluations do not vary enough"))
    if card.curve:
        steps = ", ".join(f"{_write_number(tau)} at {count}" for count, tau in card.curve)
        rows.append(("learning curve (tau at evaluations)", steps))
    return rows


def _write_number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)

"""Auditing as a job: does the ranking by inherited weights hold when networks train alone?"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from app.auditing.alone import record_alone
from app.auditing.examination import Examination
from app.auditing.recipe_plans import RecipePlan, describe_training, drop_known, plan_recipes
from app.auditing.recipes import is_complete, train_recipe
from app.auditing.request import AuditRequest, holds_other, plan_audit, plan_training
from app.auditing.summary import summarise
from app.auditing.work import LOG, Work
from app.jobs.outcomes import AuditOutcome
from app.progress import Say
from app.records.audit import FILE, AuditRecord, AuditSettings, read_audit
from app.records.audit_pieces import Pieces, read_pieces
from app.records.numbers import format_items
from app.records.typed_json.record_files import write_record
from app.reporting.audit_verdict import describe_worth, list_advice
from app.runs.directory import Run, open_run, writing
from app.runs.settings import SETTINGS, check_stored
from app.runs.trained import Trained, open_trained
from supernet import files
from supernet.quality import audit
from supernet.space import Architecture


def audit_job(request: AuditRequest, say: Say) -> AuditOutcome:
    """Train networks alone, compare, and examine the inherited weights; a killed one continues.

    Args:
        request: What to audit.
        say: Told about progress.

    Raises:
        InputError: The run is not trained, its data is gone, settings are impossible, or the
            name belongs to an audit with other settings.
        DivergedError: A stand-alone training diverged.
        OSError: The disk is full; what is finished is kept.
    """
    run = open_run(request.run, request.trust)
    trained = open_trained(run, say, request.data)
    folder = run.audit(request.name)
    recipe = plan_training(request, trained)
    plan = plan_audit(request, trained, recipe)
    other = holds_other(folder, plan, replace=request.replace)
    found = None
    if not other and (folder / FILE).exists():
        found = _read_finished(folder, plan)
    plans = _plan_new(request, trained, found, say)
    if found is not None and not plans:
        # What is only read needs no lock, and may lie on a read-only disk.
        say(f"audit {request.name}: already complete")
        return _conclude(run, request, folder, found, stored=True)
    # Before anything is trained, since it may be refused.
    training = describe_training(trained)
    architectures = _networks(request, trained)
    run.check_links(folder)
    files.make_folder(folder)
    with writing(folder):
        if holds_other(folder, plan, replace=request.replace):
            _clear(folder)
        write_record(folder / SETTINGS, plan)
        work = Work(request, trained, folder, read_pieces(folder / LOG, say), say)
        Examination(work).examine(architectures)
        for number, architecture in enumerate(architectures, start=1):
            record_alone(work, recipe, number, architecture)
        plans, notes = drop_known(plans, _list_trained(work.pieces, architectures))
        for note in notes:
            say(note)
        for number, one in enumerate(plans, start=1):
            train_recipe(work, one, architectures, f"{number}/{len(plans)}")
        found = summarise(work.pieces, plan, trained, training)
        files.write_text(folder / "scatter.svg", _draw(found, run.path.resolve().name))
        # Last, because it says that everything else is there.
        write_record(folder / FILE, found)
        shutil.rmtree(folder / "training", ignore_errors=True)
    return _conclude(run, request, folder, found, stored=False)


def _conclude(
    run: Run, request: AuditRequest, folder: Path, found: AuditRecord, *, stored: bool
) -> AuditOutcome:
    return AuditOutcome(
        run=run.path,
        audit=request.name,
        folder=folder,
        stored=stored,
        report=found,
        verdict=describe_worth(found),
        advice=tuple(list_advice(found)),
    )


def _read_finished(folder: Path, plan: AuditSettings) -> AuditRecord:
    found = read_audit(folder)
    remedy = "restore it, or audit again with --replace"
    check_stored(folder / FILE, found.settings, plan, remedy)
    return found


def _plan_new(
    request: AuditRequest, trained: Trained, found: AuditRecord | None, say: Say
) -> list[RecipePlan]:
    """The recipes that a finished audit lacks, if there is one."""
    known = {} if found is None else {recipe.key: recipe.name for recipe in found.recipes}
    names = [name for name in request.recipe_names if name not in known.values()]
    plans, notes = drop_known(plan_recipes(names, trained), known)
    for note in notes:
        say(note)
    return plans


def _list_trained(pieces: Pieces, architectures: list[Architecture]) -> dict[str, str]:
    """Names of the recipes that are finished, by key."""
    digests = [architecture.digest for architecture in architectures]
    return {
        piece.name: piece.recipe
        for piece in pieces.trained.values()
        if is_complete(pieces, piece.name, digests)
    }


def _draw(found: AuditRecord, name: str) -> str:
    # Loading Altair takes a second, which a command that draws nothing should not wait for.
    from app.reporting.charts.audit_chart import draw_audit
    from app.reporting.charts.svg import render_svg

    tau = found.kendall_tau.value
    shown = "undefined" if tau is None else f"{tau:.2f}"
    networks = format_items(len(found.networks), "network")
    return render_svg(
        draw_audit(found),
        f"{name}: Kendall tau {shown} over {networks} ({found.split})",
        subtitle="lines: 95 % intervals; dashed: equally good",
        width=560,
        height=480,
    )


def _networks(request: AuditRequest, trained: Trained) -> list[Architecture]:
    rng = np.random.default_rng([request.seed, 0])
    space = trained.supernet.space
    return audit.sample_across_costs(space, trained.cost_model.macs, request.networks, rng)


def _clear(folder: Path) -> None:
    # The result goes first: a folder without it is an audit that has not finished.
    for name in (FILE, LOG, "scatter.svg"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "training", ignore_errors=True)

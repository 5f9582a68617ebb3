"""Supernets of other recipes: trained afresh, and the same networks evaluated under each."""

from __future__ import annotations

import shutil
import time

import numpy as np

from app.auditing.recipe_plans import RecipePlan, build_to_train
from app.auditing.work import Work
from app.progress import Step
from app.records.audit_pieces import Pieces, SharedPiece, TrainedPiece
from app.records.typed_json.plain import plain
from app.runs.alone import describe_progress
from app.runs.origin import has_steps
from app.runs.precision import extend, was_trained_in_float
from app.runs.trained import best_device, read_recipe
from supernet.errors import DivergedError
from supernet.precision.steps import calibrate_steps
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import train


def train_recipe(
    work: Work, plan: RecipePlan, architectures: list[Architecture], place: str
) -> None:
    """Train a supernet by a recipe, evaluate the networks with its weights, drop its checkpoints.

    A training that diverges, or whose networks say nothing finite, is a result of its recipe.

    Args:
        work: The audit.
        plan: The recipe.
        architectures: The networks.
        place: Which of the recipes it is: ``"1/3"``.
    """
    if is_complete(work.pieces, plan.key, [a.digest for a in architectures]):
        return
    folder = work.folder / "training" / f"recipe-{plan.key}"
    title = f"audit: recipe {place} ({plan.name})"
    key, known = f"trained/{plan.key}", work.pieces.trained
    began, busy = time.perf_counter(), time.process_time()
    try:
        supernet, piece = _train(work, plan, title)
        if key not in known:
            work.keep(known, key, piece, began)
        for number, architecture in enumerate(architectures, start=1):
            _evaluate(work, plan, supernet, architecture)
            work.count(f"evaluating under {plan.name}", number, len(architectures), "network")
    except DivergedError as error:
        work.say(f"warning: {title} diverged: {error.found}")
        piece = known.get(key) or _describe(work, plan, time.process_time() - busy, 0)
        work.keep(known, key, piece.replace(diverged=error.found), began)
    shutil.rmtree(folder, ignore_errors=True)


def is_complete(pieces: Pieces, key: str, digests: list[str]) -> bool:
    """Whether all is finished that is asked of a recipe.

    Args:
        pieces: What is finished.
        key: Of the recipe.
        digests: Of the networks.
    """
    trained = pieces.trained.get(f"trained/{key}")
    if trained is None:
        return False
    return bool(trained.diverged) or all(f"shared/{key}/{d}" in pieces.shared for d in digests)


def _train(work: Work, plan: RecipePlan, title: str) -> tuple[Supernet, TrainedPiece]:
    """The trained supernet; one that was trained before is read from its checkpoint."""
    trained, recipe = work.trained, plan.recipe
    supernet = build_to_train(trained.run, recipe.seed)
    if has_steps(supernet):
        calibrate_steps(supernet, trained.data, recipe.seed)
    supernet.to(best_device())
    folder = work.folder / "training" / f"recipe-{plan.key}"
    began = time.process_time()
    result = train(
        supernet,
        trained.data,
        recipe,
        folder,
        progress=lambda p: work.say(describe_progress(title, p)),
        stepped=lambda step, steps: work.say(Step(title, step, steps, passing=True)),
    )
    seconds = time.process_time() - began
    for note in result.notes:
        work.say(f"warning: {title}: {note}")
    record = trained.run.record
    if was_trained_in_float(record):
        supernet = extend(supernet, record.precision).eval()
    return supernet, _describe(work, plan, seconds, result.resumed_from)


def _describe(work: Work, plan: RecipePlan, seconds: float, resumed_from: int) -> TrainedPiece:
    steps = plan.recipe.steps
    left = steps - resumed_from
    changes = read_recipe(work.trained.run).diff(plan.recipe)
    return TrainedPiece(
        recipe=plan.name,
        changes=plain({name: ours for name, (_, ours) in sorted(changes.items())}),
        steps=steps,
        passes=plan.passes,
        # What a killed training took is not known; its steps are like the others.
        cpu_seconds=round(seconds * steps / left, 2) if left else None,
        resumed_from=resumed_from,
    )


def _evaluate(work: Work, plan: RecipePlan, supernet: Supernet, architecture: Architecture) -> None:
    def make() -> SharedPiece:
        numbers = work.evaluate(supernet, architecture)
        if not np.isfinite(numbers["value"]):
            raise DivergedError(
                f"the outputs of network {architecture.digest} are not finite numbers",
                "choose another recipe",
            )
        return SharedPiece(architecture=architecture.to_dict(), **numbers)

    work.once(work.pieces.shared, f"shared/{plan.key}/{architecture.digest}", make)

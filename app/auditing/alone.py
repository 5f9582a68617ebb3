"""Networks of an audit trained alone, from fresh weights: the truth that others are held to."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from app.auditing.work import Work
from app.progress import Step
from app.records.audit_pieces import AlonePiece
from app.runs.directory import Run
from app.runs.diverged import suggest_rate
from app.runs.origin import has_steps
from app.runs.precision import extend
from app.runs.trained import best_device, load_own_family, read_config
from supernet.errors import DivergedError
from supernet.precision.steps import MINMAX, calibrate_steps
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import Progress, Recipe, train
from supernet.training.standalone import make_standalone


def train_alone(work: Work, recipe: Recipe, number: int, architecture: Architecture) -> None:
    """Train one network from fresh weights, evaluate it, and drop its checkpoints.

    Args:
        work: The audit.
        recipe: How.
        number: Of the network, from 1 on.
        architecture: The network.

    Raises:
        DivergedError: The training diverged.
    """
    folder = work.folder / "training" / architecture.digest
    title = f"audit: network {number}/{work.request.networks} ({architecture.digest})"
    piece = work.once(
        work.pieces.alone,
        f"alone/{architecture.digest}",
        lambda: _train(work, recipe, architecture, folder, title),
    )
    work.say(f"{title}: {piece.objective} {piece.value:.4f} alone")
    shutil.rmtree(folder, ignore_errors=True)


def fresh_supernet(run: Run, seed: int) -> Supernet:
    """The supernet of a run with other initial weights, on the processor.

    Args:
        run: The run whose family and configuration they have.
        seed: Seed of the weights.
    """
    family = load_own_family(run)
    config = read_config(run, family)
    if "seed" in {field.name for field in fields(config)}:
        config = replace(config, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cast(Supernet, family.build(config))


def describe_progress(title: str, progress: Progress) -> Step:
    """How far a training is, with the loss of its largest network."""
    loss = progress.loss_largest
    shown = "" if loss is None else f"loss {loss:.3f}"
    return Step(title, progress.step, progress.steps, figures=shown, passing=True)


def _train(
    work: Work, recipe: Recipe, architecture: Architecture, folder: Path, title: str
) -> AlonePiece:
    trained = work.trained
    sequence = np.random.SeedSequence([work.request.seed, int(architecture.digest, 16)])
    seed = int(sequence.generate_state(1)[0])
    fresh = extend(fresh_supernet(trained.run, seed), trained.run.record.precision)
    if has_steps(fresh):
        calibrate_steps(fresh, trained.data, seed)
    alone = make_standalone(fresh, architecture).to(best_device())
    recipe = recipe.replace({"seed": seed})
    if trained.run.record.precision is not None and not has_steps(alone):
        # There are none where weights were trained in float.
        recipe = recipe.replace({"quantizer": MINMAX})
    try:
        result = train(
            alone,
            trained.data,
            recipe,
            folder,
            progress=lambda p: work.say(describe_progress(title, p)),
            stepped=lambda step, steps: work.say(Step(title, step, steps, passing=True)),
        )
    except DivergedError as error:
        rate = recipe.learning_rate
        raise DivergedError(
            f"network {architecture.digest} alone: {error.found}",
            f"add --replace --recipe-part learning_rate={suggest_rate(rate)} to train with "
            f"less than {rate:g}, or --replace --recipe-part clip_norm=1",
        ) from error
    for note in result.notes:
        work.say(f"warning: {title}: {note}")
    numbers = work.evaluate(alone, alone.space.smallest)
    return AlonePiece(steps=result.steps, resumed_from=result.resumed_from, **numbers)

"""One network of a run trained alone from scratch, as audits and calibrated searches do it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from app.progress import Say, Step
from app.runs.directory import Run
from app.runs.origin import has_steps
from app.runs.precision import extend
from app.runs.trained import Trained, best_device, load_own_family, read_config, read_recipe
from supernet.precision.steps import MINMAX, calibrate_steps
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import Progress, Recipe, train
from supernet.training.equal_passes import count_alone_steps
from supernet.training.standalone import make_standalone


@dataclass(frozen=True)
class TrainedAlone:
    """What came of a training.

    Args:
        supernet: The network, of which its space has only one.
        steps: Steps of the training.
        resumed_from: The step from which a killed training went on.
    """

    supernet: Supernet
    steps: int
    resumed_from: int


def state_steps(trained: Trained, changes: dict[str, Any]) -> dict[str, Any]:
    """Add to changes of a recipe how long a network alone trains, unless they say it.

    A quarter of the passes of the supernet's training
    (:func:`supernet.training.equal_passes.count_alone_steps`).

    Args:
        trained: The run.
        changes: Fields of its recipe that differ for the network alone.

    Raises:
        InputError: The recipe does not suit the supernet.
    """
    if "steps" in changes or "epochs" in changes:
        return changes
    recipe = read_recipe(trained.run)
    steps = count_alone_steps(recipe, trained.supernet, trained.data)
    if steps == recipe.total_steps(trained.data.epoch):
        return changes
    return {**changes, "steps": steps, "epochs": None}


def train_alone(
    trained: Trained,
    architecture: Architecture,
    recipe: Recipe,
    seed: int,
    folder: Path,
    title: str,
    say: Say,
) -> TrainedAlone:
    """Train one network from fresh weights; a killed training goes on.

    Args:
        trained: The run that it is a network of, and its data.
        architecture: Which.
        recipe: How; its seed is replaced.
        seed: Decides, together with the network, its initial weights and batches.
        folder: Of its checkpoints, which are left there.
        title: What progress is called.
        say: Told about progress and what training noted.

    Raises:
        DivergedError: Training diverged.
        OSError: The disk is full.
    """
    sequence = np.random.SeedSequence([seed, int(architecture.digest, 16)])
    own_seed = int(sequence.generate_state(1)[0])
    precision = trained.run.record.precision
    fresh = extend(fresh_supernet(trained.run, own_seed), precision)
    if has_steps(fresh):
        calibrate_steps(fresh, trained.data, own_seed)
    alone = make_standalone(fresh, architecture).to(best_device())
    recipe = recipe.replace({"seed": own_seed})
    if precision is not None and not has_steps(alone):
        # There are none where weights were trained in float.
        recipe = recipe.replace({"quantizer": MINMAX})
    result = train(
        alone,
        trained.data,
        recipe,
        folder,
        progress=lambda p: say(describe_progress(title, p)),
        stepped=lambda step, steps: say(Step(title, step, steps, passing=True)),
    )
    for note in result.notes:
        say(f"warning: {title}: {note}")
    return TrainedAlone(alone, result.steps, result.resumed_from)


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


def describe_progress(title: str, progress: Progress, *, passing: bool = True) -> Step:
    """How far a training is, with the loss of its largest network.

    Args:
        title: What the training is called.
        progress: As it was reported.
        passing: As for :class:`app.progress.Step`.
    """
    loss = progress.loss_largest
    shown = "" if loss is None else f"loss {loss:.3f}"
    return Step(title, progress.step, progress.steps, figures=shown, passing=passing)

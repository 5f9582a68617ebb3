"""Which trainings an audit compares the supernet of its run with: other recipes, equal passes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.records.audit import TrainingRecord
from app.runs import plugins
from app.runs.alone import fresh_supernet
from app.runs.batch_size import check_batch
from app.runs.directory import Run
from app.runs.precision import extend, was_trained_in_float
from app.runs.suited import name_recipe
from app.runs.trained import Trained, read_recipe
from supernet.errors import InputError
from supernet.supernet import Supernet
from supernet.training import METHODS, PRESETS, Recipe, compose, find_recipe
from supernet.training.equal_passes import count_passes, fit_to_passes, needs_teacher
from supernet.training.recipe import NEUTRAL

# What a recipe under another base does not change either: how passes are counted, what the weights
# are of, and how a training is run.
_OF_RUN = ("batch_size", "precision", "quantizer", "seed", *NEUTRAL)
# A method that has an optimiser names it; all others leave that of the run.
_OPTIMISATION = frozenset({"optimizer", "learning_rate", "matrix_rate", "weight_decay"})
_OF_METHODS = frozenset(field for changes in METHODS.values() for field in changes) - _OPTIMISATION


@dataclass(frozen=True)
class RecipePlan:
    """A recipe to train a supernet by.

    Args:
        name: As it was asked for.
        recipe: With as many steps as the passes of the run allow.
        passes: What it uses of them.
    """

    name: str
    recipe: Recipe
    passes: int

    @property
    def key(self) -> str:
        """Hash of all settings that decide the weights."""
        text = json.dumps(self.recipe.to_json(neutral=False), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def plan_recipes(names: Sequence[str], trained: Trained) -> list[RecipePlan]:
    """Give recipes as many steps as the run's own training had passes.

    Args:
        names: As ``supernet train --recipe`` takes them. A name of methods alone changes what they
            are about; rate, optimiser and all else are as the run has them. One that begins with a
            base has those of that base.
        trained: The run.

    Raises:
        InputError: A name is unknown, a recipe does not suit the family, the data or this
            comparison, or nothing tells how long the weights of the run trained.
    """
    if not names:
        return []
    run = trained.run
    training = describe_training(trained)
    if training is None:
        raise InputError(
            f"the weights of {run.path} were not trained in it from the start, so that nothing "
            "tells how many passes other recipes may have; audit it without --recipes"
        )
    supernet = build_to_train(run, read_recipe(run).seed)
    plans = []
    for name in names:
        recipe = _choose_recipe(name, run)
        if needs_teacher(recipe):
            raise InputError(
                f"recipe {name!r} needs a teacher from outside, which an audit has not; choose one "
                "that makes its own"
            )
        fitted = fit_to_passes(recipe, supernet, trained.data, training.passes)
        # A killed training goes on from its checkpoints.
        fitted = fitted.replace({"checkpoint_every": recipe.checkpoint_every})
        check_batch(fitted, trained.data, supernet)
        method = compose(supernet, trained.data, fitted, fitted.steps)
        method.check_batch(fitted.batch_size)
        passes = count_passes(fitted, supernet, trained.data)
        plans.append(RecipePlan(name, fitted, passes))
    return plans


def drop_known(
    plans: Sequence[RecipePlan], known: Mapping[str, str]
) -> tuple[list[RecipePlan], list[str]]:
    """Keep the recipes that are new.

    Args:
        plans: Recipes that were asked for.
        known: Names of recipes that are trained, by key.

    Returns:
        Those that are not, each once, and a sentence about each that is another by its settings.
    """
    names = dict(known)
    kept, notes = [], []
    for plan in plans:
        if names.setdefault(plan.key, plan.name) != plan.name:
            notes.append(f"audit: recipe {plan.name!r} is {names[plan.key]!r} by another name")
        elif plan.key not in known:
            kept.append(plan)
    return kept, notes


def describe_training(trained: Trained) -> TrainingRecord | None:
    """How long the supernet of a run trained; ``None`` where that is not all its weights saw.

    Raises:
        InputError: It was trained by a sampler of the user's own that is gone.
    """
    run = trained.run
    stage = run.stage("train")
    if run.record.origin is not None or stage is None or stage.source is not None:
        return None
    recipe = read_recipe(run)
    # It was typed after --trust.
    plugins.load_own_sampler(recipe.sampler)
    supernet = build_to_train(run, recipe.seed)
    return TrainingRecord(
        steps=recipe.total_steps(trained.data.epoch),
        passes=count_passes(recipe, supernet, trained.data),
        optimizer=recipe.optimizer,
    )


def build_to_train(run: Run, seed: int) -> Supernet:
    """The supernet that trained in a run, with initial weights; in float where that one was."""
    fresh = fresh_supernet(run, seed)
    record = run.record
    return fresh if was_trained_in_float(record) else extend(fresh, record.precision)


def _choose_recipe(name: str, run: Run) -> Recipe:
    own = read_recipe(run)
    found = find_recipe(name, base=name_recipe(run.record.data.spec))
    # It was typed, so it may lie in the working directory.
    plugins.load_own_sampler(found.sampler)
    if name.partition("+")[0] in PRESETS:
        return found.replace({field: getattr(own, field) for field in _OF_RUN})
    parts = name.split("+")
    named = {field for part in parts for field in METHODS.get(part, ("sampler",))}
    # A method takes the place of the run's own with all its parts; an optimiser alone does not.
    changed = named if named <= _OPTIMISATION else named | _OF_METHODS
    return own.replace({field: getattr(found, field) for field in changed})

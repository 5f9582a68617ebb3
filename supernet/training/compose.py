"""From a recipe to the method it describes."""

from __future__ import annotations

from types import ModuleType

from torch import nn

from supernet.data import DataSource
from supernet.elastic.precision import can_learn_steps, is_step
from supernet.errors import InputError
from supernet.losses import adaptive_alpha, kl_divergence
from supernet.supernet import Supernet
from supernet.training.batches import importance
from supernet.training.guides import (
    Divergence,
    Guidance,
    Guide,
    InPlace,
    Labels,
    LabelsFirst,
    Teacher,
)
from supernet.training.method import Sampler, TrainingMethod
from supernet.training.recipe import Recipe
from supernet.training.sampler_modules import load_sampler
from supernet.training.schedules.progressive import ProgressiveShrinking
from supernet.training.sequential import Sequential
from supernet.training.weight_distribution import WeightDistribution


def compose(
    supernet: Supernet,
    data: DataSource,
    recipe: Recipe,
    steps: int,
    teacher: nn.Module | None = None,
) -> TrainingMethod:
    """Build the method of a recipe.

    Args:
        supernet: What will be trained.
        data: What it will be trained on.
        recipe: How it will be trained.
        steps: Optimiser steps of the whole training.
        teacher: The network to learn from with ``distill = "teacher"``.

    Raises:
        InputError: The family cannot be trained so, or the recipe's parts do not fit each other;
            the message says why.
    """
    if teacher is not None and recipe.distill != "teacher":
        raise InputError(
            f"there is a teacher, and distill = {recipe.distill!r} would not listen to it; "
            "use distill = 'teacher'"
        )
    _check_steps(supernet, recipe)
    sampler: Sampler
    guide: Guide
    shrinking: ProgressiveShrinking | None = None
    if recipe.phases == "progressive":
        sampler = guide = shrinking = _make_progressive(
            supernet, recipe, steps, teacher is not None
        )
        if teacher is not None:
            guide = _make_guide(recipe, None, teacher)
    else:
        module = load_sampler(recipe.sampler)
        sampler = module.build(supernet, recipe, steps)
        if recipe.sequential:
            sampler = Sequential(sampler)
        guide = _make_guide(recipe, module, teacher)
        if recipe.distill_from:
            labelled = round(recipe.distill_from * steps)
            guide = LabelsFirst(guide, labelled, recipe.label_smoothing)
    return TrainingMethod(
        supernet,
        sampler,
        guide,
        phases=shrinking,
        rows=importance.make_rows(data, recipe, steps) if recipe.rows == "importance" else None,
        penalty=(
            WeightDistribution(supernet, recipe.weight_distribution)
            if recipe.weight_distribution
            else None
        ),
        split=recipe.split,
        micro_batches=recipe.micro_batches,
        precision=recipe.precision,
        regularise=recipe.regularise,
        dropout_seed=recipe.seed,
    )


def _check_steps(supernet: Supernet, recipe: Recipe) -> None:
    """InputError when trained steps are missing, or are there and would not be wanted."""
    wanted = recipe.quantizer != "minmax" and can_learn_steps(supernet.edits)
    has = any(map(is_step, supernet.shared))
    if wanted and not has:
        raise InputError(
            f"quantizer = {recipe.quantizer!r} needs steps; add_learned_steps makes "
            "and calibrates them, or use quantizer = 'minmax'"
        )
    if has and not wanted:
        raise InputError(
            f"the supernet has trained steps, and quantizer = {recipe.quantizer!r} trains none; "
            "use quantizer = 'lsq'"
        )


def _make_progressive(
    supernet: Supernet, recipe: Recipe, steps: int, external: bool
) -> ProgressiveShrinking:
    wanted = {
        "sampler": ("uniform",),
        "distill": ("teacher", "none"),
        "split": (False,),
        "sequential": (False,),
        "distill_from": (0.0,),
    }
    for name, values in wanted.items():
        if getattr(recipe, name) not in values:
            raise InputError(
                f"phases = 'progressive' cannot go with {name} = {getattr(recipe, name)!r}; "
                f"use {' or '.join(map(repr, values))}"
            )
    return ProgressiveShrinking(
        supernet,
        steps,
        seed=recipe.seed,
        distil=recipe.distill == "teacher" and not external,
        divergence=_find_divergence(recipe),
        smoothing=recipe.label_smoothing,
        label_share=recipe.label_share,
        precision=recipe.precision,
    )


def _make_guide(recipe: Recipe, sampler: ModuleType | None, teacher: nn.Module | None) -> Guide:
    smoothing, share = recipe.label_smoothing, recipe.label_share
    if recipe.distill == "none":
        return Labels(smoothing)
    divergence = _find_divergence(recipe)
    if recipe.distill == "teacher":
        if teacher is None:
            raise InputError(
                "distill = 'teacher' needs a teacher: another network, for the command line "
                "--teacher and a finished run"
            )
        return Teacher(teacher, divergence, smoothing=smoothing, label_share=share)
    if not getattr(sampler, "LARGEST_FIRST", False):
        raise InputError(
            f"distill = {recipe.distill!r} needs the largest network in every step, and sampler "
            f"{recipe.sampler!r} does not draw it; use sampler = 'sandwich', or distill = 'none'"
        )
    if recipe.distill == "guidance":
        return Guidance(divergence, smoothing)
    previous = recipe.distill == "previous"
    return InPlace(divergence, smoothing, share, previous)


def _find_divergence(recipe: Recipe) -> Divergence:
    return adaptive_alpha if recipe.divergence == "alpha" else kl_divergence

"""Recipes by name: bases that suit a kind of data, and methods that change some fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from supernet.errors import InputError
from supernet.space import nearest
from supernet.training.recipe import Recipe
from supernet.training.sampler_modules import list_samplers, load_sampler

# One network a step, and steps on matrices made orthogonal: of what was measured beside networks
# trained alone (docs/recipes.md) the only recipe that is as good as they are.
_DIGITS = Recipe(
    steps=2000,
    batch_size=64,
    learning_rate=0.2,
    optimizer="muon",
    weight_decay=1e-4,
    warmup_steps=200,
    label_smoothing=0.05,
    sampler="uniform",
    random_architectures=1,
    distill="none",
    ema_decay=0.99,
    checkpoint_every=400,
)
PRESETS: dict[str, Recipe] = {
    "digits": _DIGITS,
    "clutter": _DIGITS.replace({"steps": 2800, "matrix_rate": 0.2}),
    "image": Recipe(
        epochs=100,
        batch_size=128,
        learning_rate=0.1,
        weight_decay=3e-5,
        warmup_steps=500,
        label_smoothing=0.1,
        ema_decay=0.999,
        clip_norm=5.0,
        checkpoint_every=500,
        log_every=50,
    ),
    "text": Recipe(
        steps=6000,
        batch_size=32,
        learning_rate=0.2,
        optimizer="muon",
        weight_decay=0.05,
        warmup_steps=400,
        sampler="uniform",
        random_architectures=1,
        distill="none",
        ema_decay=0.99,
        clip_norm=1.0,
        checkpoint_every=1000,
    ),
}

_SANDWICH = {"sampler": "sandwich", "random_architectures": 2}
# What each method changes in a base; docs/recipes.md has sources, costs and measurements.
METHODS: dict[str, Mapping[str, Any]] = {
    "sandwich": {**_SANDWICH, "distill": "none"},
    "inplace": {**_SANDWICH, "distill": "inplace"},
    "bignas": {
        **_SANDWICH,
        "distill": "inplace",
        "regularise": "largest",
        "rate_floor": 0.05,
    },
    "alphanet": {
        **_SANDWICH,
        "distill": "inplace",
        "divergence": "alpha",
        "clip_value": 1.0,
    },
    "progressive": {
        "phases": "progressive",
        "sampler": "uniform",
        "random_architectures": 2,
        "distill": "teacher",
        "label_share": 1.0,
    },
    "teacher": {"distill": "teacher", "label_share": 1.0},
    "spos": {"sampler": "uniform", "random_architectures": 1, "distill": "none"},
    "sequential": {**_SANDWICH, "distill": "none", "sequential": True},
    "muon": {"optimizer": "muon"},
    # Where there is no Muon its rate means nothing, and stays out of records.
    "sgd": {"optimizer": "sgd", "matrix_rate": Recipe.matrix_rate},
    "adamw": {
        "optimizer": "adamw",
        "matrix_rate": Recipe.matrix_rate,
        "learning_rate": 5e-3,
        "weight_decay": 0.05,
    },
    "spos_budget": {"sampler": "budget", "random_architectures": 1, "distill": "none"},
    "uniform": {"sampler": "uniform", "random_architectures": 4, "distill": "none"},
    "fairnas": {"sampler": "fair", "distill": "none"},
    "best_up": {
        "sampler": "best_up",
        "random_architectures": 2,
        "candidates": 3,
        "distill": "inplace",
    },
    "worst_up": {
        "sampler": "worst_up",
        "random_architectures": 2,
        "candidates": 3,
        "distill": "inplace",
    },
    "shiftnas": {"sampler": "shift", "random_architectures": 1, "distill": "none"},
    "panda": {
        "sampler": "panda",
        "random_architectures": 1,
        "distill": "none",
        "rows": "importance",
    },
    "eqnet": {
        "sampler": "precision_sandwich",
        "random_architectures": 1,
        "distill": "guidance",
        "weight_distribution": 1.0,
    },
    "matformer": {"sampler": "granularities", "random_architectures": 4, "distill": "none"},
    "multi": {
        "sampler": "uniform",
        "random_architectures": 4,
        "distill": "none",
        "split": True,
    },
}


def find_recipe(name: str, base: str | None = None) -> Recipe:
    """Find the recipe called ``name``.

    Methods that train several architectures in a step take as many fewer steps than a base that
    trains one, so that all train for as many passes, about (a strictly fair step counts as three,
    progressive shrinking as two on average). Epochs of a base, and the steps of a sampler of one's
    own, stay as they are.

    Args:
        name: A base (``"digits"``), a method (``"alphanet"``), or both and more joined by plus
            signs (``"digits+alphanet"``). A sampler, by its name in the folder or the dotted path
            of one's own, takes the place of the one that the methods have.
        base: The base when ``name`` has methods only; the default recipe otherwise.

    Raises:
        InputError: An unknown name (the nearest is in the message), a base that is not the first
            part, or methods that contradict each other.
    """
    first, *rest = name.split("+")
    parts = rest if first in PRESETS else [first, *rest]
    root = first if first in PRESETS else base
    recipe = Recipe() if root is None else PRESETS[root]
    samplers = [part for part in parts if _is_sampler(part)]
    if len(samplers) > 1:
        raise InputError(f"recipe {name!r} has two samplers, {samplers[0]} and {samplers[1]}")
    changes: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for part in (part for part in parts if part not in samplers):
        if part not in METHODS:
            raise InputError(_explain_unknown(part))
        for field, value in METHODS[part].items():
            known = changes.get(field, value)
            if known != value and not _is_taught(field, {known, value}, {part, origin[field]}):
                raise InputError(
                    f"recipe {name!r}: {origin[field]} has {field} = {known!r} and {part} "
                    f"has {field} = {value!r}; choose one of them"
                )
            changes[field] = value if known == value else "teacher"
            origin.setdefault(field, part)
    if samplers:
        changes["sampler"] = samplers[0]
    return _keep_passes(recipe, recipe.replace(changes))


def _keep_passes(base: Recipe, recipe: Recipe) -> Recipe:
    """Give a recipe that trains more networks in a step than its base as many fewer steps."""
    before, now = _count_networks(base), _count_networks(recipe)
    if recipe.epochs is not None or before is None or now is None:
        return recipe
    fewer = {
        name: math.ceil(getattr(base, name) * before / now)
        for name in ("steps", "checkpoint_every")
    }
    return recipe.replace(fewer).replace({"warmup_steps": base.resize(fewer["steps"]).warmup_steps})


def _count_networks(recipe: Recipe) -> int | None:
    """Networks that train in a step on a whole batch each; ``None`` where a sampler does not say.

    Samplers of one's own are not asked: a name alone imports nothing.
    """
    if recipe.split or recipe.sequential:
        return 1
    if recipe.phases == "progressive":
        return recipe.random_architectures
    if "." in recipe.sampler:
        return None
    module = load_sampler(recipe.sampler)
    return module.count(recipe) if hasattr(module, "count") else None


def _is_sampler(part: str) -> bool:
    """Whether a part of a recipe's name is a sampler, and no method of that name."""
    is_path = "." in part and all(word.isidentifier() for word in part.split("."))
    return part not in METHODS and (is_path or part in list_samplers())


def _is_taught(field: str, values: set[Any], parts: set[str]) -> bool:
    """Whether a teacher takes the place of labels, which samplers fall back to."""
    return field == "distill" and values == {"none", "teacher"} and "teacher" in parts


def _explain_unknown(part: str) -> str:
    if part in PRESETS:
        return f"{part!r} is a base; it must be the first part of a recipe's name"
    names = [*PRESETS, *METHODS]
    return (
        f"unknown recipe {part!r}{nearest(part, names)}; bases are {', '.join(PRESETS)}, "
        f"methods {', '.join(METHODS)}; join them as in digits+inplace"
    )

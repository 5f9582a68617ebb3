"""One architecture as a network of its own, trained alone by the same loop as its supernet.

From fresh weights that tells what the architecture is worth; from inherited ones, which is
fine-tuning, it makes more of a network that is to be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from supernet.elastic.edit_index import Values, find_source_path
from supernet.elastic.edits import Quantize, Rule
from supernet.elastic.precision import RANGES, WEIGHTS, name_step
from supernet.elastic.slicing import build_shell
from supernet.errors import InputError
from supernet.quantization.execution import find_execution
from supernet.space import Architecture, SearchSpace
from supernet.supernet import InputSpec, Supernet
from supernet.training.recipe import Recipe

# What a recipe says about several architectures means nothing for one: it learns from labels.
ALONE: Mapping[str, Any] = {
    "sampler": "uniform",
    "random_architectures": 1,
    "candidates": 3,
    "distill": "none",
    "divergence": "kl",
    "label_share": 0.0,
    "distill_from": 0.0,
    "phases": "none",
    "rows": "uniform",
    "split": False,
    "sequential": False,
    "regularise": "all",
    "weight_distribution": 0.0,
}
# Of the supernet's peak rate and of all steps: inherited weights are good already, and a rate as
# high as theirs would first undo some of that (measured in docs/recipes.md, "Fine-tuning").
RATE_SHARE = 0.25
WARMUP_SHARE = 0.1
# The weight of the labels beside the teacher.
LABEL_SHARE = 1.0
# What a recipe says about a teacher, which one architecture alone may have.
TAUGHT = ("divergence", "label_share")


def make_standalone(supernet: Supernet, architecture: Architecture) -> Supernet:
    """Make the network of one architecture a supernet with nothing left to choose.

    Training, checkpoints and evaluation then work as for any supernet; ``space.smallest`` is its
    only architecture. Weights and trained steps are copies. Precision stays, since the stand-alone
    network must live with it in training too; other derived weights (kernel transforms) become
    plain.

    Args:
        supernet: Where the network and its initial weights come from.
        architecture: A member of its space.

    Raises:
        InputError: The architecture belongs to another space.
    """
    supernet.space.check(architecture)
    index, values = supernet.edit_index, Values(architecture)
    # The number formats become rows of its own table.
    plain = replace(index, formats={})
    model = build_shell(supernet.model, supernet.shared, plain, architecture, copied=True).network
    sources = {name: find_source_path(index, values, name) for name, _ in model.named_parameters()}
    rows, steps = _copy_precision(supernet, architecture)
    return Supernet(
        model,
        SearchSpace(()),
        rows,
        units=(),
        inputs=InputSpec(supernet.input_shape(architecture), supernet.inputs.dtype),
        shared=steps,
        no_decay=[
            *(f"model.{n}" for n, s in sources.items() if f"model.{s}" in supernet.no_decay),
            *(f"shared.{name}" for name in steps),
        ],
        upgrade=supernet.upgrade,
    )


def _copy_precision(
    supernet: Supernet, architecture: Architecture
) -> tuple[list[Quantize], dict[str, nn.Parameter]]:
    """The number formats of an architecture as rows without choices, and its trained steps."""
    network = supernet.extract(architecture)
    execution = find_execution(network)
    if execution is None:
        return [], {}
    rows = [
        Quantize(path, Rule((), {(): form}), execution.per_layer)
        for path, form in execution.formats.items()
    ]
    index, values = supernet.edit_index, Values(architecture)
    paths = [path for path, _ in network.named_modules()]
    # Steps are named after layers, which below a picked candidate move up, or after units.
    places = {find_source_path(index, values, path): path for path in paths}
    places |= {path: path for path in paths if path not in places}
    steps = {}
    for prefix, found in ((WEIGHTS, execution.steps), (RANGES, execution.ranges)):
        for name, tensor in found.items():
            key, _, bits = name.rpartition("@")
            layer, slash, rest = key.partition("/")
            if layer in places:
                own = name_step(prefix, f"{places[layer]}{slash}{rest}", int(bits))
                steps[own] = nn.Parameter(tensor.detach().clone())
    return rows, steps


def make_standalone_recipe(recipe: Recipe, changes: Mapping[str, Any], epoch: int) -> Recipe:
    """Make the recipe of a supernet fit one of its networks alone.

    Args:
        recipe: The recipe of the supernet.
        changes: Fields that shall differ, among them ``seed``.
        epoch: Training samples in one pass over the data.

    Returns:
        The same optimisation, with one architecture a step that learns from the labels alone. A
        warm-up keeps its share of the training, and one longer than it is cut to a quarter.

    Raises:
        InputError: An unknown field, or a value out of range.
    """
    fixed = [name for name in ALONE if name in changes]
    if fixed:
        raise InputError(
            f"{fixed[0]} cannot be changed for a stand-alone training: one architecture alone "
            f"always has {fixed[0]} = {ALONE[fixed[0]]!r}"
        )
    alone = recipe.replace({**ALONE, **changes})
    steps = alone.total_steps(epoch)
    if "warmup_steps" in changes:
        return alone
    if steps != recipe.total_steps(epoch):
        alone = alone.replace({"warmup_steps": recipe.resize(steps, epoch).warmup_steps})
    if alone.warmup_steps > steps:
        alone = alone.replace({"warmup_steps": steps // 4})
    return alone


def make_finetuning_recipe(
    recipe: Recipe, changes: Mapping[str, Any], epoch: int, *, taught: bool
) -> Recipe:
    """Make the recipe of a supernet fit one of its networks that trains on from inherited weights.

    Args:
        recipe: The recipe of the supernet.
        changes: Fields that shall differ, among them ``seed``.
        epoch: Training samples in one pass over the data.
        taught: Whether a teacher from outside is listened to (Hinton et al. 2015, "Distilling the
            Knowledge in a Neural Network"), beside the labels; without one these teach alone.

    Returns:
        As :func:`make_standalone_recipe`, at ``RATE_SHARE`` of the peak rate, with a warm-up of
        ``WARMUP_SHARE`` of the training at most.

    Raises:
        InputError: An unknown field, or a value out of range.
    """
    guided = {name: changes[name] for name in TAUGHT if taught and name in changes}
    others = {name: value for name, value in changes.items() if name not in guided}
    slower = recipe.replace({"learning_rate": recipe.learning_rate * RATE_SHARE})
    tuned = make_standalone_recipe(slower, others, epoch)
    if "warmup_steps" not in changes:
        longest = int(WARMUP_SHARE * tuned.total_steps(epoch))
        tuned = tuned.replace({"warmup_steps": min(tuned.warmup_steps, longest)})
    if taught:
        tuned = tuned.replace({"distill": "teacher", "label_share": LABEL_SHARE, **guided})
    return tuned

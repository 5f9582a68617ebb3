"""Architecture and training recipe as one search space (FBNetV3's joint search)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError
from supernet.space import Architecture, Choice, SearchSpace, Value

KIND = "recipe"
PREFIX = "recipe."


def make_joint_space(space: SearchSpace, recipe: Mapping[str, Sequence[Value]]) -> SearchSpace:
    """Make a space in which training hyper-parameters are choices beside an architecture's.

    Predictors, strategies and files then work on both together (Dai et al. 2021, "FBNetV3",
    section 3.1), with interactions: a recipe that suits small networks need not suit large ones.

    Args:
        space: The architectures.
        recipe: Legal values of each hyper-parameter, smallest first; by convention the names of
            fields of :class:`supernet.training.Recipe`. They become choices of kind ``"recipe"``
            called ``recipe.NAME``, after those of the architecture.

    Raises:
        InputError: No hyper-parameter, one without values, or a space that has a recipe already.
    """
    if not recipe:
        raise InputError("a joint space needs at least one hyper-parameter of the recipe")
    for choice in space.choices:
        if choice.kind == KIND or choice.name.startswith(PREFIX):
            raise InputError(f"the space already has a recipe: its choice {choice.name!r}")
    added = [Choice(PREFIX + name, tuple(values), KIND) for name, values in recipe.items()]
    return SearchSpace((*space.choices, *added))


def extract_architecture_space(joint: SearchSpace) -> SearchSpace:
    """Extract the choices of the architecture: equal to the space that was extended."""
    return SearchSpace(tuple(choice for choice in joint.choices if choice.kind != KIND))


def extract_architecture_positions(
    joint: SearchSpace, positions: NDArray[np.integer]
) -> NDArray[np.int16]:
    """Extract the architecture's columns of positions ``(n, len(joint))``."""
    columns = [i for i, choice in enumerate(joint.choices) if choice.kind != KIND]
    result: NDArray[np.int16] = np.asarray(positions, dtype=np.int16)[:, columns]
    return result


def split_member(joint: SearchSpace, member: Architecture) -> tuple[Architecture, dict[str, Value]]:
    """Split a member of a joint space into architecture and recipe.

    Returns:
        A member of :func:`extract_architecture_space`, and hyper-parameters by name, without
        the prefix.

    Raises:
        InputError: The member belongs to another space.
    """
    joint.check(member)
    values = member.to_dict()
    recipe = {choice.name for choice in joint.choices if choice.kind == KIND}
    own = {name: value for name, value in values.items() if name not in recipe}
    chosen = {n.removeprefix(PREFIX): v for n, v in values.items() if n in recipe}
    return extract_architecture_space(joint).architecture(own), chosen


def join_member(
    joint: SearchSpace, architecture: Architecture, recipe: Mapping[str, Value]
) -> Architecture:
    """Join an architecture and a recipe to the member of a joint space that has both.

    Raises:
        InputError: The architecture belongs to another space, or a hyper-parameter is unknown,
            missing or has an illegal value.
    """
    extract_architecture_space(joint).check(architecture)
    named = {PREFIX + name: value for name, value in recipe.items()}
    return joint.architecture({**architecture.to_dict(), **named})

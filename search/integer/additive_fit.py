"""Additive surrogates: a sum over small groups of choices, fitted to evaluated architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from search.arrays.additive import AdditiveTerms
from search.integer.binaries import needed_positions
from supernet.space import SearchSpace

Group = tuple[int, ...]
PENALTIES = 10.0 ** np.arange(-3.0, 4.01, 0.5)
# Joint values are believed less than the values of single choices: they are seen less often.
_JOINT = 0.5
_MOST_COMBINATIONS = 256


@dataclass(frozen=True)
class AdditiveFit:
    """A fitted sum, and how uncertain its terms are.

    Args:
        design: Which weights a row adds up.
        weights: ``(number of features,)``.
        level: Sum of a row without features.
        factor: A matrix ``(number of features, r)``: weights plus ``factor @ z`` for standard
            normal ``z`` is a draw from their posterior.
        error: Root mean squared leave-one-out error.
    """

    design: Design
    weights: NDArray[np.float64]
    level: float
    factor: NDArray[np.float64]
    error: float

    @property
    def terms(self) -> AdditiveTerms:
        """The sum with its most likely weights."""
        return self.design.terms(self.weights, self.level)

    def draw(self, rng: np.random.Generator, scale: float = 1.0) -> AdditiveTerms:
        """The sum with weights drawn from the posterior, deviations times ``scale``."""
        noise = self.factor @ rng.standard_normal(self.factor.shape[1])
        return self.design.terms(self.weights + scale * noise, self.level)


@dataclass(frozen=True)
class Design:
    """One feature for each combination of positions of each group, 1 where it occurs.

    Args:
        space: The space.
        groups: Columns of each group.
        scales: What a feature of each group is worth, the square root of its prior variance.
    """

    space: SearchSpace
    groups: tuple[Group, ...]
    scales: tuple[float, ...]

    def features(self, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Features ``(n, number of features)`` of canonical rows ``(n, len(space))``."""
        shapes = [self._shape(group) for group in self.groups]
        result = np.zeros((len(rows), sum(prod(shape) for shape in shapes)))
        start = 0
        for group, shape, scale in zip(self.groups, shapes, self.scales, strict=True):
            at = np.ravel_multi_index(tuple(np.asarray(rows)[:, i] for i in group), shape)
            result[np.arange(len(rows)), start + at] = scale
            start += prod(shape)
        return result

    def terms(self, weights: NDArray[np.float64], level: float) -> AdditiveTerms:
        """The sum that these weights make."""
        tables = []
        start = 0
        for group, scale in zip(self.groups, self.scales, strict=True):
            shape = self._shape(group)
            tables.append(weights[start : start + prod(shape)].reshape(shape) * scale)
            start += prod(shape)
        return AdditiveTerms(self.groups, tuple(tables), level)

    def _shape(self, group: Group) -> tuple[int, ...]:
        return tuple(int(self.space.cardinalities[i]) for i in group)


def design(space: SearchSpace, known: Sequence[AdditiveTerms] = ()) -> Design:
    """Groups that decide a quantity together: single choices, parts of the network, known groups.

    A single choice is taken with the one it needs, so that an inert choice is not mistaken for one
    at its first value. A part is what choice names have in common up to the last dot.

    Args:
        space: The space.
        known: Sums of other quantities over the same units.
    """
    single = [_with_needs(space, (i,)) for i in range(len(space))]
    joint: list[Group] = [_with_needs(space, group) for terms in known for group in terms.groups]
    if not joint:
        parts: dict[str, list[int]] = {}
        for i, name in enumerate(space.names):
            parts.setdefault(name.rpartition(".")[0] or name, []).append(i)
        joint = [_with_needs(space, tuple(part)) for part in parts.values()]
    few = [g for g in joint if prod(int(space.cardinalities[i]) for i in g) <= _MOST_COMBINATIONS]
    groups = list(dict.fromkeys(single + few))
    return Design(
        space, tuple(groups), tuple(1.0 if group in single else _JOINT for group in groups)
    )


def fit_additive(
    shape: Design, rows: NDArray[np.integer], values: NDArray[np.floating]
) -> AdditiveFit:
    """Ridge regression with the penalty of least leave-one-out error, in closed form.

    Args:
        shape: The groups.
        rows: Canonical rows ``(n, len(space))``.
        values: Finite values ``(n,)``, at least two.
    """
    features = shape.features(rows)
    targets = np.asarray(values, dtype=np.float64)
    centre, level = features.mean(0), float(targets.mean())
    left, singular, right = np.linalg.svd(features - centre, full_matrices=False)
    keep = singular > 1e-9 * max(float(singular[0]), 1e-300)
    left, singular, right = left[:, keep], singular[keep], right[keep]
    residual = targets - level
    projected = left.T @ residual
    errors = []
    for penalty in PENALTIES:
        shrink = singular**2 / (singular**2 + penalty)
        leverage = np.minimum(1 / len(targets) + (left**2) @ shrink, 1 - 1e-9)
        errors.append(
            float((((residual - left @ (shrink * projected)) / (1 - leverage)) ** 2).mean())
        )
    best = int(np.argmin(errors))
    penalty, error = float(PENALTIES[best]), float(np.sqrt(errors[best]))
    weights = right.T @ (singular / (singular**2 + penalty) * projected)
    factor = right.T * (error / np.sqrt(singular**2 + penalty))
    return AdditiveFit(shape, weights, level - float(centre @ weights), factor, error)


def _with_needs(space: SearchSpace, group: Group) -> Group:
    """The group, ascending, and the choices that decide whether its members matter."""
    members = set(group)
    for i in group:
        needed = needed_positions(space, i)
        if needed is not None:
            members.add(needed[0])
    return tuple(sorted(members))

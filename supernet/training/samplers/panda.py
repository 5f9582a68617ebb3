"""Path importance sampling: operations with larger gradients are trained more often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernet.elastic.edits import Pick
from supernet.errors import InputError
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training.method import Score
from supernet.training.recipe import Recipe
from supernet.training.samplers._order import list_distinct

SUMMARY = "Random architectures, operations with larger gradients more often (PA&DA)"
LARGEST_FIRST = False

# Share of an even draw that every option keeps: one without weights has no gradient at all.
FLOOR = 0.1
# How often probabilities change in the course of a training.
PERIODS = 100


class Panda:
    """Random architectures whose operations are drawn by the norm of their gradients.

    A path with larger gradients adds more to the variance of an even draw; the best distribution
    is proportional to the norm (PA&DA, section 3.2). Each option of an operation choice keeps a
    running norm of the gradient of the weights that it alone has: at the end of a period the mean
    of the old one and the period's. An option is drawn with probability
    ``tau * norm / sum of norms + (1 - tau) / m``, ``tau`` rising from 0 to 1 over the training,
    and at least ``0.1 / m``. The loss is not re-weighted, as in the paper, so training emphasises
    what has large gradients; an operation without weights, such as a skip, becomes rare.

    An operation choice is one that picks a child of its own for each of its options. Other choices
    cut weights that their options share, whose gradient says nothing about one option; they are
    drawn evenly. With several architectures in a step, an option's gradient is that of the step.

    Args:
        supernet: The supernet whose space, table and gradients count.
        steps: Steps of the whole training.
        seed: Seed of the architectures that are drawn.
        count: Architectures per step; 1 in the paper.
        period: Steps between two changes of the probabilities; an epoch in the paper.

    Raises:
        InputError: No choice of the space is an operation choice.
    """

    def __init__(
        self, supernet: Supernet, steps: int, seed: int = 0, count: int = 1, period: int = 1
    ) -> None:
        self.space, self.steps = supernet.space, steps
        self.seed, self.count, self.period = seed, count, period
        self.owned = find_owned_parameters(supernet)
        shape = (len(self.space), int(self.space.cardinalities.max()))
        # Negative: not measured yet.
        self.norms = np.full(shape, -1.0)
        self.sums = np.zeros(shape)
        self.times = np.zeros(shape)
        self.probabilities = self._mix(0.0)

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """A function of seed, step and the gradients so far; fewer when one is drawn twice."""
        rng = np.random.default_rng([self.seed, step])
        draws = rng.random((self.count, len(self.space), 1))
        positions = (draws >= np.cumsum(self.probabilities, axis=1)).sum(axis=2)
        positions = np.minimum(positions, self.space.cardinalities - 1)
        return list_distinct(self.space, self.space.canonical(positions))

    def learn(self, step: int, losses: Mapping[Architecture, float]) -> None:
        """Take in the gradients of a step."""
        positions = self.space.encode([*losses])
        active = self.space.active(positions)
        seen = [
            (column, option)
            for column in self.owned
            for option in np.unique(positions[active[:, column], column]).tolist()
        ]
        if seen:
            norms = torch.stack([_measure_norm(self.owned[c][o]) for c, o in seen])
            rows, options = np.array(seen).T
            self.sums[rows, options] += norms.double().cpu().numpy()
            self.times[rows, options] += 1
        if (step + 1) % self.period == 0:
            self._end_period(min(1.0, (step + 1) / self.steps))

    def state_dict(self) -> dict[str, Tensor]:
        """Norms and probabilities, each ``(len(space), most options)``."""
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where :meth:`state_dict` was called."""
        for name in _STATE:
            setattr(self, name, state[name].cpu().numpy().copy())

    def _end_period(self, tau: float) -> None:
        """End a period."""
        new = self.sums / np.maximum(self.times, 1)
        merged = np.where(self.norms < 0, new, (self.norms + new) / 2)
        self.norms = np.where(self.times > 0, merged, self.norms)
        self.sums, self.times = np.zeros_like(self.sums), np.zeros_like(self.times)
        self.probabilities = self._mix(tau)

    def _mix(self, tau: float) -> NDArray[np.float64]:
        result = np.zeros(self.norms.shape)
        for column, options in enumerate(self.space.cardinalities.tolist()):
            even = np.full(options, 1 / options)
            norms = self.norms[column, :options]
            # What was never drawn counts as much as the largest, so that it will be.
            norms = np.where(norms < 0, norms.max(), norms)
            total = norms.sum()
            if column in self.owned and total > 0:
                by_norm = tau * norms / total + (1 - tau) * even
                result[column, :options] = FLOOR * even + (1 - FLOOR) * by_norm
            else:
                result[column, :options] = even
        return result


_STATE = ("norms", "sums", "times", "probabilities")


def find_owned_parameters(supernet: Supernet) -> dict[int, list[list[nn.Parameter]]]:
    """Find the parameters each option of each operation choice alone has, by column.

    Raises:
        InputError: There are no operation choices.
    """
    space = supernet.space
    owned: dict[int, list[list[nn.Parameter]]] = {}
    for row in supernet.edits:
        if not isinstance(row, Pick) or len(row.child.choices) != 1:
            continue
        column = space.index(row.child.choices[0])
        children = [row.child.values[(value,)] for value in space.choices[column].values]
        if len(set(children)) < len(children):
            continue
        slot = supernet.model.get_submodule(row.slot)
        lists = owned.setdefault(column, [[] for _ in children])
        for parameters, child in zip(lists, children, strict=True):
            parameters.extend(slot.get_submodule(child).parameters())
    if not any(any(lists) for lists in owned.values()):
        raise InputError(
            "sampler = 'panda' compares the gradients of operations with weights of their own, and "
            "the choices of this space cut weights that their options share; use sampler = 'shift'"
        )
    return owned


def _measure_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    gradients = [p.grad.detach().float() for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    return torch.stack(torch._foreach_norm(gradients)).norm().cpu()


def build(supernet: Supernet, recipe: Recipe, steps: int) -> Panda:
    """Build the sampler of a recipe; InputError when the space has no operation choices."""
    period = max(1, steps // (recipe.epochs or PERIODS))
    count = max(1, recipe.random_architectures)
    return Panda(supernet, steps, recipe.seed, count, period)


def count(recipe: Recipe) -> int:
    """Count the architectures of a step."""
    return recipe.random_architectures

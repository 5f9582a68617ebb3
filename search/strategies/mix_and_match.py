"""MatFormer's Mix'n'Match: per-layer granularities from two adjacent levels, growing with depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.arrays.neighbourhood import unique_rows
from search.engines.rounds import keep_batch
from search.engines.surrogates import fill_round, front_neighbours
from search.history import History
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy, predict_nothing
from supernet.errors import InputError
from supernet.space import SearchSpace

SUMMARY = "two adjacent sizes per network, the smaller in the first layers (Devvrit et al. 2023)"
Rows = NDArray[np.int16]
# Kinds that are sizes of layers, in the order in which they are looked for.
GRANULARITIES = ("ffn", "expand", "width", "heads", "kernel")


@dataclass(frozen=True)
class MixAndMatch:
    """Mix'n'Match of MatFormer (Devvrit et al. 2023, arXiv 2310.07707, section 3.3).

    The published rule makes one network for each budget: sizes that do not decrease with depth and
    change as little as possible, so two adjacent levels with the smaller one first. All such
    networks, at stated settings of the other choices, are evaluated, coarsely spread ones first;
    then what is one change away from the front found.

    Args:
        kind: Kind of the choices that are mixed; by default the first of ``ffn``, ``expand``,
            ``width``, ``heads`` and ``kernel`` that two layers have.
        others: Relative levels (0 to 1) at which all other choices stand together; ``(1.0,)`` is
            the published setting, all at their largest.
        batch: Evaluations of a round.
    """

    has_first_sample = False
    batch_size = keep_batch
    models = predict_nothing

    kind: str | None = None
    others: Sequence[float] = (1.0, 0.5, 0.0)
    batch: int = 25

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history.

        Raises:
            InputError: The space has no per-layer choices of one size.
        """
        planned = problem.project(self.plan(problem.space))
        rows = history.new(planned[problem.admits(planned)])[:count]
        if len(rows) < count and not history.failed.all():
            rows = np.concatenate((rows, front_neighbours(problem, history, rng)))
        return fill_round(problem, history, rows, count, rng)

    def plan(self, space: SearchSpace) -> Rows:
        """Every network of the rule, any first few of them spread over all sizes.

        Raises:
            InputError: The space has no per-layer choices of one size.
        """
        columns = layer_columns(space, self.kind)
        parts = [schedule(space, columns, level) for level in self.others]
        # The same place in the spread order of each setting, before the next place.
        orders = [part[_spread(len(part))] for part in parts]
        longest = max(len(part) for part in orders)
        return unique_rows(
            np.stack([part[i] for i in range(longest) for part in orders if i < len(part)])
        )


def layer_columns(space: SearchSpace, kind: str | None = None) -> tuple[int, ...]:
    """Columns of the per-layer choices of one kind, in network order.

    Raises:
        InputError: There are not two choices with two values or more of that kind, or of any kind
            that is a size of layers.
    """
    for name in GRANULARITIES if kind is None else (kind,):
        columns = tuple(
            i for i, c in enumerate(space.choices) if c.kind == name and len(c.values) > 1
        )
        if len(columns) >= 2:
            return columns
    wanted = " or ".join(GRANULARITIES) if kind is None else kind
    has = ", ".join(sorted({choice.kind for choice in space.choices}))
    raise InputError(
        f"mix_and_match needs two or more layers with a choice of kind {wanted}; the space has "
        f"kinds {has}"
    )


def schedule(space: SearchSpace, columns: Sequence[int], others: float) -> Rows:
    """Networks of the rule from the smallest to the largest, one layer's step apart.

    Args:
        space: The space.
        columns: Choices that are mixed, in network order.
        others: Relative level (0 to 1) of all other choices.

    Returns:
        Canonical rows ``(layers * (levels - 1) + 1, len(space))``, where layers are those that are
        active at that setting.
    """
    base = np.rint(others * (space.cardinalities - 1)).astype(np.int16)
    active = space.active(base[None])[0]
    layers = [i for i in columns if active[i]]
    levels = int(space.cardinalities[layers].max()) if layers else 1
    rows = []
    for level in range(levels - 1):
        for raised in range(len(layers)):
            rows.append(_mixed(space, base, layers, level, raised))
    rows.append(_mixed(space, base, layers, levels - 1, 0))
    return unique_rows(space.canonical(np.stack(rows)))


def match(
    problem: SearchProblem, name: str, budget: float, *, kind: str | None = None, others: float = 1
) -> NDArray[np.int16]:
    """The network of the rule whose quantity ``name`` is as large as a budget allows.

    Args:
        problem: The problem.
        name: A cheap quantity that grows with the network.
        budget: What it may be at most, in its unit.
        kind: Kind of the choices that are mixed.
        others: Relative level (0 to 1) of all other choices.

    Returns:
        A canonical row ``(len(space),)``; the smallest network of the rule where none fits.
    """
    rows = schedule(problem.space, layer_columns(problem.space, kind), others)
    cost = problem.quantities[problem.column(name)].evaluate(rows)
    fitting = np.flatnonzero(cost <= budget)
    at = fitting[np.argmax(cost[fitting])] if len(fitting) else np.argmin(cost)
    return np.asarray(rows[at], dtype=np.int16)


def _mixed(
    space: SearchSpace, base: Rows, layers: Sequence[int], level: int, raised: int
) -> NDArray[np.int16]:
    """``base`` with all layers at ``level`` and the last ``raised`` of them one above."""
    row = base.copy()
    for place, column in enumerate(layers):
        wanted = level + (place >= len(layers) - raised)
        row[column] = min(wanted, int(space.cardinalities[column]) - 1)
    return row


def _spread(length: int) -> NDArray[np.intp]:
    """An order of ``0 .. length - 1`` whose first few members are far apart, ends first."""
    order = [0, length - 1]
    pieces = 1
    while len(set(order)) < length:
        pieces *= 2
        order += np.rint(np.linspace(0, length - 1, pieces + 1)).astype(int).tolist()
    return np.array(list(dict.fromkeys(order)), dtype=np.intp)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return MixAndMatch()

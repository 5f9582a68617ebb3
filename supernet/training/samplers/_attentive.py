"""Architectures chosen by how good they are among others of the same cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.costs.mac_bins import MacBins, cut_into_mac_bins
from supernet.space import Architecture, Positions
from supernet.supernet import Supernet
from supernet.training.method import Score
from supernet.training.recipe import Recipe
from supernet.training.samplers._order import add_ends

Predict = Callable[[Positions], NDArray[np.floating]]


@dataclass(frozen=True)
class Attentive:
    """The largest, the smallest and ``random`` others, each the best or worst of its cost.

    A cost is drawn as often as the space has it, then ``candidates`` architectures of that cost;
    the best of them trains, which lifts the Pareto front (best-up), or the worst, which lifts what
    lags behind (worst-up) (AttentiveNAS, section 3).

    Args:
        bins: Costs, how often the space has them, and how to draw architectures of a cost.
        seed: Seed of the costs and candidates that are drawn.
        random: Architectures besides the two ends.
        candidates: Architectures that are compared for each; 3 with losses and 50 with a
            predictor in the paper.
        best: Train the best of them; else the worst.
        predict: Gives the quality, higher is better, of positions ``(n, len(space))`` as
            ``(n,)``, such as a fitted predictor's. By default the loss on the step's batch
            decides, at the price of ``candidates`` forward passes each.
        smallest_last: See :class:`Sandwich`.
    """

    bins: MacBins
    seed: int = 0
    random: int = 2
    candidates: int = 3
    best: bool = True
    predict: Predict | None = None
    smallest_last: bool = False

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """A function of seed, step and what ``score`` or the predictor says."""
        space = self.bins.space
        rng = np.random.default_rng([self.seed, step])
        targets = rng.choice(len(self.bins), size=self.random, p=self.bins.prior)
        groups = [self.bins.draw(rng, int(target), self.candidates) for target in targets]
        if not groups:
            return add_ends(space, (), self.smallest_last)
        positions = np.concatenate(groups)
        members = space.decode(positions)
        quality = self._measure_quality(positions, members, score)
        chosen, start = [], 0
        for group in groups:
            part = quality[start : start + len(group)]
            chosen.append(members[start + int(part.argmax() if self.best else part.argmin())])
            start += len(group)
        return add_ends(space, chosen, self.smallest_last)

    def _measure_quality(
        self, positions: Positions, members: list[Architecture], score: Score
    ) -> NDArray[np.float64]:
        if self.predict is not None:
            return np.asarray(self.predict(positions), dtype=np.float64).reshape(len(positions))
        distinct = list(dict.fromkeys(members))
        known = dict(zip(distinct, score(distinct), strict=True))
        return -np.array([known[member] for member in members])


def make_attentive(supernet: Supernet, recipe: Recipe, *, best: bool) -> Attentive:
    """Make the sampler of a recipe; InputError when all architectures cost the same."""
    return Attentive(
        cut_into_mac_bins(supernet.cost_model(), bins=20, seed=recipe.seed),
        recipe.seed,
        recipe.random_architectures,
        recipe.candidates,
        best=best,
        smallest_last=recipe.distill == "previous",
    )
